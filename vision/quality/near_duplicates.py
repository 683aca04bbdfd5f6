"""Near-duplicates: pictures that show the same recording though their pixels differ.

How it works
------------
Each picture is reduced to a fingerprint (`fingerprint`): 32 bands, a frame every 0.15 s. In it each band is
compared with its own moving average and with the mean of all bands, and loudness is evened out. So another
colormap, level range, size or encoding changes little, and neither do steady tones nor onsets that all music of one
tempo shares. The frequency axes must agree.

Every two fingerprints (of very many pictures those that `candidates` finds) are then compared at every time offset at
which they share enough (10 s, or 80 % of the shorter). The similarity at an offset is the normalised cross-correlation
of what is shared: the sum of products over bands and frames, divided by the square root of both energies in the
overlap. Products at all offsets come from one FFT a fingerprint and one matrix product a frequency, for many pairs at
once. The energies come from cumulative sums.

A pair is reported when its best similarity is at least `SIMILAR` (more where little is shared, because chance
agreement is likelier there) and stands out by `DISTINCT` from every other offset. Tracks that only share a loop
agree at many offsets and are not reported. Equal pixels are found elsewhere, by their hash.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image
from scipy import fft
from scipy.ndimage import uniform_filter1d

from vision.quality.candidates import StretchIndex

N_BANDS = 32

#: Seconds of one frame of a fingerprint, and of a long track that are compared.
FRAME, MAX_SECONDS = 0.15, 90.0

#: Seconds of the moving average that is subtracted: slower changes, such as a fade, make different tracks alike.
TREND = 3.0

#: Seconds that two excerpts must share; of shorter tracks this share, but no less than `MIN_OVERLAP`.
OVERLAP, SHARE, MIN_OVERLAP = 10.0, 0.8, 3.0

#: Similarity from which two pictures show one recording, and by how much it must exceed that of any other offset. On
#: 709 GTZAN tracks the 52 pairs found were all of one artist and title (0.39 and more); the best of the other 250 934
#: pairs was 0.29.
SIMILAR, DISTINCT = 0.35, 0.1

#: From this similarity on an offset need not stand out: a recording that repeats itself agrees with itself at many.
CERTAIN = 0.9

#: Offsets within so many frames count as one.
_NEIGHBOURS = 4

#: Steps of a fingerprint to 1.
_LEVELS = 16

#: Pairs of pictures of two lengths up to which all are compared: 4 million take some 20 s on one core.
ALL_PAIRS = 1 << 22

#: Pairs that are verified at a time.
_CHECKED = 256

#: Bytes that a block of correlations may take.
_BLOCK = 1 << 26


@dataclass(frozen=True)
class Pair:
    """Two pictures of one recording.

    Attributes
    ----------
    first, second : int
        Indices of the pictures.
    similarity : float
        Normalised correlation of the part that they share, at most 1.
    offset : float
        Seconds by which the second begins later in the recording; negative: earlier.
    overlap : float
        Seconds that they share.
    """

    first: int
    second: int
    similarity: float
    offset: float
    overlap: float


def fingerprint(levels: np.ndarray, seconds: float) -> np.ndarray:
    """Reduce a picture to what all pictures of one recording share.

    Parameters
    ----------
    levels : np.ndarray, shape (h, w), uint8
        Without margins; the rows are frequencies, the columns time.
    seconds : float
        Length of track that the picture spans; what is beyond `MAX_SECONDS` is ignored.

    Returns
    -------
    values : np.ndarray, shape (N_BANDS, n_frames), int8
        Each band minus its moving average and the mean over bands, at even loudness, in steps of 1/16: of 100 000
        pictures they have to fit into memory. All zero where nothing changes.
    """
    width = max(1, round(levels.shape[1] * min(1, MAX_SECONDS / seconds)))
    n_frames = max(1, int(min(seconds, MAX_SECONDS) / FRAME + 0.5))
    image = Image.fromarray(np.ascontiguousarray(levels[:, :width])).convert("F")
    values = np.asarray(image.resize((n_frames, N_BANDS), Image.Resampling.BOX))
    trend = round(TREND / FRAME)
    values = values - uniform_filter1d(values, trend, axis=1, mode="nearest")
    # An onset raises all bands: two tracks of one tempo would agree in that alone.
    values -= values.mean(axis=0)
    values /= values.std(axis=1, keepdims=True).clip(2)
    np.clip(values, -3, 3, out=values)
    loudness = np.sqrt(uniform_filter1d(np.square(values).mean(axis=0), trend, mode="nearest").clip(0))
    return np.rint(values / loudness.clip(0.3) * _LEVELS).clip(-127, 127).astype(np.int8)


def _min_overlap(a: int, b: int) -> int | None:
    """Frames that tracks of `a` and `b` frames must share; None where they are too short."""
    shorter = min(a, b) * FRAME
    seconds = min(OVERLAP, shorter * SHARE)
    return round(seconds / FRAME) if seconds >= MIN_OVERLAP else None


def _threshold(overlap: int | np.ndarray) -> np.ndarray:
    """Similarity required at so many shared frames: the fewer, the likelier is a chance agreement."""
    return SIMILAR * np.sqrt(np.maximum(1, OVERLAP / (overlap * FRAME)))


def _similarities(a: np.ndarray, b: np.ndarray, min_overlap: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Compute the similarity of each track of `a` to each of `b`, at each offset.

    Parameters
    ----------
    a, b : np.ndarray, shapes (n_a, N_BANDS, t_a) and (n_b, N_BANDS, t_b), float32
        Fingerprints of one length each. Where both are the same array, each pair is computed once.
    min_overlap : int
        Frames that must be shared.

    Yields
    ------
    start : int
        The tracks of `a` from this index on are in the block.
    similarity : np.ndarray, shape (n_offsets, n_block, n_b), float32
        Normalised by the energy of the shared part. Of the same array, `b` from `start` on.
    offsets : np.ndarray, shape (n_offsets,), int
        In frames: ``b`` begins so much later than ``a``.
    """
    t_a, t_b = a.shape[2], b.shape[2]
    size = fft.next_fast_len(t_a + t_b, real=True)
    offsets = np.arange(min_overlap - t_b, t_a - min_overlap + 1)
    # One matrix product a frequency: all pairs and all bands at once.
    spectra_a, spectra_b = (np.ascontiguousarray(fft.rfft(x, size, axis=2).transpose(2, 0, 1)) for x in (a, b))
    spectra_b = spectra_b.conj().transpose(0, 2, 1)
    scale_a, scale_b = (scale.T for scale in _scales(a, b, offsets))
    step = max(1, _BLOCK // (8 * size * len(b)))
    for start in range(0, len(a), step):
        block = slice(start, start + step)
        others = slice(start if a is b else 0, None)
        similarity = fft.irfft(spectra_a[:, block] @ spectra_b[:, :, others], size, axis=0, overwrite_x=True)[offsets]
        similarity *= scale_a[:, block, None]
        similarity *= scale_b[:, None, others]
        yield start, similarity, offsets


def _verify(numbers: Sequence[tuple[int, int]], a: np.ndarray, b: np.ndarray, min_overlap: int) -> list[Pair]:
    """Return those pairs of fingerprints that agree at some offset that stands out.

    Parameters
    ----------
    numbers : sequence of (int, int)
        Of the pictures.
    a, b : np.ndarray, shapes (n, N_BANDS, t_a) and (n, N_BANDS, t_b), float32
        The fingerprints of each pair.
    min_overlap : int
        Frames that must be shared.
    """
    t_a, t_b = a.shape[2], b.shape[2]
    size = fft.next_fast_len(t_a + t_b, real=True)
    offsets = np.arange(min_overlap - t_b, t_a - min_overlap + 1)
    spectra = (fft.rfft(a, size, axis=2, workers=-1) * fft.rfft(b, size, axis=2, workers=-1).conj()).sum(axis=1)
    scale_a, scale_b = _scales(a, b, offsets)
    similarity = fft.irfft(spectra, size, axis=1)[:, offsets] * scale_a * scale_b
    best = similarity.argmax(axis=1)
    value = np.take_along_axis(similarity, best[:, None], 1)[:, 0]
    near = np.abs(np.arange(len(offsets)) - best[:, None]) <= _NEIGHBOURS
    elsewhere = np.where(near, -np.inf, similarity).max(axis=1)
    offset = offsets[best]
    overlap = np.minimum(t_a, t_b + offset) - np.maximum(0, offset)
    good = (value >= _threshold(overlap)) & ((value >= CERTAIN) | (value - elsewhere >= DISTINCT))
    pairs = []
    for at in np.flatnonzero(good).tolist():
        (first, second), sign = numbers[at], 1
        if first > second:
            first, second, sign = second, first, -1
        seconds = round(sign * int(offset[at]) * FRAME, 2), round(int(overlap[at]) * FRAME, 2)
        pairs.append(Pair(first, second, min(1.0, float(value[at])), *seconds))
    return pairs


def _scales(a: np.ndarray, b: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One through the root of the energy in the overlap at each offset, shapes (n_a, n_offsets), (n_b, n_offsets)."""
    t_a, t_b = a.shape[2], b.shape[2]
    total_a, total_b = (np.pad(np.square(x).sum(axis=1).cumsum(axis=1), ((0, 0), (1, 0))) for x in (a, b))
    energy_a = total_a[:, np.minimum(t_a, t_b + offsets)] - total_a[:, np.maximum(0, offsets)]
    energy_b = total_b[:, np.minimum(t_b, t_a - offsets)] - total_b[:, np.maximum(0, -offsets)]
    # A track without changes is similar to none.
    return tuple(np.where(x > 1, 1 / np.sqrt(x.clip(1)), 0) for x in (energy_a, energy_b))  # type: ignore[return-value]


def _by_length(fingerprints: Sequence[np.ndarray]) -> dict[int, list[int]]:
    """Group fingerprints by length in frames: the numbers of those of each length.

    Of one length many can be compared at once. Long ones are cut to whole seconds, so that there are few lengths.
    """
    per_second = round(1 / FRAME)
    numbers: dict[int, list[int]] = {}
    for number, values in enumerate(fingerprints):
        length = values.shape[1]
        length = length // per_second * per_second if length > 2 * OVERLAP / FRAME else length
        numbers.setdefault(length, []).append(number)
    return dict(sorted(numbers.items()))


class _Group:
    """The fingerprints of one length."""

    def __init__(self, fingerprints: Sequence[np.ndarray], numbers: Sequence[int], length: int):
        self._fingerprints, self.numbers, self.length = fingerprints, numbers, length

    def stack(self, members: Iterable[int]) -> np.ndarray:
        """Some of them, shape (n, N_BANDS, length), float32."""
        chosen = [self._fingerprints[self.numbers[member]][:, : self.length] for member in members]
        return np.stack(chosen).astype(np.float32) / _LEVELS


def _all_pairs(a: _Group, b: _Group, min_overlap: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs that agree at some offset, by an exact comparison of all; members of `a` and `b`."""
    values_a = a.stack(range(len(a.numbers)))
    values_b = values_a if a is b else b.stack(range(len(b.numbers)))
    for start, similarity, offsets in _similarities(values_a, values_b, min_overlap):
        overlap = np.minimum(a.length, b.length + offsets) - np.maximum(0, offsets)
        similarity /= _threshold(overlap).astype(np.float32)[:, None, None]
        rows, columns = np.nonzero(similarity.max(axis=0) >= 1)
        columns += start if a is b else 0
        for row, column in zip((rows + start).tolist(), columns.tolist(), strict=True):
            if a is not b or row < column:
                yield row, column


def find_near_duplicates(
    fingerprints: Sequence[np.ndarray], *, progress: Callable[..., Iterable] | None = None
) -> list[Pair]:
    """Find the pictures that show the same recording.

    Of up to some 2000 pictures of one length, every two are compared; of more, those that `StretchIndex` finds.

    Parameters
    ----------
    fingerprints : sequence of np.ndarray
        From `fingerprint`.
    progress : callable, optional
        Wraps what is iterated over, as `render.cli.progress` does, to show the progress.

    Returns
    -------
    pairs : list of Pair
        The most similar first; ``first < second`` in each.
    """
    groups = [_Group(fingerprints, numbers, length) for length, numbers in _by_length(fingerprints).items()]
    searches: list[tuple[_Group, _Group, int, Callable[[], Iterable[tuple[int, int]]]]] = []
    for place, a in enumerate(groups):
        for b in groups[place:]:
            min_overlap = _min_overlap(a.length, b.length)
            if min_overlap is None or (a is b and len(a.numbers) < 2):
                continue
            if len(a.numbers) * len(b.numbers) <= ALL_PAIRS:
                searches.append((a, b, min_overlap, partial(_all_pairs, a, b, min_overlap)))
                continue
            side_a = (a.stack, len(a.numbers))
            index = StretchIndex(side_a, side_a if a is b else (b.stack, len(b.numbers)), min_overlap)
            searches += [(a, b, min_overlap, partial(index.search, *block)) for block in index.blocks()]
    seen: set[int] = set()  # a number a pair: tuples would take twice the memory
    pairs: list[Pair] = []

    def number_of(first: int, second: int) -> int:
        return first * len(fingerprints) + second

    for a, b, min_overlap, search in (
        progress(searches, total=len(searches), desc="compare", unit="part") if progress else searches
    ):
        found = {(one, other) for one, other in search() if number_of(a.numbers[one], b.numbers[other]) not in seen}
        members = sorted(found)
        for at in range(0, len(members), _CHECKED):
            part = members[at : at + _CHECKED]
            numbers = [(a.numbers[one], b.numbers[other]) for one, other in part]
            seen.update(number_of(*pair) for pair in numbers)
            stacks = a.stack(one for one, _ in part), b.stack(other for _, other in part)
            pairs += _verify(numbers, *stacks, min_overlap)
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.first, pair.second))
