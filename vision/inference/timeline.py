"""Genre over time: windows along a track, and the stretches of one genre that they add up to."""

import csv
import math

import numpy as np
import torch

from render import atomic
from vision.data.pixel_store import EVAL_BATCH, PixelStore

#: Windows along one track: every second up to 12 minutes, every 5 seconds of an hour, every 10 of two. Where
#: so few would leave gaps, there are as many as it takes to hear everything.
MAX_WINDOWS = 720

#: What a change of genre costs, as a logarithm of probability: one that two windows in a row do not speak
#: for clearly is noise.
SWITCH = 1.0


def timeline(predictor, x):
    """Probabilities of the genres along a track.

    A model of windows hears one every second (every half window where windows are shorter than 2 s), of long
    tracks fewer: see `MAX_WINDOWS`. A model of whole tracks gives one answer for each piece that is as long as its
    train tracks were, and its times are such multiples: up to a quarter off in a track of two pieces, a
    tenth in one of five.

    Parameters
    ----------
    predictor : Predictor
        The model.
    x : torch.Tensor, shape (channels, size, width), uint8
        From `Predictor.read` or `Predictor.read_samples`.

    Returns
    -------
    times : np.ndarray, shape (n, 2), float32
        Start and end of each window in seconds, in order, evenly stepped. A track shorter than one window was
        repeated to fill it: one row.
    probabilities : np.ndarray, shape (n, n_classes), float32
        Rows sum to 1.
    """
    spec = predictor.spec
    size, width = x.shape[1:]
    seconds = spec.seconds_per_pixel
    n = math.ceil(width / size)
    if spec.window and width > size:
        step = min(1.0, spec.window / 2)
        n = max(n, min(MAX_WINDOWS, 1 + math.ceil((width - size) * seconds / step)))
    starts = torch.linspace(0, width - size, n).round().long().tolist()
    track = PixelStore.of(x[None])
    parts = [starts[at : at + EVAL_BATCH] for at in range(0, n, EVAL_BATCH)]
    found = [predictor.probabilities(PixelStore.of(track.cut([0] * len(part), part))) for part in parts]
    times = np.array([[start, start + size] for start in starts]) * seconds
    return times.astype(np.float32), np.concatenate(found).astype(np.float32)


def predict_over_time(predictor, path):
    """Predict one file, and along it.

    Parameters
    ----------
    predictor : Predictor
        The model.
    path : Path
        A picture, or audio.

    Returns
    -------
    prediction : Prediction
        Of the whole file, as `Predictor.predict` gives it.
    times, probabilities : np.ndarray or None
        As of `timeline`; None where the file could not be used.
    """
    prediction, x = predictor.attempt(path)
    if x is None:
        return prediction, None, None
    prediction.p = predictor.probabilities(PixelStore.of(x[None]))[0]
    return prediction, *timeline(predictor, x)


def edges(times):
    """Where the time that each window speaks for begins and ends: halfway between the middles of neighbours.

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


def segments(times, probabilities):
    """Stretches of one genre: the likeliest course of a track that does not change its genre for nothing.

    Windows that overlap hear the same music, so each counts by the time that it adds; a change costs
    `SWITCH` (Viterbi, 1967). Two neighbouring stretches are never of one genre.

    Parameters
    ----------
    times, probabilities : np.ndarray
        From `timeline`.

    Returns
    -------
    found : list of (float, float, int, float)
        Start and end in seconds, the genre's number, and its mean probability there.
    """
    share = 1.0
    if len(times) > 1:
        share = min(1.0, (times[-1, 0] - times[0, 0]) / (len(times) - 1) / (times[0, 1] - times[0, 0]))
    told = np.log(np.clip(probabilities.astype(np.float64), 1e-3, 1)) * share
    best, before = told[0], []
    for row in told[1:]:
        changed = best.max() - SWITCH
        before.append(np.where(best >= changed, np.arange(len(best)), best.argmax()))
        best = np.maximum(best, changed) + row
    course = [int(best.argmax())]
    for came_from in reversed(before):
        course.append(int(came_from[course[-1]]))
    course = np.array(course[::-1])
    bounds = np.flatnonzero(np.diff(course)) + 1
    at = edges(times)
    return [
        (float(at[first]), float(at[last]), int(course[first]), float(probabilities[first:last, course[first]].mean()))
        for first, last in zip([0, *bounds], [*bounds, len(course)], strict=True)
    ]


def clock(seconds, digits=0, *, hours=False):
    """Seconds as people read them: ``3:07``, or from an hour on and with `hours` ``1:03:07``; `digits` decimals."""
    seconds = round(seconds, digits)
    minutes, rest = divmod(seconds, 60)
    rest = f"{rest:0{3 + digits if digits else 2}.{digits}f}"
    hour, minutes = divmod(int(minutes), 60)
    return f"{hour}:{minutes:02}:{rest}" if hour or hours else f"{minutes}:{rest}"


def write_csv(path, times, probabilities, classes):
    """Write each window's start and end in seconds and its probabilities, whole or not at all."""
    with atomic.replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["start", "end", *classes])
        for (start, end), row in zip(times, probabilities, strict=True):
            writer.writerow([f"{start:.3f}", f"{end:.3f}", *(f"{p:.4f}" for p in row)])
