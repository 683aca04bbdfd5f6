"""Occlusion: how much of the evidence for a genre is lost when a part of the picture is replaced."""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from vision.data.pixel_store import EVAL_BATCH, PixelStore

if TYPE_CHECKING:
    from vision.inference.predictor import Scorer

#: The finer grid of `saliency`: bands, and times of a track of up to as many windows.
BANDS, TIMES = 8, 6

#: Random baselines that are averaged at most, and the number of windows above which there are fewer. On 7 real tracks,
#: grids of one baseline correlated with those of another by 0.88, of two baselines by 0.93.
MAX_DRAWS, DRAW_BUDGET = 4, 64

#: Probabilities are clipped this far from 0 and 1, where float32 ends.
MIN_P = 1e-6

#: Stretches of a song of more windows than so many that are occluded, one at a time.
LONGEST = 12

#: Evidence, in bits, that is lost or gained by chance. Where there is no more, `saliency` returns zeros instead of
#: noise scaled to 1.
NOISE_BITS = 0.05

#: The baseline is made of pieces of the track, each this fraction of a window long (0.3 s of 10 s).
PIECE = 1 / 32


def evidence(p: np.ndarray) -> np.ndarray:
    """Return the evidence for a genre in bits: the logarithm of its odds to base 2.

    One bit less halves the odds. Probabilities themselves saturate: losing half of the evidence lowers a probability of
    0.999 by 0.03 and one of 0.7 by 0.1, and sums over the parts of a picture would mean nothing.

    Parameters
    ----------
    p : np.ndarray, any shape, in [0, 1]
        Probabilities.

    Returns
    -------
    bits : np.ndarray, same shape, float64
        0 at a probability of 0.5, within about 20 of 0.
    """
    p = np.clip(np.asarray(p, np.float64), MIN_P, 1 - MIN_P)
    return np.log2(p / (1 - p))


