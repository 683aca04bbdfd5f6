"""Genres from a table in place of folders: a row a track, with its file and its label."""

import argparse
import csv
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from render import atomic
from render.cli import plural
from render.errors import MelvisionError
from render.formats import AUDIO_ENDINGS, PICTURE_ENDINGS
from render.passed_over import PassedOver
from render.tracks import Track, walk

#: Names of columns that are taken where none is named, in this order.
PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "track", "track_id", "id")
LABEL_COLUMNS = ("label", "genre", "category", "class", "genre_top", "class_name", "species", "target")

#: Bytes of a table, at most.
LARGEST = 1 << 30

#: Characters that the name of a folder cannot hold on one system or another.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]+')


@dataclass(frozen=True)
class LabelColumns:
    """Which columns of a table hold what; None takes the first of the usual names that is there.

    Attributes
    ----------
    path, label, group : str, optional
        The file of a track, its label, and what must not be on two sides of a split, such as the artist.
    multi : str
        Of a track with several labels ``"first"`` takes the first and ``"drop"`` none; ``""`` refuses the table.
    """

    path: str | None = None
    label: str | None = None
    group: str | None = None
    multi: str = ""


def add_label_flags(group: argparse._ArgumentGroup, kept: str) -> None:
    """Add ``--labels`` and what goes with it to a command line.

    Parameters
    ----------
    group : argument group
        Where to add them.
    kept : str
        What becomes of the groups, for the help text.
    """
    group.add_argument("--labels", metavar="CSV", help="a table with a row a track, its file and its label, in place "
                       "of genre folders; commas, semicolons or tabs")  # fmt: skip
    group.add_argument("--path-column", metavar="NAME", help="the column of the file (default: path, file, filename "
                       "or the like)")  # fmt: skip
    group.add_argument("--label-column", metavar="NAME", help="the column of the label (default: label, genre, "
                       "category or the like)")  # fmt: skip
    group.add_argument("--group-column", metavar="NAME", help=f"a column such as the artist; {kept}")
    group.add_argument("--multi-label", choices=["first", "drop"], help="of a track with several labels take the "
                       "first, or drop the track (default: refuse the table)")  # fmt: skip


def columns_of(args: argparse.Namespace) -> LabelColumns:
    """Return what a parsed command line says of a table's columns.

    Raises
    ------
    MelvisionError
        When it says something and names no table.
    """
    columns = LabelColumns(args.path_column, args.label_column, args.group_column, args.multi_label or "")
    if columns != LabelColumns() and not args.labels:
        raise MelvisionError("--path-column, --label-column, --group-column and --multi-label go with --labels only")
    return columns


@dataclass
class LabelledTracks:
    """The tracks that a table labels.

    Attributes
    ----------
    tracks : list of Track
        Sorted by genre and path.
    groups : dict of str to str
        ``genre/name`` of each track that has a group, to its group.
    notes : list of str
        Rows without a file, files without a row, labels that were changed.
    """

    tracks: list[Track]
    groups: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_labels(
    table: str | Path,
    folder: str | Path,
    columns: LabelColumns | None = None,
    passed: PassedOver | None = None,
    endings: tuple[str, ...] = AUDIO_ENDINGS,
) -> LabelledTracks:
    """Find the audio files, or the pictures, that a table labels.

    Parameters
    ----------
    table : str or Path
        Text in UTF-8, with a header; its columns are separated by commas, semicolons or tabs.
    folder : str or Path
        Where the files are, at any depth. A row names one by its path in there or, where it is the only one of that
        name, by its name; both with or without the ending, and a number also without leading zeros.
    columns : LabelColumns, optional
        Which columns hold what.
    passed : PassedOver, optional
        Takes what was passed over in the folder.
    endings : tuple of str
        Of the files that are meant.

    Returns
    -------
    labelled : LabelledTracks

    Raises
    ------
    MelvisionError
        When the table cannot be read, has no such column, or gives a track several labels, or no row names a file.
    """
    columns, folder = columns or LabelColumns(), Path(folder)
    if not folder.is_dir():
        raise MelvisionError(f"{folder}: there is no such folder; expected one with the files of {table}")
    rows = _read_rows(Path(table), columns)
    passed = PassedOver() if passed is None else passed
    files = list(passed.keep(walk(folder, passed=passed), endings))
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        relative = path.relative_to(folder)
        for name in {_key(relative.as_posix()), _key(relative.name)}:
            by_name[name].append(path)
    labels: dict[Path, dict[str, None]] = defaultdict(dict)
    group_of: dict[Path, str] = {}
    missing: list[str] = []
    unclear: list[str] = []
    unlabelled = 0
    for name, label, group in rows:
        found = by_name.get(_key(name), [])
        if not label:
            unlabelled += 1
        elif len(found) != 1:
            (unclear if found else missing).append(name)
        else:
            labels[found[0]][label] = None
            if group:
                group_of[found[0]] = group
    if not labels:
        first = f"; the first is {missing[0]!r}" if missing else ""
        raise MelvisionError(f"{table}: none of its {len(rows)} rows names a file in {folder}{first}")
    several = [path for path, given in labels.items() if len(given) > 1]
    if several and not columns.multi:
        path = several[0]
        raise MelvisionError(
            f"{table}: {plural(len(several), 'track has', 'tracks have')} several labels, such as "
            f"{path.relative_to(folder)} ({', '.join(labels[path])}); "
            "choose --multi-label first or drop. A model tells one label a track"
        )
    tracks, changed = [], {}
    for path, given in labels.items():
        if len(given) > 1 and columns.multi == "drop":
            continue
        label = next(iter(given))
        genre = folder_name(label)
        if genre != label:
            changed[label] = genre
        inside = path.parent.relative_to(folder).as_posix().removeprefix(".")
        tracks.append(Track(genre, path.stem, path, folder=inside))
    tracks.sort(key=lambda track: (track.genre, str(track.path)))
    notes = [f"{table}: {len(missing)} rows name no file in {folder}, such as {missing[0]}"] if missing else []
    notes += [f"{table}: {len(unclear)} rows name several files, such as {unclear[0]}; skipped"] if unclear else []
    notes += [f"{table}: {unlabelled} rows have no label; skipped"] if unlabelled else []
    if several:
        kept = "the first label is taken" if columns.multi == "first" else "left out"
        notes.append(f"{table}: {plural(len(several), 'track has', 'tracks have')} several labels; {kept}")
    if len(files) > len(labels):
        notes.append(
            f"{folder}: {plural(len(files) - len(labels), 'file has', 'files have')} no row in {table}; skipped"
        )
    notes += [f"{table}: the folder of {label!r} is {genre}" for label, genre in sorted(changed.items())]
    groups = {f"{one.genre}/{one.track_id}": group_of[one.path] for one in tracks if one.path in group_of}
    return LabelledTracks(tracks, groups, notes)


