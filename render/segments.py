"""Cut a track into segments, each of which becomes a picture of its own."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from render.errors import AudioError, ParameterError


@dataclass(frozen=True)
class Segments:
    """How tracks are cut: only whole segments are kept, so that all pictures are of one length.

    Attributes
    ----------
    seconds : float
        Length of a segment.
    hop : float or None, in seconds
        From the start of one to the start of the next; None is `seconds`, so that they neither overlap nor leave gaps.

    Raises
    ------
    ParameterError
        When a value is out of its range.
    """

    seconds: float
    hop: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("segment", self.seconds), ("segment_hop", self.step)):
            if not 0.05 <= value <= 1e6:  # also NaN
                raise ParameterError(name, value, "from 0.05 to 1e6 s")

    @property
    def step(self) -> float:
        """Seconds from the start of one segment to the start of the next."""
        return self.seconds if self.hop is None else self.hop

    def cut(self, pieces: Iterable[np.ndarray], sr: int) -> Iterator[np.ndarray]:
        """Yield the segments of a track, so that a long one need not fit in memory.

        Parameters
        ----------
        pieces : iterable of np.ndarray, shape (n,), float32
            Consecutive pieces of the signal.
        sr : int, in Hz
            Sampling rate.

        Yields
        ------
        y : np.ndarray, shape (round(seconds * sr),), float32

        Raises
        ------
        AudioError
            When the track is shorter than one segment.
        """
        size, step = round(self.seconds * sr), max(1, round(self.step * sr))
        rest, skip, n_samples, any_yet = np.zeros(0, np.float32), 0, 0, False
        for piece in pieces:
            n_samples += len(piece)
            rest = np.concatenate([rest, piece])
            rest, skip = rest[skip:], max(0, skip - len(rest))
            while len(rest) >= size:
                any_yet = True
                yield rest[:size]
                rest, skip = rest[step:], max(0, step - len(rest))
        if not any_yet:
            found = f"is {n_samples / sr:.2f} s long"
            raise AudioError(f"{found}, shorter than one segment of {self.seconds:g} s")
