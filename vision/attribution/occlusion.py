"""Occlusion: how much of the evidence for a genre is lost when a place in the picture is replaced."""

import itertools

import numpy as np
import torch
from torch import nn

from vision.data.pixel_store import EVAL_BATCH, PixelStore

#: `look`'s finer grid: bands, and times of a track of up to as many windows.
BANDS, TIMES = 8, 6

#: What stands in for a place is drawn up to so often, as so many windows allow. On 7 real tracks, grids of one draw
#: correlated with those of another by 0.88, of two draws by 0.93.
DRAWS, EFFORT = 4, 64

#: Probabilities are taken to be no closer than this to 0 and 1, where float32 ends.
LEAST = 1e-6

#: Evidence, in bits, that chance alone takes and gives. `look` shows none where there is no more, instead of
#: noise at full brightness.
FAINT = 0.05

#: Content for an occluded place comes in pieces of this share of a window (0.3 s of 10 s).
PIECE = 1 / 32


def evidence(p):
    """Evidence for a genre in bits: the logarithm of its odds to base 2.

    One bit less halves the odds. Probabilities themselves saturate: losing half of the evidence takes one of
    0.999 down by 0.03 and one of 0.7 by 0.1, and sums over places would mean nothing.

    Parameters
    ----------
    p : np.ndarray, any shape, in [0, 1]
        Probabilities.
    """
    p = np.clip(np.asarray(p, np.float64), LEAST, 1 - LEAST)
    return np.log2(p / (1 - p))


