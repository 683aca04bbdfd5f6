"""Near-duplicates: pictures that show the same recording though their pixels differ.

How it works
------------
Each picture is reduced to a fingerprint (`fingerprint`): 32 bands, a frame every 0.15 s. In it each band is
compared with its own moving average and with the mean of all bands, and loudness is evened out. So another
colormap, level range, size or encoding changes little, and neither do steady tones nor onsets that all music of one
tempo shares. The frequency axes must agree.

Every two fingerprints are then compared at every time offset at which they share enough (10 s, or 80 % of the
shorter). The similarity at an offset is the normalised cross-correlation of what is shared: the sum of products
over bands and frames, divided by the square root of both energies in the overlap. Products at all offsets come from
one FFT a fingerprint and one matrix product a frequency, for many pairs at once. The energies come from cumulative
sums.

A pair is reported when its best similarity is at least `SIMILAR` (more where little is shared, because chance
agreement is likelier there) and stands out by `DISTINCT` from every other offset. Tracks that only share a loop
agree at many offsets and are not reported. Equal pixels are found elsewhere, by their hash.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import fft
from scipy.ndimage import uniform_filter1d

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
    values : np.ndarray, shape (N_BANDS, n_frames), float32
        Each band minus its moving average and the mean over bands, at even loudness. All zero where nothing changes.
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
    return values / loudness.clip(0.3)


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
    total_a, total_b = (np.pad(np.square(x).sum(axis=1).cumsum(axis=1), ((0, 0), (1, 0))) for x in (a, b))
    energy_a = total_a[:, np.minimum(t_a, t_b + offsets)] - total_a[:, np.maximum(0, offsets)]
    energy_b = total_b[:, np.minimum(t_b, t_a - offsets)] - total_b[:, np.maximum(0, -offsets)]
    with np.errstate(divide="ignore"):
        # A track without changes is similar to none.
        scale_a, scale_b = (np.where(x > 1, 1 / np.sqrt(x.clip(1)), 0).T for x in (energy_a, energy_b))
    step = max(1, _BLOCK // (8 * size * len(b)))
    for start in range(0, len(a), step):
        block = slice(start, start + step)
        others = slice(start if a is b else 0, None)
        similarity = fft.irfft(spectra_a[:, block] @ spectra_b[:, :, others], size, axis=0, overwrite_x=True)[offsets]
        similarity *= scale_a[:, block, None]
        similarity *= scale_b[:, None, others]
        yield start, similarity, offsets


def _verify(first: int, second: int, a: np.ndarray, b: np.ndarray, min_overlap: int) -> Pair | None:
    """Return the pair of two fingerprints that agree at some offset, if that offset stands out."""
    _, similarity, offsets = next(_similarities(a[None], b[None], min_overlap))
    similarity = similarity[:, 0, 0]
    best = int(similarity.argmax())
    elsewhere = np.delete(similarity, range(max(0, best - _NEIGHBOURS), min(len(offsets), best + _NEIGHBOURS + 1)))
    value, offset = float(similarity[best]), int(offsets[best])
    overlap = min(a.shape[1], b.shape[1] + offset) - max(0, offset)
    if value < _threshold(overlap) or (value < CERTAIN and len(elsewhere) and value - elsewhere.max() < DISTINCT):
        return None
    value, offset_s, overlap_s = min(1.0, value), round(offset * FRAME, 2), round(overlap * FRAME, 2)
    if first > second:
        return Pair(second, first, value, -offset_s, overlap_s)
    return Pair(first, second, value, offset_s, overlap_s)


def _by_length(fingerprints: Sequence[np.ndarray]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Group fingerprints by length in frames: for each length their indices and the fingerprints, stacked.

    Of one length many can be compared at once. Long ones are cut to whole seconds, so that there are few lengths.
    """
    per_second = round(1 / FRAME)
    indices: dict[int, list[int]] = {}
    for index, values in enumerate(fingerprints):
        length = values.shape[1]
        length = length // per_second * per_second if length > 2 * OVERLAP / FRAME else length
        indices.setdefault(length, []).append(index)
    return {
        length: (np.array(members), np.stack([fingerprints[index][:, :length] for index in members]))
        for length, members in sorted(indices.items())
    }


def find_near_duplicates(
    fingerprints: Sequence[np.ndarray], *, progress: Callable[..., Iterable] | None = None
) -> list[Pair]:
    """Find the pictures that show the same recording.

    The work grows with the square of their number: 1000 tracks of 30 s take some 5 s on one core.

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
    groups = _by_length(fingerprints)
    pairs_of_lengths = [(one, other) for one in groups for other in groups if one <= other]
    tasks = [(*lengths, frames) for lengths in pairs_of_lengths if (frames := _min_overlap(*lengths))]
    pairs = []
    for one, other, min_overlap in (
        progress(tasks, total=len(tasks), desc="compare", unit="length") if progress else tasks
    ):
        (indices_a, a), (indices_b, b) = groups[one], groups[other]
        for start, similarity, offsets in _similarities(a, b, min_overlap):
            overlap = np.minimum(one, other + offsets) - np.maximum(0, offsets)
            similarity /= _threshold(overlap).astype(np.float32)[:, None, None]
            rows, columns = np.nonzero(similarity.max(axis=0) >= 1)
            columns += start if one == other else 0
            for row, column in zip((rows + start).tolist(), columns.tolist(), strict=True):
                if one == other and row >= column:
                    continue
                pair = _verify(int(indices_a[row]), int(indices_b[column]), a[row], b[column], min_overlap)
                pairs += [pair] if pair else []
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.first, pair.second))
