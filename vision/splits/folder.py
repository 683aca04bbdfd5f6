"""Pictures to ``data/{train,dev,test}/<genre>/``, so that nothing of a track is on two sides."""

import csv
import json
import os
import shutil
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path

from render import atomic
from render.errors import MelvisionError
from vision.splits.assign import SPLITS, Row, assign_splits, compare_names, straddling
from vision.splits.keys import is_copy, track_key
from vision.splits.leaks import find_splits

DEFAULTS = {"seed": 0, "ratios": [80, 10, 10], "lists": {}, "groups": {}}


def read_rows(data):
    """Read ``split.csv`` of a data folder; an empty list where there is none."""
    path = Path(data) / "split.csv"
    if not path.exists():
        return []
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = [Row(**row) for row in csv.DictReader(file)]
        for row in rows:
            row.size, row.mtime_ns, row.inode = int(row.size), int(row.mtime_ns), int(row.inode)
            if row.split not in ("", *SPLITS) or Path(row.file).is_absolute() or ".." in Path(row.file).parts:
                raise ValueError(row.file)
    except (TypeError, ValueError) as error:
        raise MelvisionError(f"{path}: damaged ({error}); restore it, or split into another folder with -o") from None
    return rows


def _scan(images, known):
    """A row for every picture that can be read, hashed unless `known` has its hash; problems and notes."""
    from vision.data.dataset import SpectrogramFolder
    from vision.data.images import PICTURE_ENDINGS
    from vision.data.survey import hash_pictures

    folder = SpectrogramFolder(images)
    problems, rows, todo = [], [], []
    notes = [f"{Path(images) / genre}: no picture in this genre folder" for genre in folder.empty]
    stray = [path for path in Path(images).iterdir() if path.suffix.lower() in PICTURE_ENDINGS and path.is_file()]
    notes += [f"{path}: lies outside a genre folder, not used" for path in sorted(stray)]
    for path, label in folder.samples:
        file = Path(path).relative_to(images).as_posix()
        status = os.stat(path)
        row = Row(file, folder.classes[label], track_key(file))
        row.size, row.mtime_ns, row.inode = status.st_size, status.st_mtime_ns, status.st_ino
        before = known.get(file)
        if before and (before.size, before.mtime_ns, before.inode) == (row.size, row.mtime_ns, row.inode):
            row.pixels = before.pixels
        else:
            todo.append((path, row))
        rows.append(row)

    hashes = hash_pictures([path for path, _ in todo])
    for (_, row), (pixels, problem) in zip(todo, hashes, strict=True):
        row.pixels = pixels
        problems += [problem] if problem else []
    return [row for row in rows if row.pixels], problems, notes


def _link(images, data, row):
    """Make the picture of `row` appear in its folder: a hard link, or a copy where that cannot be."""
    source, target = Path(images) / row.file, Path(data) / row.split / row.file
    if target.exists():
        here, there = target.stat(), source.stat()
        if os.path.samestat(here, there):
            return
        # On one device it could be a link and is none: the source was replaced. A copy on another
        # device is told by its size and time.
        if here.st_dev != there.st_dev and (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns):
            return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / f"{atomic.PREFIX}{os.getpid()}.part"
    part.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), part)
    except OSError:
        shutil.copy2(source, part)
    os.replace(part, target)


def read_how(data):
    """How a data folder was split: images, seed, ratios, lists and groups, as ``split.json`` tells.

    Raises
    ------
    MelvisionError
        When the file is missing or damaged.
    """
    path = Path(data) / "split.json"
    try:
        how = json.loads(path.read_text("utf-8"))
        return {name: how[name] for name in ("images", *DEFAULTS)}
    except (OSError, ValueError, KeyError, TypeError):
        raise MelvisionError(f"{path}: missing or damaged; split into another folder with -o") from None


