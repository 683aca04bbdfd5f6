"""Calibrated probabilities: one temperature, fitted to the dev tracks; and from which on an answer is given."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from vision.data.dataset import Pictures
from vision.data.pixel_store import PixelStore
from vision.inference.predictor import Answers
from vision.inference.windows import predict_windows
from vision.models.classifier import GenreClassifier
from vision.models.thresholds import Thresholds, fit_thresholds
from vision.reports.metrics import by_track

#: With fewer tracks, or without a mistake among them, a temperature cannot be estimated.
LEAST = 50

#: The temperature stays between its inverse and this.
FURTHEST = 4.0


def calibrate(model: GenreClassifier, x: PixelStore, y: torch.Tensor, tracks: Sequence[int] | None = None) -> float:
    """Set a model's temperature so that its probabilities fit the tracks best.

    Mixup and label smoothing make a network under-confident. After Guo et al., "On Calibration of
    Modern Neural Networks" (2017), the logits are divided by the one number that gives the least
    negative log likelihood; here, of a track's mean probabilities over its windows. The ranking of
    the genres in a window does not change.

    Parameters
    ----------
    model : GenreClassifier
        On its device. Its temperature is 1 where there are fewer than `LEAST` tracks, or none is wrong.
    x : PixelStore
        Tracks it was not trained on.
    y : torch.Tensor, shape (n,), int64
        Labels.
    tracks : sequence of int, optional
        As of `metrics.by_track`; by default each picture is a track.

    Returns
    -------
    temperature : float
        Below 1 where the model was under-confident.
    """
    from scipy.optimize import minimize_scalar

    model.temperature.fill_(1)
    windows = [(number, start) for number in range(len(x)) for start in x.starts(number)]
    logits = torch.cat([part for _, part in predict_windows(model, x, windows)]).double().clamp_min(1e-12).log()
    owner = torch.tensor([number for number, _ in windows])
    counts = torch.bincount(owner)[:, None]

    def mean_shares(temperature):
        shares = (logits / temperature).softmax(dim=1)
        return torch.zeros(len(x), shares.shape[1], dtype=torch.double).index_add_(0, owner, shares) / counts

    def loss(logarithm):
        p = mean_shares(math.exp(logarithm))[torch.arange(len(y)), y]
        return -p.clamp_min(1e-12).log().mean().item()

    n_tracks = len(y) if tracks is None else len(set(tracks))
    if n_tracks >= LEAST and (mean_shares(1.0).argmax(dim=1) != y).any():
        reach = np.log(FURTHEST)
        model.temperature.fill_(math.exp(minimize_scalar(loss, bounds=(-reach, reach), method="bounded").x))
    return model.temperature.item()


def calibrated_loss(y: np.ndarray, p: np.ndarray) -> float:
    """Mean negative log likelihood at the temperature that suits these tracks best.

    Settings that make a network under-confident, such as mixup, are not to count against it: `calibrate` mends that.

    Parameters
    ----------
    y : np.ndarray, shape (n,), int
        Labels of tracks.
    p : np.ndarray, shape (n, n_classes)
        Probabilities.
    """
    from scipy.optimize import minimize_scalar

    logits, labels = torch.from_numpy(p).double().clamp_min(1e-12).log(), torch.as_tensor(y)

    def loss(logarithm: float) -> float:
        return torch.nn.functional.cross_entropy(logits / math.exp(logarithm), labels).item()

    reach = np.log(FURTHEST)
    return float(minimize_scalar(loss, bounds=(-reach, reach), method="bounded").fun)


def learn_thresholds(dev: Pictures, answers: Answers) -> Thresholds:
    """Learn when a model's answers are unsure, and what is unlike its training music, from the dev tracks.

    Parameters
    ----------
    dev : Pictures
        Tracks it was not trained on.
    answers : Answers
        The calibrated model's, of each picture.
    """
    y, p, _ = by_track(dev.y, answers.p, dev.tracks)
    if answers.distance is None:
        return fit_thresholds(y, p, None)
    return fit_thresholds(y, p, by_track(dev.y, answers.distance[:, None], dev.tracks)[1][:, 0])
