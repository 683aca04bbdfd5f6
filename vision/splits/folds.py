"""Cross-validation folds that keep together what belongs together."""

from dataclasses import replace

from render.errors import MelvisionError


def make_folds(pictures, *, groups, folds, repeat, seed):
    """Deal tracks out to folds.

    Parameters
    ----------
    pictures : Pictures
        All of them.
    groups : dict
        What `groups.read_groups` gave; may be empty.
    folds, repeat, seed : int
        How many folds; which cross-validation; of the shuffling.

    Returns
    -------
    pairs : list of (list of int, list of int)
        For each fold, the pictures to learn from and those to score. Augmented copies are not scored.

    Raises
    ------
    MelvisionError
        When a genre has fewer groups than there are folds.
    """
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    from vision.data.survey import hash_pictures
    from vision.splits.groups import connected_components, look_up
    from vision.splits.keys import is_copy, track_key

    genres = [pictures.classes[label] for label in pictures.y.tolist()]
    tracks = [(genre, track_key(path)) for genre, path in zip(genres, pictures.paths, strict=True)]
    pixels = [digest or None for digest, _ in hash_pictures(pictures.paths)]
    tied = np.array(connected_components(tracks, pixels, [look_up(groups, *track) for track in tracks]))
    y = pictures.y.numpy()
    for label, genre in enumerate(pictures.classes):
        n = len(set(tied[y == label].tolist()))
        if n < folds:
            raise MelvisionError(
                f"--folds {folds}: {genre} has {n} groups of tracks; each fold needs one to be scored on"
            )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed + repeat)
    scored = np.array([not is_copy(path) for path in pictures.paths])
    return [(a.tolist(), b[scored[b]].tolist()) for a, b in splitter.split(y, y, tied)]


def _select(pictures, numbers):
    paths = [pictures.paths[number] for number in numbers]
    return replace(pictures, x=pictures.x.select(numbers), y=pictures.y[numbers], paths=paths)