def _read_rows(table: Path, columns: LabelColumns) -> list[tuple[str, str, str]]:
    """Path, label and group of each row, stripped; empty where a cell is not there."""
    try:
        if table.stat().st_size > LARGEST:
            raise MelvisionError(f"{table}: is larger than {LARGEST >> 30} GiB; expected a table of tracks")
        text = table.read_text("utf-8-sig")
    except OSError as error:
        raise MelvisionError(f"{table}: cannot be read ({error.strerror}); expected a table of tracks") from None
    except UnicodeDecodeError:
        raise MelvisionError(f"{table}: is not in UTF-8; save it so") from None
    lines = text.splitlines()
    if not lines:
        raise MelvisionError(f"{table}: is empty; expected a header and a row a track")
    delimiter = max(",;\t", key=lines[0].count)
    try:
        header, *rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter, strict=True)]
    except (ValueError, csv.Error) as error:
        raise MelvisionError(f"{table}: is no table ({error}); expected a header and a row a track") from None
    path = _pick(table, header, "--path-column", columns.path, PATH_COLUMNS)
    label = _pick(table, header, "--label-column", columns.label, LABEL_COLUMNS)
    group = _pick(table, header, "--group-column", columns.group, ()) if columns.group else len(header)
    padded = (row + [""] * (len(header) + 1 - len(row)) for row in rows if any(row))
    return [(row[path], row[label], row[group] if group < len(header) else "") for row in padded]


def _pick(table: Path, header: Sequence[str], flag: str, name: str | None, usual: Sequence[str]) -> int:
    """The number of a column."""
    lower = [cell.casefold() for cell in header]
    for wanted in [name.casefold()] if name else usual:
        if lower.count(wanted) == 1:
            return lower.index(wanted)
    shown = ", ".join(cell for cell in header[:20] if cell) or "none"
    what = f"no column {name!r}" if name else f"no column called {', '.join(usual[:4])} or the like"
    raise MelvisionError(f"{table}: has {what}; its columns are {shown}; name one with {flag}")


def _key(name: str) -> str:
    """A file's name as rows and files are compared: without its ending and a number's leading zeros."""
    path = PurePosixPath(name.replace("\\", "/").removeprefix("./").strip("/"))
    if path.suffix.lower() in AUDIO_ENDINGS + PICTURE_ENDINGS:
        path = path.with_suffix("")
    return str(path.with_name(path.name.lstrip("0") or "0")) if path.name.isdecimal() else str(path)


def folder_name(label: str) -> str:
    """Return a label as the name of a folder: what systems forbid becomes a hyphen, and it is not hidden."""
    return _FORBIDDEN.sub("-", label).strip(" .-")[:100].rstrip() or "unnamed"


def write_groups(path: str | Path, groups: Mapping[str, str]) -> None:
    """Write the groups of tracks as ``vision.split --groups`` reads them."""
    atomic.write_csv(path, ["track", "group"], sorted(groups.items()))
