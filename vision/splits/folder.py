"""Pictures to ``data/{train,dev,test}/<genre>/``, with everything of a track in one split."""

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from render import atomic
from render.cli import plural
from render.errors import MelvisionError, ParameterError
from render.formats import PICTURE_ENDINGS
from render.tracks import list_root
from vision.data.folder_lock import locked
from vision.data.genres import similar_genres
from vision.data.validate import one_of, read_json
from vision.data.validate import read_rows as read_csv_rows
from vision.splits.assign import SPLITS, Row, assign_splits, compare_names, removal, straddling_groups
from vision.splits.groups import artist_folders, connected_components, folder_groups, merge_groups, two_genres
from vision.splits.keys import is_copy, picture_key, possible_pieces
from vision.splits.leaks import find_splits

#: Seconds to wait for another process: of several trainings that begin at once, each looks for new pictures.
WAIT = 60.0

#: Files of a data folder: the assignments, and how they were made.
SPLIT_CSV, SPLIT_JSON = "split.csv", "split.json"

DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "ratios": [80, 10, 10],
    "lists": {},
    "groups": {},
    "pieces": False,
    "folders": False,
}

EXPECTED_RATIOS = "three numbers above 0 such as 80/10/10; only test may be 0"

#: What to do about a damaged file of a data folder.
TODO = "restore it, or split into another data folder"


@dataclass
class SplitFile:
    """``split.json``; see `read_settings`. Those of earlier versions have neither `pieces` nor `folders`."""

    images: str
    seed: int
    ratios: list[int | float]
    lists: dict[Annotated[str, one_of(*SPLITS)], dict[str, bool]]
    groups: dict[str, str]
    pieces: bool = False
    folders: bool = False