def baseline(x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Return a track's picture without anything specific to a band or a time, to replace occluded parts with.

    The replacement must look like music, because a network's answer to pictures unlike its training set, such as black
    or flat patches, is arbitrary. So the levels follow a straight line fitted to the track's own long-term spectrum
    (Siegel's repeated medians, which no single band moves; spectra of music are close to straight in dB over Mel
    bands). Added to it are the track's own pieces of 0.3 s, minus the mean of each band, in random order. This removes
    what can be specific to a part of the picture: the level of a band, its sustained partials, and when something
    happens. It keeps how much a band varies within a piece.

    Parameters
    ----------
    x : torch.Tensor, shape (channels, size, width), uint8
        A picture.
    seed : int
        Seed of the order. The same picture and seed always give the same baseline.

    Returns
    -------
    baseline : torch.Tensor, shape (channels, size, width), uint8
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
    residual = (pixels - spectrum[..., None])[..., columns[columns < width]]
    return torch.from_numpy((line[..., None] + residual).round().clip(0, 255).astype(np.uint8))


def occlude(
    predict: Callable[[PixelStore], np.ndarray], x: torch.Tensor, *, bands: int, times: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the probabilities of a track, and those with each rectangle of a grid replaced by its `baseline`.

    Only windows that a rectangle overlaps are computed again: ``bands * times`` windows, or ``bands`` times the track's
    windows where that is more. Each is computed with several random baselines, up to `MAX_DRAWS`, as far as that stays
    within `DRAW_BUDGET` windows.

    Parameters
    ----------
    predict : callable
        A PixelStore to probabilities (n, n_classes), such as `Predictor.probabilities`: each picture's are
        the mean over its windows, `PixelStore.starts`.
    x : torch.Tensor, shape (channels, size, width), uint8
        The track's picture, from `Predictor.read`.
    bands, times : int
        Rows and columns of the grid; at most as many as the picture has pixels.

    Returns
    -------
    whole : np.ndarray, shape (n_classes,), float64
        Without occlusion.
    occluded : np.ndarray, shape (bands, times, n_classes), float64
        Row 0 is the top of the picture, the highest band. Means over the random baselines.

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
    draws = min(MAX_DRAWS, max(1, DRAW_BUDGET // (bands * max(times, len(starts)))))

    def predict_windows(windows):
        return np.asarray(predict(PixelStore.of(torch.stack(windows))), np.float64)

    def occluded_windows():
        for replacement in (baseline(x, seed) for seed in range(draws)):
            for (number, start), time in itertools.product(enumerate(starts), range(times)):
                left, right = max(columns[time], start), min(columns[time + 1], start + size)
                for band in range(bands) if left < right else ():
                    window, row = x[..., start : start + size].clone(), slice(rows[band], rows[band + 1])
                    window[:, row, left - start : right - start] = replacement[:, row, left:right]
                    yield number, band, time, window

    parts = [starts[first : first + EVAL_BATCH] for first in range(0, len(starts), EVAL_BATCH)]
    plain = np.concatenate([predict_windows([x[..., start : start + size] for start in part]) for part in parts])
    whole = plain.mean(axis=0)
    occluded = np.tile(whole, (bands, times, 1))
    remaining = occluded_windows()
    while part := list(itertools.islice(remaining, EVAL_BATCH)):
        for (number, band, time, _), p in zip(part, predict_windows([entry[-1] for entry in part]), strict=True):
            occluded[band, time] += (p - plain[number]) / len(starts) / draws
    return whole, occluded


def occlusion(
    predict: Callable[[PixelStore], np.ndarray], x: torch.Tensor, label: int, *, bands: int, times: int
) -> np.ndarray:
    """Compute how much evidence for a genre is lost when a rectangle of the picture is replaced.

    It explains the whole prediction, whatever computes it (windows, several networks, texture statistics), because it
    needs no gradients.

    Parameters
    ----------
    predict, x, bands, times
        As for `occlude`.
    label : int
        The genre.

    Returns
    -------
    drop : np.ndarray, shape (bands, times), float32
        In bits, see `evidence`: 1 where the genre's odds are halved, negative where the rectangle is evidence against
        it. That something is absent can be evidence for a genre too. Row 0 is the highest band.

    Raises
    ------
    ValueError
        As `occlude`.
    """
    whole, occluded = occlude(predict, x, bands=bands, times=times)
    return (evidence(whole[label]) - evidence(occluded[..., label])).astype(np.float32)


def saliency(predictor: "Scorer", x: torch.Tensor, label: int) -> np.ndarray:
    """Compute which parts of a picture a prediction is based on, as a smooth map to show.

    It is the sum of `occlusion` on two grids, interpolated. It costs about 100 windows for tracks of up to 12 windows,
    and 8 times as much as predicting them for longer ones.

    Parameters
    ----------
    predictor : Scorer
        Such as a `Predictor`.
    x : torch.Tensor, shape (channels, size, width), uint8
        From `Predictor.read`.
    label : int
        The genre to explain, usually the predicted one.

    Returns
    -------
    heat : np.ndarray, shape (size, width), float32
        In [0, 1]: 1 where most evidence is lost, 0 where none is, or where there is evidence against the genre.
        0 everywhere if no single part matters.
    """
    n = len(PixelStore.of(x[None]).starts(0))
    # A sound that never stops is not missed when it is hidden for a moment: bands are occluded for whole windows too.
    # Of a long song no single window matters much to the whole: what is occluded there is longer stretches.
    grids = {min(n, LONGEST), min(n * max(1, TIMES // n), x.shape[2]) if n <= LONGEST else LONGEST}
    drop = torch.zeros(x.shape[1:])
    for times in grids:
        grid = occlusion(predictor.probabilities, x, label, bands=min(BANDS, x.shape[1]), times=times)
        drop += nn.functional.interpolate(torch.from_numpy(grid)[None, None], size=drop.shape, mode="bilinear")[0, 0]
    return scale_to_one(drop.clamp_min(0).numpy()) * (drop.max().item() > NOISE_BITS)


def scale_to_one(heat: np.ndarray) -> np.ndarray:
    """Scale non-negative values to a maximum of 1; zeros alone stay zeros."""
    top = heat.max()
    return heat / top if top > 0 else heat
