"""Leaks between train, dev and test folders, whoever made them."""

import csv
from collections import defaultdict
from pathlib import Path

from render.errors import MelvisionError
from vision.splits.groups import look_up
from vision.splits.keys import track_key

#: What people call the three folders when they split by hand.
FOLDER_NAMES = {"train": ("train", "training"), "dev": ("dev", "val", "valid", "validation"), "test": ("test",)}


def find_splits(data):
    """The folders of a data folder that are there, under whatever usual name.

    Returns
    -------
    folders : dict of str to Path
        For some of train, dev and test, in this order.
    """
    if not Path(data).is_dir():
        return {}
    there = {path.name.lower(): path for path in sorted(Path(data).iterdir(), reverse=True) if path.is_dir()}
    found = {split: [there[name] for name in names if name in there] for split, names in FOLDER_NAMES.items()}
    return {split: folders[0] for split, folders in found.items() if folders}


def train_splits(data):
    """As `find_splits`, for training.

    Raises
    ------
    MelvisionError
        When there is no train or no dev folder.
    """
    folders = find_splits(data)
    missing = [split for split in ("train", "dev") if split not in folders]
    if missing:
        from vision.data.folders import what_instead

        told = f"has no {' and no '.join(missing)} folder" if Path(data).is_dir() else "there is no such folder"
        remedy = what_instead(data)
        if "python -m render" not in remedy:
            remedy = f"make them of a pictures folder: python -m vision.split IMAGES -o {data}"
        raise MelvisionError(f"{data}: {told}; {remedy}")
    return folders


def find_leaks(data, groups=None):
    """Pictures of one track, equal pictures and pictures of one group that are on two sides.

    Parameters
    ----------
    data : str or Path
        Holds train, dev and perhaps test folders.
    groups : dict, optional
        What `groups.read_groups` gave.

    Returns
    -------
    leaks : list of str
        A line for each; empty when there is none.
    problems : list of str
        Pictures that cannot be read.

    Raises
    ------
    MelvisionError
        When `data` has fewer than two such folders.
    """
    from vision.data.dataset import SpectrogramFolder
    from vision.data.survey import hash_pictures

    folders = find_splits(data)
    if len(folders) < 2:
        raise MelvisionError(f"{data}: found {', '.join(folders) or 'none'} of train, dev, test; expected at least two")
    samples = []
    for split, folder in folders.items():
        genres = SpectrogramFolder(folder)
        samples += [(split, path, genres.classes[label]) for path, label in genres.samples]

    hashes = list(hash_pictures([path for _, path, _ in samples]))
    seen = {"the same track": defaultdict(list), "equal pictures": defaultdict(list), "one group": defaultdict(list)}
    for (split, path, genre), (pixels, _) in zip(samples, hashes, strict=True):
        track = track_key(path)
        seen["the same track"][genre, track].append((split, path))
        if pixels:
            seen["equal pictures"][pixels].append((split, path))
        group = look_up(groups or {}, genre, track)
        if group:
            seen["one group"][group].append((split, path))
    leaks, told = [], set()
    for what, members in seen.items():
        for name, files in members.items():
            one_a_side = dict(reversed(files))
            pair = tuple(sorted(one_a_side.values()))
            if len(one_a_side) > 1 and pair not in told:
                told.add(pair)
                label = f" ({name})" if what == "one group" else ""
                leaks.append(f"leak: {what}{label} in {' and '.join(sorted(one_a_side))}: {', '.join(pair)}")
    return leaks, [problem for _, problem in hashes if problem]


def compare(sets):
    """Look for leaks and duplicates among the pictures of a run, as its network sees them.

    Parameters
    ----------
    sets : dict of str to Pictures
        Train, dev and perhaps test, of the same classes.

    Returns
    -------
    found : dict of str to list
        ``tracks``, that are in more than one set by their names; ``equal_across`` and
        ``equal_within``: pairs of paths whose decoded pictures are equal, in two sets and in one.
    """
    import hashlib

    sides, first = defaultdict(set), {}
    found = {"tracks": [], "equal_across": [], "equal_within": []}
    for split, pictures in sets.items():
        for number, (path, label) in enumerate(zip(pictures.paths, pictures.y.tolist(), strict=True)):
            sides[pictures.classes[label], track_key(path)].add(split)
            digest = hashlib.blake2b(pictures.x[number].numpy(), digest_size=16).digest()
            other_split, other = first.setdefault(digest, (split, path))
            if other != path:
                found["equal_within" if other_split == split else "equal_across"].append((other, path))
    found["tracks"] = ["/".join(track) for track, splits in sides.items() if len(splits) > 1]
    return found


def trained_tracks(run):
    """Tracks that a model learned from.

    Parameters
    ----------
    run : str or Path
        Run folder, its ``model.pt``, or a folder of several seeds.

    Returns
    -------
    tracks : set of (str, str)
        Genre and `groups.track_key`.

    Raises
    ------
    MelvisionError
        When the run does not tell: then no doubt of it can be called fair.
    """
    folder = Path(run) if Path(run).is_dir() else Path(run).parent
    # Several seeds learn from the same split.
    table = next(iter(sorted(folder.glob("seed-*/split.csv"))), folder / "split.csv")
    try:
        with open(table, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return {(row["genre"], track_key(row["file"])) for row in csv.DictReader(file) if row["split"] == "train"}
    except (OSError, KeyError, csv.Error):
        raise MelvisionError(
            f"{table}: is missing or damaged, so nobody knows what the model was trained on; "
            "pictures it was trained on give no fair doubt: use the predictions of vision.crossval (--predictions)"
        ) from None
