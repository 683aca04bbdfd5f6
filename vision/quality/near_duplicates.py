"""Which pictures show the same recording: a fingerprint each, and all of them compared at every time offset.

Equal pixels are not asked for. What is compared is how each band rises and falls against the others, so
that another colormap, level range, size or encoding changes little. The frequency axes must agree.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import fft
from scipy.ndimage import uniform_filter1d

from render.cli import progress

N_BANDS = 32

#: Length of a fingerprint's frame, and how much of a long track is compared.
FRAME, LONGEST = 0.15, 90.0

#: What is slower than this, say a long note or a fade, is taken out: it makes strangers alike.
SLOW = 3.0

#: Excerpts must have so much in common, in seconds; shorter tracks so large a part, and no less than `SHORTEST`.
OVERLAP, SHARE, SHORTEST = 10.0, 0.8, 3.0

#: Similarity from which two pictures show one recording, and by how much it must be above that at any other
#: offset: different tracks over one loop agree at many. On 709 GTZAN tracks the 52 pairs found were all of one
#: artist and title (0.39 and more); the best of the other 250 934 pairs was 0.29.
SIMILAR, DISTINCT = 0.35, 0.1

#: From here on one offset need not stand out: a recording that repeats itself agrees with itself at many.
SURE = 0.9

#: Offsets within so many frames are one.
_NEIGHBOURS = 4

#: Bytes that a block of correlations may take.
_BLOCK = 1 << 26


@dataclass(frozen=True)
class Pair:
    """Two pictures of one recording.

    Attributes
    ----------
    first, second : int
        Which two.
    similarity : float
        Correlation of what they have in common, at most 1.
    offset : float
        Seconds by which the second begins later in the recording; negative: earlier.
    overlap : float
        Seconds that they have in common.
    """

    first: int
    second: int
    similarity: float
    offset: float
    overlap: float


def fingerprint(levels, seconds):
    """Reduce a picture to what two pictures of one recording have in common.

    Parameters
    ----------
    levels : np.ndarray, shape (h, w), uint8
        Without margins; the rows are frequencies, the columns time.
    seconds : float
        Length of track that the picture spans; what is beyond `LONGEST` is left out.

    Returns
    -------
    values : np.ndarray, shape (N_BANDS, n_frames), float32
        Each band against its own course and against the other bands, at even loudness. All zero where
        nothing changes.
    """
    width = max(1, round(levels.shape[1] * min(1, LONGEST / seconds)))
    n_frames = max(1, int(min(seconds, LONGEST) / FRAME + 0.5))
    image = Image.fromarray(np.ascontiguousarray(levels[:, :width])).convert("F")
    values = np.asarray(image.resize((n_frames, N_BANDS), Image.Resampling.BOX))
    slow = round(SLOW / FRAME)
    values = values - uniform_filter1d(values, slow, axis=1, mode="nearest")
    # An onset brightens all bands: two tracks of one tempo would agree in that alone.
    values -= values.mean(axis=0)
    values /= values.std(axis=1, keepdims=True).clip(2)
    np.clip(values, -3, 3, out=values)
    loudness = np.sqrt(uniform_filter1d(np.square(values).mean(axis=0), slow, mode="nearest").clip(0))
    return values / loudness.clip(0.3)


def _least(a, b):
    """Frames that tracks of `a` and `b` frames must have in common; None where they are too short."""
    shorter = min(a, b) * FRAME
    seconds = min(OVERLAP, shorter * SHARE)
    return round(seconds / FRAME) if seconds >= SHORTEST else None


def _asked(overlap):
    """Similarity asked for at so many frames in common: the fewer, the likelier is a chance agreement."""
    return SIMILAR * np.sqrt(np.maximum(1, OVERLAP / (overlap * FRAME)))


def _similarities(a, b, least):
    """Similarity of each of some tracks to each of others, at each offset.

    Parameters
    ----------
    a, b : np.ndarray, shapes (n_a, N_BANDS, t_a) and (n_b, N_BANDS, t_b), float32
        Fingerprints of one length each. Where both are the same array, each two are compared once.
    least : int
        Frames that must be in common.

    Yields
    ------
    start : int
        The tracks of `a` from here on are in this block.
    similarity : np.ndarray, shape (n_offsets, n_block, n_b), float32
        Normalised by what is in common at that offset only. Of the same array, `b` from `start` on.
    offsets : np.ndarray, shape (n_offsets,), int
        In frames: ``b`` begins so much later than ``a``.
    """
    t_a, t_b = a.shape[2], b.shape[2]
    size = fft.next_fast_len(t_a + t_b, real=True)
    offsets = np.arange(least - t_b, t_a - least + 1)
    # One product of matrices a frequency: all pairs and all bands at once.
    of_a, of_b = (np.ascontiguousarray(fft.rfft(x, size, axis=2).transpose(2, 0, 1)) for x in (a, b))
    of_b = of_b.conj().transpose(0, 2, 1)
    total_a, total_b = (np.pad(np.square(x).sum(axis=1).cumsum(axis=1), ((0, 0), (1, 0))) for x in (a, b))
    energy_a = total_a[:, np.minimum(t_a, t_b + offsets)] - total_a[:, np.maximum(0, offsets)]
    energy_b = total_b[:, np.minimum(t_b, t_a - offsets)] - total_b[:, np.maximum(0, -offsets)]
    with np.errstate(divide="ignore"):
        # A track that holds still is like no other.
        scale_a, scale_b = (np.where(x > 1, 1 / np.sqrt(x.clip(1)), 0).T for x in (energy_a, energy_b))
    step = max(1, _BLOCK // (8 * size * len(b)))
    for start in range(0, len(a), step):
        block = slice(start, start + step)
        others = slice(start if a is b else 0, None)
        similarity = fft.irfft(of_a[:, block] @ of_b[:, :, others], size, axis=0, overwrite_x=True)[offsets]
        similarity *= scale_a[:, block, None]
        similarity *= scale_b[:, None, others]
        yield start, similarity, offsets


def _judge(first, second, a, b, least):
    """The pair, if one offset stands out, of two fingerprints that agree at some offset."""
    _, similarity, offsets = next(_similarities(a[None], b[None], least))
    similarity = similarity[:, 0, 0]
    best = int(similarity.argmax())
    elsewhere = np.delete(similarity, range(max(0, best - _NEIGHBOURS), min(len(offsets), best + _NEIGHBOURS + 1)))
    value, offset = float(similarity[best]), int(offsets[best])
    overlap = min(a.shape[1], b.shape[1] + offset) - max(0, offset)
    if value < _asked(overlap) or (value < SURE and len(elsewhere) and value - elsewhere.max() < DISTINCT):
        return None
    return Pair(first, second, min(1.0, value), round(offset * FRAME, 2), round(overlap * FRAME, 2))


def find_similar(fingerprints):
    """Find the pictures that show the same recording.

    The work grows with the square of their number: 1000 tracks of 30 s take some 5 s on one core.

    Parameters
    ----------
    fingerprints : list of np.ndarray
        From `fingerprint`.

    Returns
    -------
    pairs : list of Pair
        The most similar first; ``first < second`` in each.
    """
    # Of equal lengths many can be compared at once; whole seconds make few lengths of many.
    per_second = round(1 / FRAME)
    by_length = {}
    for number, values in enumerate(fingerprints):
        length = values.shape[1]
        length = length // per_second * per_second if length > 2 * OVERLAP / FRAME else length
        by_length.setdefault(length, []).append(number)
    groups = {
        length: (np.array(numbers), np.stack([fingerprints[number][:, :length] for number in numbers]))
        for length, numbers in sorted(by_length.items())
    }
    tasks = [(one, other) for one in groups for other in groups if one <= other and _least(one, other)]
    pairs = []
    for one, other in progress(tasks, total=len(tasks), desc="compare", unit="length"):
        least = _least(one, other)
        (numbers_a, a), (numbers_b, b) = groups[one], groups[other]
        for start, similarity, offsets in _similarities(a, b, least):
            overlap = np.minimum(one, other + offsets) - np.maximum(0, offsets)
            similarity /= _asked(overlap).astype(np.float32)[:, None, None]
            rows, columns = np.nonzero(similarity.max(axis=0) >= 1)
            columns += start if one == other else 0
            for row, column in zip((rows + start).tolist(), columns.tolist(), strict=True):
                if one == other and row >= column:
                    continue
                found = _judge(int(numbers_a[row]), int(numbers_b[column]), a[row], b[column], least)
                if found and found.first > found.second:
                    found = Pair(found.second, found.first, found.similarity, -found.offset, found.overlap)
                pairs += [found] if found else []
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.first, pair.second))