@dataclass
class SplitResult:
    """What `split_folder` did.

    Attributes
    ----------
    rows : list of Row
        One a picture.
    problems : list of str
        Pictures that cannot be read, and pictures that were taken out of their split.
    notes : list of str
        What else the user should know.
    new : list of Row
        Those of `rows` that were not there before.
    """

    rows: list[Row]
    problems: list[str]
    notes: list[str]
    new: list[Row]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of pictures by genre, and in it by split and ``"left out"``."""
        counter = Counter((row.genre, "left out" if row.left_out else row.split) for row in self.rows)
        columns = [*SPLITS, "left out"]
        return {genre: {name: counter[genre, name] for name in columns} for genre in sorted({g for g, _ in counter})}

    def tracks(self) -> dict[str, int]:
        """Return the number of tracks in each split: pieces of one track, copies and equal pictures count once."""
        used = [row for row in self.rows if not row.left_out]
        numbers = connected_components(
            [(row.genre, row.track) for row in used], [(row.genre, row.pixels or row.file) for row in used]
        )
        of_split = [(row.split, number) for row, number in zip(used, numbers, strict=True)]
        return {split: len({number for name, number in of_split if name == split}) for split in SPLITS}

    def missing(self) -> list[str]:
        """Return a line for each of dev and test that has no picture of some genres."""
        sizes = {split: {row.genre for row in self.rows if row.split == split and not row.left_out} for split in SPLITS}
        genres = sorted({row.genre for row in self.rows})
        absent = {split: [genre for genre in genres if genre not in sizes[split]] for split in SPLITS if sizes[split]}
        return [
            f"{split} holds no picture of {', '.join(names)}: too few tracks or groups of it to share out"
            for split, names in absent.items()
            if names and split != "train"
        ]


def read_rows(data: str | Path) -> list[Row]:
    """Read ``split.csv`` of a data folder.

    Parameters
    ----------
    data : str or Path
        Data folder.

    Returns
    -------
    rows : list of Row
        Empty where there is no such file.

    Raises
    ------
    MelvisionError
        When the file is damaged.
    """
    path = Path(data) / SPLIT_CSV
    if not path.exists():
        return []
    lines: dict[str, Row] = {}
    rows = read_csv_rows(path, Row, TODO, [one.name for one in fields(Row)])
    for number, row in enumerate(rows, 2):
        parts = Path(row.file).parts
        if lines.setdefault(row.file, row) is not row:
            wrong = f"two rows for {row.file}: {lines[row.file].split or 'none'}, {row.split or 'none'}"
        elif parts[:1] != (row.genre,) or len(parts) < 2 or ".." in parts or "\0" in row.file:
            wrong = f"file: found {row.file!r} under the genre {row.genre!r}; expected a path below that folder"
        elif not row.track:
            wrong = "track: found ''; expected its name"
        else:
            continue
        raise MelvisionError(f"{path}, line {number}: {wrong}; {TODO}")
    return rows


def read_settings(data: str | Path) -> dict[str, Any]:
    """Read ``split.json`` of a data folder: how it was split.

    Parameters
    ----------
    data : str or Path
        Data folder.

    Returns
    -------
    settings : dict
        ``images``, the pictures folder relative to `data`, and `split_folder`'s ``seed``, ``ratios``, ``lists``,
        ``groups``, ``pieces`` and ``folders``.

    Raises
    ------
    MelvisionError
        When the file is missing or damaged.
    """
    path = Path(data) / SPLIT_JSON
    settings = asdict(read_json(path, SplitFile, TODO))
    try:
        _check_ratios(settings["ratios"])
    except ParameterError as error:
        raise MelvisionError(f"{path}: ratios: found {error.value}; expected {error.expected}; {TODO}") from None
    return settings


def split_folder(
    images: str | Path,
    data: str | Path,
    *,
    seed: int | None = None,
    ratios: Sequence[float] | None = None,
    lists: Mapping[str, Mapping[str, bool]] | None = None,
    groups: Mapping[str, str] | None = None,
    pieces: bool | None = None,
    folders: bool | None = None,
) -> SplitResult:
    """Split a pictures folder, or bring an earlier split of it up to date.

    Assignments in ``split.csv`` never change; new pictures join the splits that are short of their genre. See
    `vision.splits.assign` for how splits are assigned. Arguments that are left out keep the value with which `data` was
    made; a new folder gets seed 0, ratios 80/10/10, no lists and no groups, and numbers
    at the end of names are those of tracks.

    Parameters
    ----------
    images : str or Path
        Pictures folder: one folder a genre.
    data : str or Path
        Data folder to fill.
    seed : int, optional
        Seed of the random order.
    ratios : sequence of 3 float, optional
        Parts of train, dev and test, of any sum; only test may be 0.
    lists : dict, optional
        For some of ``"train"``, ``"dev"`` and ``"test"``, what `groups.read_list` returned: a published split.
    groups : dict, optional
        What `groups.read_groups` returned: tracks that must stay together, say by artist.
    pieces : bool, optional
        Whether names that differ in a number at their end only, such as ``song_0`` and ``song_1``, are pieces of one
        track.
    folders : bool, optional
        Whether the first folders inside the genres are artists, of whom each must be in one split.

    Returns
    -------
    result : SplitResult

    Raises
    ------
    MelvisionError
        When there is too little to split, or `data` holds a split that was made in another way.
    """
    how = {"seed": seed, "ratios": ratios, "lists": lists, "groups": groups, "pieces": pieces, "folders": folders}
    if ratios is not None:
        _check_ratios(ratios)
        how["ratios"] = list(ratios)
    with locked(data, "splitting", wait=WAIT):
        return _split(Path(images), Path(data), {name: value for name, value in how.items() if value is not None})


def _split(images: Path, data: Path, given: dict[str, Any]) -> SplitResult:
    """As `split_folder`, with the arguments that were given, in a folder that no other process writes into."""
    before = {row.file: row for row in read_rows(data)}
    saved = read_settings(data) if before else {}
    settings = {"images": os.path.relpath(images.resolve(), data.resolve())} | DEFAULTS | saved | given
    if before:
        _check_unchanged(images, data, saved, settings)
    _check_folders(images, data, new=not before)
    rows, problems, notes = _scan(images, before)
    _set_tracks(rows, before, pieces=settings["pieces"])
    if not settings["pieces"]:
        notes += possible_pieces(images, [(row.genre, row.file) for row in rows])
    present = {row.file for row in rows}
    removed = [row for row in before.values() if row.file not in present]
    _check_counts(images, rows + removed, by_list=bool(settings["lists"]))
    for row in rows:
        if row.file in before:
            row.split = before[row.file].split
    total = sum(settings["ratios"])
    shares = {split: part / total for split, part in zip(SPLITS, settings["ratios"], strict=True)}
    groups = settings["groups"]
    if settings["folders"]:
        groups = merge_groups([groups, folder_groups((row.genre, row.file, row.track) for row in rows + removed)])
    elif not before or len(before) < len(rows):
        notes += artist_folders(images, [(row.genre, row.file) for row in rows])
    assign_splits(rows, removed, lists=settings["lists"], groups=groups, ratios=shares, seed=settings["seed"])
    assert not straddling_groups(rows + removed), straddling_groups(rows + removed)
    notes += compare_names(rows, settings["lists"], settings["groups"])
    notes += two_genres(images, [(row.genre, row.file, row.pixels) for row in rows])
    problems += [line for row in rows + removed if (line := removal(row))]
    notes += _write(images, data, rows, removed, settings)
    return SplitResult(rows, problems, notes, [row for row in rows if row.file not in before])


def _set_tracks(rows, before, *, pieces):
    """Fill in the track of every row.

    Pictures of an earlier split keep the track that they had, so that none moves or is left out because keys have
    become better; new ones join the track of such a picture, that in the most protected split. Where the user says
    that names are of pieces, that holds for all.
    """
    tracks = {}
    for row in sorted(before.values(), key=lambda row: SPLITS.index(row.split) if row.split else -1):
        tracks[row.genre, picture_key(row.genre, row.file)] = row.track
    for row in rows:
        key = picture_key(row.genre, row.file, pieces=pieces)
        if pieces:
            row.track = key
        else:
            row.track = before[row.file].track if row.file in before else tracks.get((row.genre, key), key)


def named_pieces(data: str | Path | None) -> bool:
    """Return whether a data folder was split with ``--pieces``: numbers at the end of names are those of pieces."""
    try:
        return bool(data) and read_settings(str(data))["pieces"]
    except MelvisionError:  # split by hand
        return False


def split_groups(data: str | Path) -> dict[str, str]:
    """The groups that a data folder was split by, as `read_groups` gives them; none where it was split by hand."""
    try:
        settings = read_settings(data)
    except MelvisionError:
        return {}
    if not settings["folders"]:
        return settings["groups"]
    folders = folder_groups((row.genre, row.file, row.track) for row in read_rows(data))
    return merge_groups([settings["groups"], folders])


def _check_ratios(ratios):
    if len(ratios) != 3 or not (ratios[0] > 0 and ratios[1] > 0 and ratios[2] >= 0 and sum(ratios) < float("inf")):
        raise ParameterError("ratios", ratios, EXPECTED_RATIOS)


def _check_unchanged(images, data, saved, settings):
    for name in ("images", "seed", "ratios", "lists"):
        if saved[name] != settings[name] or (name == "images" and (data / saved[name]).resolve() != images.resolve()):
            earlier = "other lists" if name == "lists" else f"{name} {saved[name]}"
            raise MelvisionError(
                f"{data}: was split with {earlier}, and assignments never change; choose another data folder"
            )


def _check_folders(images, data, *, new):
    if {"train", "dev"} <= set(find_splits(images)) or {"train", "test"} <= set(find_splits(images)):
        raise MelvisionError(
            f"{images}: is split already; train on it, or look for leaks in it: python -m vision.split {images} --check"
        )
    if new and data.is_dir() and find_splits(data):
        raise MelvisionError(f"{data}: holds folders that were split by hand; choose another data folder")


def _check_counts(images, rows, *, by_list):
    # Pieces of one track count once. Pictures that were removed from the folder are still in `data`.
    tracks = {(row.genre, row.track) for row in rows if not is_copy(row.file)}
    counts = Counter(genre for genre, _ in tracks)
    if len(counts) < 2:
        names = ", ".join(counts) or "none"
        inside = {row.file.split("/")[1] for row in rows if row.file.count("/") > 1}
        hint = f". Did you mean {images / names}? It holds {len(inside)} folders" if len(inside) > 1 else ""
        raise MelvisionError(f"{images}: {len(counts)} genre only ({names}); expected at least two{hint}")
    few = [f"{genre} ({n})" for genre, n in counts.items() if n < 3]
    if few and not by_list:
        raise MelvisionError(
            f"{images}: fewer than three tracks in {', '.join(few)}; add tracks or remove the genre folder"
        )


def _scan(images, before):
    """Make a row for every picture that can be read; returns (rows, problems, notes).

    Pixels are hashed only where `before`, rows by file, has no hash of the same file.
    """
    from vision.data.dataset import SpectrogramFolder
    from vision.data.survey import hash_pictures

    folder = SpectrogramFolder(images)
    rows, to_hash = [], []
    problems = folder.passed.failures()
    notes = [f"{Path(images) / genre}: no picture in this genre folder" for genre in folder.empty]
    stray = [path for path in list_root(images)[1] if path.suffix.lower() in PICTURE_ENDINGS]
    notes += [f"{path}: lies outside a genre folder; skipped" for path in stray]
    notes += folder.passed.notes(images) + similar_genres(images, folder.classes)
    for path, label in folder.samples:
        file = Path(path).relative_to(images).as_posix()
        try:
            status = os.stat(path)
        except OSError as error:  # a link to what is not there, or deleted since it was listed
            problems.append(f"{path}: cannot be read ({error.strerror})")
            continue
        row = Row(file, folder.classes[label], "")
        row.size, row.mtime_ns, row.inode = status.st_size, status.st_mtime_ns, status.st_ino
        old = before.get(file)
        if old and (old.size, old.mtime_ns, old.inode) == (row.size, row.mtime_ns, row.inode):
            row.pixels = old.pixels
        else:
            to_hash.append((path, row))
        rows.append(row)

    hashes = hash_pictures([path for path, _ in to_hash])
    for (_, row), (pixels, problem) in zip(to_hash, hashes, strict=True):
        row.pixels = pixels
        problems += [problem] if problem else []
    return [row for row in rows if row.pixels], problems, notes


def _link(images, data, row):
    """Put the picture of `row` into its folder, where it is not there yet."""
    source, target = Path(images) / row.file, Path(data) / row.split / row.file
    if target.exists():
        target_status, source_status = target.stat(), source.stat()
        if os.path.samestat(target_status, source_status):
            return
        # On one device, a target that is no link to the source means that the source was replaced. A copy on another
        # device is recognised by its size and time.
        if target_status.st_dev != source_status.st_dev and (target_status.st_size, target_status.st_mtime_ns) == (
            source_status.st_size, source_status.st_mtime_ns
        ):  # fmt: skip
            return
    link_or_copy(source, target)


def link_or_copy(source: Path, target: Path) -> None:
    """Put a file at another place, whole or not at all: a hard link, or a copy where links are impossible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / f"{atomic.PREFIX}{os.getpid()}.part"
    part.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), part)
    except OSError:
        shutil.copy2(source, part)
    os.replace(part, target)


