"""The data folder of a run: split from a pictures folder, brought up to date, or made by hand and checked."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from render.cli import plural
from render.errors import MelvisionError
from vision.data.dataset import SpectrogramFolder
from vision.data.genres import similar_genres
from vision.reports.text_table import split_lines
from vision.splits.assign import SPLITS
from vision.splits.folder import SPLIT_CSV, SplitResult, read_settings, split_folder
from vision.splits.leaks import find_leaks, find_splits, train_splits

#: Leaks that are listed; their number is given in any case.
LISTED = 20


@dataclass
class DataFolder:
    """What `prepare_data` returns.

    Attributes
    ----------
    path : Path
        Holds train, dev and perhaps test folders.
    problems : list of str
        Pictures that cannot be read, and pictures that were taken out of their split.
    notes : list of str
        What else the user should know, leaks first of all.
    """

    path: Path
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def prepare_data(
    data: str | Path | None = None,
    images: str | Path | None = None,
    *,
    pieces: bool = False,
    progress: Callable[[str], None] | None = None,
) -> DataFolder:
    """Make a data folder, or bring it up to date.

    A folder that `split_folder` made gets the pictures that were added since; one that was split by hand is
    checked for leaks.

    Parameters
    ----------
    data : str or Path, optional
        The data folder, by default ``data``; split from `images` where it is not there.
    images : str or Path, optional
        The pictures folder; by default that of an earlier split, or ``images_original``.
    pieces : bool
        As for `split_folder`.
    progress : callable, optional
        Takes a line of text for the user, such as `print`. By default lines go to `logging`.

    Returns
    -------
    folder : DataFolder

    Raises
    ------
    MelvisionError
        When there is nothing to train on, or `data` was not made of `images`.
    """
    say = progress or logging.getLogger(__name__).info
    path = Path(data or "data")
    if (path / SPLIT_CSV).exists():
        return _update(path, images, pieces, say)
    if find_splits(path) or (data and not images):
        return _check(path, images, pieces)
    images = images or "images_original"
    say(f"no {path} folder yet: splitting {images} 80/10/10")
    result = split_folder(images, path, pieces=pieces or None)
    for line in split_lines(result):
        say(line)
    return DataFolder(path, result.problems, _notes(result, images))


def _update(path: Path, images: str | Path | None, pieces: bool, say: Callable[[str], None]) -> DataFolder:
    """Bring a folder that `split_folder` made up to date."""
    source = path / read_settings(path)["images"]
    if (plain := Path(os.path.normpath(source))).resolve() == source.resolve():  # no ".." behind a link
        source = plain
    if images and Path(images).resolve() != source.resolve():
        raise MelvisionError(f"{path}: was made of {source}, not of {images}; name a new folder with --data")
    try:
        SpectrogramFolder(source)
    except MelvisionError as error:
        return DataFolder(path, notes=[f"{error}; training on {path} as it is"])
    result = split_folder(source, path, pieces=pieces or None)
    joined = [row for row in result.new if not row.left_out]
    if joined:
        counts = ", ".join(f"{sum(row.split == split for row in joined)} {split}" for split in SPLITS)
        say(f"{plural(len(joined), 'picture')} added to {source} since the last split joined: {counts}")
    return DataFolder(path, result.problems, _notes(result, source))


def _notes(result: SplitResult, images: str | Path) -> list[str]:
    """The notes on a split, without the one that training repeats."""
    repeated = similar_genres(images, {row.genre for row in result.rows})
    return [note for note in result.notes if note not in repeated]


def _check(path: Path, images: str | Path | None, pieces: bool) -> DataFolder:
    """Check a folder that was split by hand."""
    train_splits(path)
    if images:
        raise MelvisionError(
            f"{path}: was split by hand, so {images} cannot be added to it; name a new folder with --data"
        )
    others: list[str] = []
    leaks, problems = find_leaks(path, pieces=pieces, notes=others)
    notes = leaks[:LISTED] + [note for note in others if " --" in note]  # training repeats the others
    if leaks:
        twice = plural(len(leaks), "picture or track is", "pictures or tracks are")
        warning = f"{path} was split by hand and LEAKS: {twice} on two sides, so scores will"
        notes.insert(0, f"{warning} be too good. Split again with python -m vision.split")
    return DataFolder(path, problems, notes)