def split_folder(images, data, **wanted):
    """Split a pictures folder, or bring an earlier split of it up to date.

    Assignments that ``split.csv`` holds never move; new pictures join where their genre is short.

    Parameters
    ----------
    images, data : str or Path
        Pictures folder; data folder to fill.
    **wanted
        ``seed`` (int), ``ratios`` (list of 3 numbers: train, dev, test), ``lists`` (for some of
        train, dev and test, what `groups.read_list` gave) and ``groups`` (what `groups.read_groups`
        gave). What is not given is as it was when `data` was made, or as in `DEFAULTS`.

    Returns
    -------
    rows : list of Row
        One a picture.
    problems : list of str
        Pictures and genre folders that could not be used, and pictures taken out of their side.
    notes : list of str
        What else the user should know.
    new : list of Row
        Those of `rows` that were not there before.

    Raises
    ------
    MelvisionError
        When there is too little to split, or `data` holds a split made otherwise.
    """
    images, data = Path(images), Path(data)
    before = {row.file: row for row in read_rows(data)}
    made = read_how(data) if before else {}
    how = {"images": os.path.relpath(images.resolve(), data.resolve())} | DEFAULTS | made | wanted
    for name in ("images", "seed", "ratios", "lists") if before else ():
        if made[name] != how[name] or (name == "images" and (data / made[name]).resolve() != images.resolve()):
            told = "other lists" if name == "lists" else f"{name} {made[name]}"
            raise MelvisionError(
                f"{data}: was split with {told}, and assignments never move; use another folder with -o"
            )
    if {"train", "dev"} <= set(find_splits(images)) or {"train", "test"} <= set(find_splits(images)):
        raise MelvisionError(f"{images}: is split already; train on it, or look for leaks in it with --check")
    if not before and data.is_dir() and find_splits(data):
        raise MelvisionError(f"{data}: holds folders that were split by hand; choose another folder with -o")
    rows, problems, notes = _scan(images, before)
    present = {row.file for row in rows}
    gone = [row for row in before.values() if row.file not in present]
    # Pieces of one track are one; what is gone from here lives on in `data`.
    tracks = {(row.genre, row.track) for row in rows + gone if not is_copy(row.file)}
    counts = Counter(genre for genre, _ in tracks)
    if len(counts) < 2:
        told = ", ".join(counts) or "none"
        raise MelvisionError(f"{images}: {len(counts)} genre only ({told}); expected at least two to tell apart")
    few = [f"{genre} ({n})" for genre, n in counts.items() if n < 3]
    if few and not how["lists"]:
        raise MelvisionError(f"{images}: fewer than three tracks in {', '.join(few)}; add some or take the genre out")
    for row in rows:
        if row.file in before:
            row.split = before[row.file].split
    ratios = {split: ratio / sum(how["ratios"]) for split, ratio in zip(SPLITS, how["ratios"], strict=True)}
    assign_splits(rows, gone, lists=how["lists"], groups=how["groups"], ratios=ratios, seed=how["seed"])
    assert not straddling(rows + gone), straddling(rows + gone)
    notes += compare_names(rows, how["lists"], how["groups"])
    for row in rows + gone:
        if row.left_out.startswith(("tied", "its genre")):
            problems.append(f"{row.file}: taken out of {row.split}, {row.left_out} ({row.group})")
    notes += _write(images, data, rows, gone, how)
    return rows, problems, notes, [row for row in rows if row.file not in before]


def _write(images, data, rows, gone, how):
    """Write the CSV first, so that no assignment is lost, then the links; returns notes."""
    notes, kept = [], []
    hashes = {row.pixels for row in rows}
    for row in gone:
        target = data / row.split / row.file
        if row.split and row.pixels in hashes:
            target.unlink(missing_ok=True)  # it lives on under another name
        elif row.left_out and target.exists():
            aside = data / "left_out" / row.file  # perhaps the only copy there is
            aside.parent.mkdir(parents=True, exist_ok=True)
            os.replace(target, aside)
            notes.append(f"{row.file}: is gone from {images}; its copy was moved to {aside}")
        elif row.split and target.exists():
            kept.append(row)
    if kept:
        told = ", ".join(row.file for row in kept[:3])
        notes.append(f"{len(kept)} pictures are gone from {images} but still used from {data}: {told}")
        notes[-1] += "; delete them there too to drop them"
    with atomic.replacing(data / "split.json", "w", encoding="utf-8") as file:
        json.dump(how, file, indent=1)
    with atomic.replacing(data / "split.csv", "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows + gone)
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


def summary(rows):
    """Return a table of pictures per genre and side, as lines of text."""
    counts = Counter((row.genre, "left out" if row.left_out else row.split) for row in rows)
    columns = [*SPLITS, "left out"]
    genres = sorted({row.genre for row in rows})
    width = max(len(genre) for genre in [*genres, "genre"])
    lines = [f"{'genre':{width}} " + " ".join(f"{name:>8}" for name in columns)]
    for genre in genres:
        lines.append(f"{genre:{width}} " + " ".join(f"{counts[genre, name]:8}" for name in columns))
    totals = [sum(counts[genre, name] for genre in genres) for name in columns]
    return [*lines, f"{'all':{width}} " + " ".join(f"{n:8}" for n in totals)]
