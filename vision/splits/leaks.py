"""Leaks between train, dev and test folders, whoever made them."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from render.errors import MelvisionError
from render.levels import SPLIT_NAMES
from vision.data.genres import similar_genres
from vision.splits.groups import artist_folders, folder_groups, look_up, two_genres
from vision.splits.keys import picture_key, possible_pieces

if TYPE_CHECKING:  # it imports torch
    from vision.data.dataset import Pictures


def find_splits(data: str | Path) -> dict[str, Path]:
    """Find the train, dev and test folders of a data folder, under any of their usual names.

    Parameters
    ----------
    data : str or Path
        Data folder; it may be missing.

    Returns
    -------
    folders : dict of str to Path
        For some of train, dev and test, in this order.
    """
    if not Path(data).is_dir():
        return {}
    folders = {path.name.lower(): path for path in sorted(Path(data).iterdir(), reverse=True) if path.is_dir()}
    matches = {split: [folders[name] for name in names if name in folders] for split, names in SPLIT_NAMES.items()}
    return {split: paths[0] for split, paths in matches.items() if paths}


def train_splits(data: str | Path) -> dict[str, Path]:
    """Find the folders to train on, as `find_splits` does.

    Parameters
    ----------
    data : str or Path
        Data folder.

    Returns
    -------
    folders : dict of str to Path
        With train and dev at least.

    Raises
    ------
    MelvisionError
        When there is no train or no dev folder.
    """
    folders = find_splits(data)
    missing = [split for split in ("train", "dev") if split not in folders]
    if missing:
        from vision.data.folders import what_instead

        problem = f"has no {' and no '.join(missing)} folder" if Path(data).is_dir() else "there is no such folder"
        remedy = what_instead(data)
        if "python -m render" not in remedy:
            remedy = f"split a pictures folder: python -m vision.split IMAGES -o {data}"
        raise MelvisionError(f"{data}: {problem}; {remedy}")
    return folders


def find_leaks(
    data: str | Path,
    groups: Mapping[str, str] | None = None,
    *,
    pieces: bool = False,
    folders: bool = False,
    notes: list[str] | None = None,
) -> tuple[list[str], list[str]]:
    """Find pictures of one track, equal pictures and pictures of one group that are in two splits.

    Parameters
    ----------
    data : str or Path
        Holds train, dev and perhaps test folders.
    groups : dict, optional
        What `groups.read_groups` returned.
    pieces : bool
        Whether names that differ in a number at their end only are pieces of one track.
    folders : bool
        Whether the first folders inside the genres are artists.
    notes : list of str, optional
        Takes what else the user should know of the folders.

    Returns
    -------
    leaks : list of str
        A line for each; empty when there is none.
    problems : list of str
        Pictures and folders that cannot be read.

    Raises
    ------
    MelvisionError
        When `data` has fewer than two such folders.
    """
    from vision.data.dataset import SpectrogramFolder
    from vision.data.survey import hash_pictures

    splits = find_splits(data)
    if len(splits) < 2:
        raise MelvisionError(f"{data}: found {', '.join(splits) or 'none'} of train, dev, test; expected at least two")
    samples, problems = [], []
    names: set[str] = set()
    notes = [] if notes is None else notes
    for split, folder in splits.items():
        genres = SpectrogramFolder(folder)
        problems += genres.passed.failures()
        notes += genres.passed.notes(folder)
        names |= set(genres.classes)
        samples += [(split, path, genres.classes[label]) for path, label in genres.samples]
    notes += similar_genres(data, names)
    if not pieces:
        notes += possible_pieces(data, [(genre, path) for _, path, genre in samples])
    if not folders:
        notes += artist_folders(data, [(genre, path) for _, path, genre in samples])

    hashes = list(hash_pictures([path for _, path, _ in samples]))
    hashed = zip(samples, hashes, strict=True)
    notes += two_genres(data, [(genre, path, pixels) for (_, path, genre), (pixels, _) in hashed if pixels])
    kinds = ("the same track", "equal pictures", "one group")
    members: dict[str, dict[object, list]] = {kind: defaultdict(list) for kind in kinds}
    for (split, path, genre), (pixels, _) in zip(samples, hashes, strict=True):
        track = picture_key(genre, path, pieces=pieces)
        members["the same track"][genre, track].append((split, path))
        if pixels:
            members["equal pictures"][pixels].append((split, path))
        group = look_up(groups or {}, genre, picture_key(genre, path))
        if folders and not group:
            group = next(iter(folder_groups([(genre, path, track)]).values()), None)
        if group:
            members["one group"][group].append((split, path))
    leaks, reported = [], set()
    for kind, files_by_name in members.items():
        for name, files in files_by_name.items():
            first_by_split = dict(reversed(files))
            pair = tuple(sorted(first_by_split.values()))
            if len(first_by_split) > 1 and pair not in reported:
                reported.add(pair)
                label = f" ({name})" if kind == "one group" else ""
                leaks.append(f"leak: {kind}{label} in {' and '.join(sorted(first_by_split))}: {', '.join(pair)}")
    return leaks, problems + [problem for _, problem in hashes if problem]


def compare(sets: "Mapping[str, Pictures]", *, pieces: bool = False) -> dict[str, list]:
    """Look for leaks and duplicates among the pictures of a run, as its network gets them.

    Parameters
    ----------
    sets : dict of str to Pictures
        Train, dev and perhaps test, of the same classes.
    pieces : bool
        As of `find_leaks`.

    Returns
    -------
    repeats : dict of str to list
        ``tracks``: tracks that are in more than one set by their names; ``equal_across`` and ``equal_within``: pairs of
        paths whose decoded pictures are equal, in two sets and in one.
    """
    from vision.splits.tracks import pixel_hashes

    splits_of: dict[tuple[str, str], set[str]] = defaultdict(set)
    first: dict[bytes, tuple[str, str]] = {}
    repeats: dict[str, list] = {"tracks": [], "equal_across": [], "equal_within": []}
    for split, pictures in sets.items():
        for path, label, digest in zip(pictures.paths, pictures.y.tolist(), pixel_hashes(pictures), strict=True):
            genre = pictures.classes[label]
            splits_of[genre, picture_key(genre, path, pieces=pieces)].add(split)
            other_split, other = first.setdefault(digest, (split, path))
            if other != path:
                repeats["equal_within" if other_split == split else "equal_across"].append((other, path))
    repeats["tracks"] = ["/".join(track) for track, splits in splits_of.items() if len(splits) > 1]
    return repeats
