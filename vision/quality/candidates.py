"""Which of very many pairs of pictures are worth an exact comparison.

How it works
------------
Comparing every two fingerprints at every offset takes hours for 100 000 pictures. But where two recordings share
enough, the overlap holds the beginning of one of them and the end of the other. So only the first and the last
stretch of each picture, as long as the shortest overlap that counts, are looked for in all others, at every offset.

A stretch is a vector: its bands are made independent and of even variance (whitening), frames are joined in twos, and
of what is left the `DIMENSIONS` principal components are kept, at unit length. The product of two such vectors is
about their correlation, and one matrix product gives those of thousands of pictures. Pairs above a threshold that
hardly any pair of strangers reaches (`STRANGERS`) are candidates.

On 709 GTZAN tracks, where strangers reach 0.37 once in 10 000 pairs, the 42 pairs of one recording begin at 0.55.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from vision.inference.device import pick_precision

#: Frames that are joined, components of the bands, and of a stretch; every which offset is looked at, in joined frames.
POOL, COMPONENTS, DIMENSIONS, STEP = 2, 24, 192, 2

#: The part of the pairs of strangers that may come through, and the bounds of the threshold that lets them.
STRANGERS, LOWEST, HIGHEST = 1e-4, 0.25, 0.45

#: Pictures, those of them whose stretches are cut, and stretches, that bases are made from; pictures whose pairs make
#: the threshold.
_SAMPLE, _THINNED, _STRETCHES, _STRANGERS = 2000, 300, 20_000, 1000

#: Pictures in a block, and those it is compared with at a time.
_ROWS, _COLUMNS = 128, 1024

#: Gives the fingerprints of some pictures, shape (n, n_bands, n_frames), float32, by their numbers.
Stack = Callable[[Iterable[int]], np.ndarray]


class StretchIndex:
    """Finds the pictures of one length in which the first or last stretch of a picture of another length may be.

    Parameters
    ----------
    a, b : (Stack, int)
        The fingerprints of both lengths, and how many there are; the same object where both are one.
    n_frames : int
        Length of a stretch, in frames of a fingerprint.
    """

    def __init__(self, a: tuple[Stack, int], b: tuple[Stack, int], n_frames: int):
        self._a, self._b = a, b
        self._width = max(1, n_frames // POOL)
        rng = np.random.default_rng(0)
        some = [stack(self._choose(rng, n, _SAMPLE)) for stack, n in ((a, b) if a is not b else (a,))]
        bands = sum(np.einsum("nbt,nct->bc", x, x, dtype=np.float64, optimize=True) for x in some)
        variances, vectors = np.linalg.eigh(bands)
        keep = np.flatnonzero(variances > 1e-6 * variances[-1])[-COMPONENTS:]
        self._bands = (vectors[:, keep] / np.sqrt(variances[keep])).astype(np.float32)
        self._basis: np.ndarray | None = None
        thinned = [x[:: max(1, len(x) // _THINNED)] for x in some]  # all of their stretches would take much memory
        stretches = np.concatenate([self._stretches(x).reshape(-1, len(keep) * self._width) for x in thinned])
        del some, thinned
        stretches = stretches[self._choose(rng, len(stretches), _STRETCHES)]
        self._basis = np.linalg.eigh(stretches.T @ stretches)[1][:, -DIMENSIONS:].astype(np.float32)
        # Enough for a first choice, and many times as fast where the hardware has it.
        self._kind = torch.bfloat16 if pick_precision("auto", torch.device("cpu")) == "bf16" else torch.float32
        self._ends_a = self._ends(*a)
        self._ends_b = self._ends_a if a is b else self._ends(*b)
        self.threshold = self._pick_threshold(rng)

    @staticmethod
    def _choose(rng: np.random.Generator, n: int, most: int) -> np.ndarray:
        return np.sort(rng.permutation(n)[:most])

    def _stretches(self, x: np.ndarray) -> np.ndarray:
        """All stretches of some pictures as vectors of unit length, shape (n, n_places, d); the last is the end."""
        y = np.einsum("bk,nbt->nkt", self._bands, x, optimize=True)
        n_frames = y.shape[2] // POOL
        y = y[:, :, : n_frames * POOL].reshape(*y.shape[:2], n_frames, POOL).mean(axis=3)
        places = sliding_window_view(y, self._width, axis=2).transpose(0, 2, 1, 3)
        numbers = np.unique([*range(0, places.shape[1], STEP), places.shape[1] - 1])
        vectors = places[:, numbers].reshape(len(x), len(numbers), -1)
        if self._basis is not None:
            vectors = vectors @ self._basis
        lengths = np.linalg.norm(vectors, axis=2, keepdims=True)
        # A picture without changes is like none.
        return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-6)

    def _ends(self, stack: Stack, n: int) -> torch.Tensor:
        """The first and the last stretch of each picture, shape (2, n, d)."""
        assert self._basis is not None
        ends = torch.empty((2, n, self._basis.shape[1]), dtype=self._kind)
        for at in range(0, n, _ROWS):
            stretches = self._stretches(stack(range(at, min(n, at + _ROWS))))
            for end, place in enumerate((0, -1)):
                ends[end, at : at + _ROWS] = torch.from_numpy(stretches[:, place])
        return ends

    def _pick_threshold(self, rng: np.random.Generator) -> float:
        rows, columns = (self._choose(rng, n, _STRANGERS) for _, n in (self._a, self._b))
        best = self._best(self._stretches(self._a[0](rows)), self._ends_b[:, columns])
        others = best[rows[:, None] != columns] if self._a is self._b else best.ravel()
        return float(np.clip(np.quantile(others, 1 - STRANGERS), LOWEST, HIGHEST))

    def _best(self, stretches: np.ndarray, ends: torch.Tensor) -> np.ndarray:
        """How well the better of two ends agrees with any stretch, shape (n_rows, n_columns)."""
        n, n_places, _ = stretches.shape
        # torch takes the maximum with all cores.
        flat = torch.from_numpy(stretches.reshape(n * n_places, -1)).to(self._kind)
        first, last = ((flat @ end.T).view(n, n_places, -1).amax(dim=1) for end in ends)
        return torch.maximum(first, last).float().numpy()

    def blocks(self) -> list[tuple[int, bool]]:
        """The parts of the search, for `search`: where each begins, and whether it looks in the pictures of `b`."""
        parts = [(at, False) for at in range(0, self._a[1], _ROWS)]
        return parts if self._a is self._b else parts + [(at, True) for at in range(0, self._b[1], _ROWS)]

    def search(self, start: int, in_b: bool) -> Iterator[tuple[int, int]]:
        """Yield the candidates of one of `blocks`: numbers in `a` and in `b`. A pair may come more than once."""
        stack, n = self._b if in_b else self._a
        ends = self._ends_a if in_b else self._ends_b
        stretches = self._stretches(stack(range(start, min(n, start + _ROWS))))
        for at in range(0, ends.shape[1], _COLUMNS):
            best = self._best(stretches, ends[:, at : at + _COLUMNS])
            for row, column in np.argwhere(best >= self.threshold).tolist():
                pair = (start + row, at + column)
                if self._a is self._b:
                    if pair[0] != pair[1]:
                        yield min(pair), max(pair)
                else:
                    yield pair[::-1] if in_b else pair
