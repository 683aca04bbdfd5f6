"""Cross-validation folds in which a group of pictures is never in two folds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from render.errors import ParameterError

if TYPE_CHECKING:  # it imports torch
    from vision.data.dataset import Pictures


def make_folds(
    pictures: "Pictures",
    *,
    groups: Mapping[str, str],
    folds: int,
    repeat: int,
    seed: int,
    pieces: bool = False,
) -> list[tuple[list[int], list[int]]]:
    """Divide pictures into folds: grouped, stratified by genre, seeded.

    Parameters
    ----------
    pictures : Pictures
        All of them.
    groups : dict of str to str
        What `groups.read_groups` returned; may be empty.
    folds : int
        Number of folds.
    repeat : int
        Which repetition of the cross-validation; each is shuffled differently.
    seed : int
        Seed of the shuffling.
    pieces : bool
        As of `keys.track_key`.

    Returns
    -------
    pairs : list of (list of int, list of int)
        For each fold, the pictures to train on and those to score. Augmented copies are not scored.

    Raises
    ------
    ParameterError
        When a genre has fewer groups than there are folds.
    """
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    from vision.splits.keys import is_copy

    group_of = np.array(picture_groups(pictures, groups=groups, pieces=pieces))
    y = pictures.y.numpy()
    for label, genre in enumerate(pictures.classes):
        n = len(set(group_of[y == label].tolist()))
        if n < folds:
            raise ParameterError("folds", folds, f"at most {n}, because {genre} has {n} groups of tracks")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed + repeat)
    scored = np.array([not is_copy(path) for path in pictures.paths])
    return [(train.tolist(), held_out[scored[held_out]].tolist()) for train, held_out in splitter.split(y, y, group_of)]


def picture_groups(pictures: "Pictures", *, groups: Mapping[str, str], pieces: bool = False) -> list[int]:
    """Return the group of each picture: those of one track, of equal pixels and of one named group are together.

    Parameters
    ----------
    pictures : Pictures
        All of them.
    groups : dict of str to str
        What `groups.read_groups` returned; may be empty.
    pieces : bool
        As of `keys.track_key`.
    """
    from vision.data.survey import hash_pictures
    from vision.splits.groups import connected_components, look_up
    from vision.splits.keys import picture_key

    genres = [pictures.classes[label] for label in pictures.y.tolist()]
    named = zip(genres, pictures.paths, strict=True)
    tracks = [(genre, picture_key(genre, path, pieces=pieces)) for genre, path in named]
    pixels = [digest or None for digest, _ in hash_pictures(pictures.paths)]
    return connected_components(tracks, pixels, [look_up(groups, *track) for track in tracks])


def select_pictures(pictures: "Pictures", numbers: Sequence[int]) -> "Pictures":
    """Return some of the pictures, such as those of a fold.

    Parameters
    ----------
    pictures : Pictures
        All of them.
    numbers : sequence of int
        Indices of those to return, in this order.
    """
    paths = [pictures.paths[number] for number in numbers]
    tracks = [pictures.tracks[number] for number in numbers]
    first = {track: position for position, track in reversed(list(enumerate(tracks)))}
    tracks = [first[track] for track in tracks]
    return replace(pictures, x=pictures.x.select(numbers), y=pictures.y[numbers], paths=paths, tracks=tracks)
