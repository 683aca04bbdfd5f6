"""Which pictures of a set are of one track: its pieces, its copies, and equal pictures."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from vision.splits.groups import connected_components
from vision.splits.keys import picture_key

if TYPE_CHECKING:  # it imports torch
    from vision.data.dataset import Pictures

#: Genres of fewer tracks are named: a network learns the tracks, not the genre.
FEW = 20


def pixel_hashes(pictures: "Pictures") -> list[bytes]:
    """Return a hash of each picture as the network gets it."""
    stored = (pictures.x[number].numpy().data for number in range(len(pictures.x)))
    return [hashlib.blake2b(pixels, digest_size=16).digest() for pixels in stored]


def number_tracks(pictures: "Pictures", *, pieces: bool = False) -> list[int]:
    """Tell which pictures are of one track, so that a score counts it once.

    Of one track are pictures of a genre whose names have one `keys.picture_key`, such as its pieces, and pictures of a
    genre that are equal.

    Parameters
    ----------
    pictures : Pictures
        All of a set.
    pieces : bool
        As of `keys.track_key`.

    Returns
    -------
    tracks : list of int
        For each picture, the position of the first picture of its track.
    """
    labels = pictures.y.tolist()
    named = zip(labels, pictures.paths, strict=True)
    keys = [(label, picture_key(pictures.classes[label], path, pieces=pieces)) for label, path in named]
    return connected_components(keys, list(zip(labels, pixel_hashes(pictures), strict=True)))


def missing_genres(classes: Sequence[str], labels: Mapping[str, Iterable[int]]) -> list[str]:
    """Return a line for each set that is scored, given by its labels, and holds nothing of some genres."""
    notes = []
    for name, present in labels.items():
        occurring = set(present)
        absent = [genre for label, genre in enumerate(classes) if label not in occurring]
        if absent:
            notes.append(f"{name} holds no track of {', '.join(absent)}: its scores say nothing of that")
    return notes


def small_genres(pictures: "Pictures", where: object) -> list[str]:
    """Return a line that names genres of few tracks to train on; none where there are none."""
    tracks = set(zip(pictures.tracks, pictures.y.tolist(), strict=True))
    counts = Counter(label for _, label in tracks)
    few = [f"{name} ({counts[label]})" for label, name in enumerate(pictures.classes) if counts[label] < FEW]
    return [f"{where}: few tracks to learn from, fewer than {FEW}: {', '.join(few)}"] if few else []