def baseline(x, seed=0):
    """What a track's picture would show if no place in it were special.

    Whatever stands in for an occluded place must look like music: a network answers anything to what
    it has never met. Black or flat patches are such things. So the levels follow the straight line that most of the
    track's own long-term spectrum is near (Siegel's repeated medians: no single band moves it; spectra of music are
    close to straight in dB over Mel bands). Around it the track's own pieces of 0.3 s, less what their bands
    are on average, come in random order. What is lost is what can be special of a place: a band's level and its
    sustained partials, and when something happens. What stays is how rough a band is within a piece.

    Parameters
    ----------
    x : torch.Tensor, shape (channels, size, width), uint8
        A picture.
    seed : int
        Of the order. The same picture and seed always give the same.

    Returns
    -------
    x : torch.Tensor, shape (channels, size, width), uint8
    """
    from scipy.stats import siegelslopes

    pixels = x.numpy().astype(np.float32)
    _, size, width = pixels.shape
    spectrum = pixels.mean(axis=2)
    rows = np.arange(size) / size
    slope, level = np.array([siegelslopes(channel, rows)[:2] for channel in spectrum]).T
    line = slope[:, None] * rows + level[:, None]
    piece = max(1, round(size * PIECE))
    order = np.random.default_rng(seed).permutation(-(-width // piece))
    columns = (order[:, None] * piece + np.arange(piece)).reshape(-1)
    around = (pixels - spectrum[..., None])[..., columns[columns < width]]
    return torch.from_numpy((line[..., None] + around).round().clip(0, 255).astype(np.uint8))


def occlude(predict, x, *, bands, times):
    """Probabilities of a track as it is, and with each rectangle of a grid replaced by `neutral` content.

    Only windows that a rectangle touches are computed anew: ``bands * times`` windows, or ``bands`` times the track's
    windows where that is more; several times each, up to `DRAWS`, where `EFFORT` allows.

    Parameters
    ----------
    predict : callable
        A Store to probabilities (n, n_classes), such as `Predictor.probabilities`: each picture's are
        the mean over its windows, `Store.starts`.
    x : torch.Tensor, shape (channels, size, width), uint8
        The track's picture, as `Predictor.read` gives it.
    bands, times : int
        Rows and columns of the grid; at most as many as the picture has pixels.

    Returns
    -------
    whole : np.ndarray, shape (n_classes,), float64
        With nothing replaced.
    occluded : np.ndarray, shape (bands, times, n_classes), float64
        Row 0 is the top of the picture, the highest band. Means over the draws.

    Raises
    ------
    ValueError
        When the grid is finer than the picture.
    """
    _, size, width = x.shape
    if not (1 <= bands <= size and 1 <= times <= width):
        raise ValueError(f"a grid of {bands} bands and {times} times; the picture has {size} rows, {width} columns")
    rows = np.linspace(0, size, bands + 1).round().astype(int)
    columns = np.linspace(0, width, times + 1).round().astype(int)
    starts = PixelStore.of(x[None]).starts(0)
    draws = min(DRAWS, max(1, EFFORT // (bands * max(times, len(starts)))))

    def answers(windows):
        return np.asarray(predict(PixelStore.of(torch.stack(windows))), np.float64)

    def changed():
        for instead in (baseline(x, seed) for seed in range(draws)):
            for (number, start), time in itertools.product(enumerate(starts), range(times)):
                left, right = max(columns[time], start), min(columns[time + 1], start + size)
                for band in range(bands) if left < right else ():
                    window, row = x[..., start : start + size].clone(), slice(rows[band], rows[band + 1])
                    window[:, row, left - start : right - start] = instead[:, row, left:right]
                    yield number, band, time, window

    parts = [starts[first : first + EVAL_BATCH] for first in range(0, len(starts), EVAL_BATCH)]
    plain = np.concatenate([answers([x[..., start : start + size] for start in part]) for part in parts])
    whole = plain.mean(axis=0)
    occluded = np.tile(whole, (bands, times, 1))
    todo = changed()
    while part := list(itertools.islice(todo, EVAL_BATCH)):
        for (number, band, time, _), p in zip(part, answers([entry[-1] for entry in part]), strict=True):
            occluded[band, time] += (p - plain[number]) / len(starts) / draws
    return whole, occluded


def occlusion(predict, x, label, *, bands, times):
    """How much evidence for a genre is lost when a rectangle of the picture is replaced.

    It covers the whole answer, whatever gives it: windows, several networks, texture statistics, no gradients.

    Parameters
    ----------
    predict, x, bands, times
        As for `occlude`.
    label : int
        The genre.

    Returns
    -------
    drop : np.ndarray, shape (bands, times), float32
        In bits, see `evidence`: 1 where the genre's odds are halved, negative where the place speaks
        against it. What is missing from a place can speak for a genre too. Row 0 is the highest band.

    Raises
    ------
    ValueError
        As `occlude`.
    """
    whole, occluded = occlude(predict, x, bands=bands, times=times)
    return (evidence(whole[label]) - evidence(occluded[..., label])).astype(np.float32)


def saliency(predictor, x, label):
    """Where a track's answer comes from, for showing: the one answer to "what did it look at".

    Occlusion of the whole model on two grids, added and made smooth. It costs about 100 windows for tracks of up
    to 12 windows, and 8 times what predicting them does for longer ones.

    Parameters
    ----------
    predictor : Predictor
        Anything with its `probabilities`.
    x : torch.Tensor, shape (channels, size, width), uint8
        As `Predictor.read` gives it.
    label : int
        The genre to explain, usually the likeliest.

    Returns
    -------
    heat : np.ndarray, shape (size, width), float32
        In [0, 1]: 1 where most evidence is lost, 0 where none is, or where the place speaks against the genre.
        0 everywhere where no single place matters.
    """
    n = len(PixelStore.of(x[None]).starts(0))
    # What sounds all the time is not missed for a moment: bands are hidden for whole windows as well.
    grids = {n, min(n * max(1, TIMES // n), x.shape[2])}
    drop = torch.zeros(x.shape[1:])
    for times in grids:
        found = occlusion(predictor.probabilities, x, label, bands=min(BANDS, x.shape[1]), times=times)
        drop += nn.functional.interpolate(torch.from_numpy(found)[None, None], size=drop.shape, mode="bilinear")[0, 0]
    return _to_one(drop.clamp_min(0).numpy()) * (drop.max().item() > FAINT)


def _to_one(heat):
    """Scale what is not negative to a maximum of 1; nothing but zeros stay zeros."""
    top = heat.max()
    return heat / top if top > 0 else heat