def _write(images, data, rows, removed, settings):
    """Write the CSV before the links, so that no assignment is lost when the process ends early; returns notes."""
    notes = _clear_removed(images, data, rows, removed)
    atomic.write_json(data / SPLIT_JSON, settings)
    table = [astuple(row) for row in rows + removed]
    atomic.write_csv(data / SPLIT_CSV, [field.name for field in fields(Row)], table)
    for row in rows:
        for split in SPLITS:
            if row.left_out or split != row.split:
                (data / split / row.file).unlink(missing_ok=True)
        if not row.left_out:
            _link(images, data, row)
    # A genre that was renamed or emptied must not stay behind as a class without pictures.
    for split in SPLITS:
        for folder, _, _ in sorted(os.walk(data / split), reverse=True):
            if Path(folder) != data / split and not os.listdir(folder):
                os.rmdir(folder)
    return notes


def _clear_removed(images, data, rows, removed):
    """Take pictures that are no longer in the pictures folder out of `data` where they must not stay; returns notes."""
    notes, kept = [], []
    hashes = {row.pixels for row in rows}
    for row in removed:
        target = data / row.split / row.file
        if row.split and row.pixels in hashes:
            target.unlink(missing_ok=True)  # the same picture is there under another name
        elif row.left_out and target.exists():
            aside = data / "left_out" / row.file  # not deleted: this may be the only copy
            aside.parent.mkdir(parents=True, exist_ok=True)
            os.replace(target, aside)
            notes.append(f"{row.file}: no longer in {images}; its copy was moved to {aside}")
        elif row.split and target.exists():
            kept.append(row)
    if kept:
        examples = ", ".join(row.file for row in kept[:3])
        notes.append(
            f"{plural(len(kept), 'picture is', 'pictures are')} no longer in {images} but still used from {data}: "
            f"{examples}; delete them there too to drop them"
        )
    return notes
