"""Genre over time: windows along a track, and the parts of one genre that they make up."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from render import atomic
from vision.data.pixel_store import EVAL_BATCH, PixelStore

if TYPE_CHECKING:
    from vision.inference.predictor import Prediction, Predictor, Scorer

#: Windows along one track at most: one a second up to 12 minutes, every 5 seconds of an hour, every 10 of two. Where
#: that would leave gaps between windows, there are as many as it takes to cover the track.
MAX_WINDOWS = 720

#: Cost of a change of genre, as a logarithm of probability: a change that two consecutive windows do not clearly
#: support is taken for noise.
CHANGE_COST = 1.0


class Segment(NamedTuple):
    """A part of a track that is of one genre.

    Attributes
    ----------
    start, end : float, in seconds
    label : int
        The genre.
    p : float
        Its mean probability there.
    """

    start: float
    end: float
    label: int
    p: float


def timeline(predictor: "Scorer", x: torch.Tensor, seconds: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Compute the probabilities of the genres along a track.

    A model of windows gets one every second (every half window where windows are shorter than 2 s), of long tracks
    fewer: see `MAX_WINDOWS`. A model of whole tracks gets pieces that are about as long as its train tracks were.

    Parameters
    ----------
    predictor : Scorer
        The model, such as a `Predictor`.
    x : torch.Tensor, shape (channels, size, width), uint8
        From `Predictor.read`.
    seconds : float, optional
        Length of the track; by default what the width of `x` stands for.

    Returns
    -------
    times : np.ndarray, shape (n, 2), float32
        Start and end of each window in seconds, in order, evenly spaced. A track shorter than one window was repeated
        to fill it: one row, as long as the track.
    probabilities : np.ndarray, shape (n, n_classes), float32
        Rows sum to 1.
    """
    spec = predictor.spec
    size, width = x.shape[1:]
    per_pixel = spec.seconds_per_pixel
    n = math.ceil(width / size)
    if spec.window and width > size:
        step = min(1.0, spec.window / 2)
        n = max(n, min(MAX_WINDOWS, 1 + math.ceil((width - size) * per_pixel / step)))
    starts = torch.linspace(0, width - size, n).round().long().tolist()
    track = PixelStore.of(x[None])
    batches = [starts[first : first + EVAL_BATCH] for first in range(0, n, EVAL_BATCH)]
    parts = [predictor.probabilities(PixelStore.of(track.cut([0] * len(batch), batch))) for batch in batches]
    times = np.array([[start, start + size] for start in starts]) * per_pixel
    if seconds is not None:
        times = times.clip(max=seconds) if spec.window else times * (seconds / (width * per_pixel))
    return times.astype(np.float32), np.concatenate(parts).astype(np.float32)


def predict_over_time(
    predictor: "Predictor", path: str | Path
) -> tuple["Prediction", np.ndarray | None, np.ndarray | None]:
    """Predict one file as a whole and along its time.

    Parameters
    ----------
    predictor : Predictor
        The model.
    path : str or Path
        A picture, or audio.

    Returns
    -------
    prediction : Prediction
        Of the whole file, as `Predictor.predict` returns it.
    times, probabilities : np.ndarray or None
        As `timeline` returns them; None where the file could not be used.
    """
    prediction, x = predictor.attempt(path)
    if x is None:
        return prediction, None, None
    predictor.complete([prediction], predictor.answers(PixelStore.of(x[None])))
    return prediction, *timeline(predictor, x, prediction.seconds)


def edges(times: np.ndarray) -> np.ndarray:
    """Return where the time that each window stands for begins and ends: halfway between the middles of neighbours.

    Parameters
    ----------
    times : np.ndarray, shape (n, 2)
        From `timeline`.

    Returns
    -------
    edges : np.ndarray, shape (n + 1,), in seconds
        From the start of the first window to the end of the last.
    """
    middles = times.mean(axis=1)
    return np.concatenate([times[:1, 0], (middles[1:] + middles[:-1]) / 2, times[-1:, 1]])


def segments(times: np.ndarray, probabilities: np.ndarray) -> list[Segment]:
    """Divide a track into parts of one genre: the most probable sequence of genres when each change has a cost.

    The sequence is found by dynamic programming (Viterbi, 1967) with log-probabilities as scores and `CHANGE_COST` for
    each change. Windows that overlap share music, so each counts by the share of it that is new.

    Parameters
    ----------
    times, probabilities : np.ndarray
        From `timeline`.

    Returns
    -------
    segments : list of Segment
        In order, without gaps; neighbours differ in genre.
    """
    new_share = 1.0
    if len(times) > 1:
        new_share = min(1.0, (times[-1, 0] - times[0, 0]) / (len(times) - 1) / (times[0, 1] - times[0, 0]))
    scores = np.log(np.clip(probabilities.astype(np.float64), 1e-3, 1)) * new_share
    best, previous = scores[0], []
    for row in scores[1:]:
        after_change = best.max() - CHANGE_COST
        previous.append(np.where(best >= after_change, np.arange(len(best)), best.argmax()))
        best = np.maximum(best, after_change) + row
    path = [int(best.argmax())]
    for came_from in reversed(previous):
        path.append(int(came_from[path[-1]]))
    labels = np.array(path[::-1])
    bounds = np.flatnonzero(np.diff(labels)) + 1
    at = edges(times)
    return [
        Segment(
            float(at[first]), float(at[last]), int(labels[first]),
            float(probabilities[first:last, labels[first]].mean()),
        )
        for first, last in zip([0, *bounds], [*bounds, len(labels)], strict=True)
    ]  # fmt: skip


def clock(seconds: float, digits: int = 0, *, hours: bool = False) -> str:
    """Format a time as ``3:07``, or from an hour on ``1:03:07``.

    Parameters
    ----------
    seconds : float
        The time.
    digits : int
        Decimals of the seconds.
    hours : bool
        Show the hours even if there are none.
    """
    seconds = round(seconds, digits)
    minutes, rest = divmod(seconds, 60)
    padded = f"{rest:0{3 + digits if digits else 2}.{digits}f}"
    hour, minutes = divmod(int(minutes), 60)
    return f"{hour}:{minutes:02}:{padded}" if hour or hours else f"{minutes}:{padded}"


def write_timeline(path: str | Path, times: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> None:
    """Write the start and end of each window in seconds, and its probabilities, as a CSV table.

    Parameters
    ----------
    path : str or Path
        CSV file to write.
    times, probabilities : np.ndarray
        From `timeline`.
    classes : sequence of str
        Genres.
    """
    rows = (
        [f"{start:.3f}", f"{end:.3f}", *(f"{p:.4f}" for p in row)]
        for (start, end), row in zip(times, probabilities, strict=True)
    )
    atomic.write_csv(path, ["start", "end", *classes], rows)
