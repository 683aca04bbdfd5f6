"""Probabilities that mean what they say: one temperature, fitted to the dev tracks."""

import math

import numpy as np
import torch

from vision.inference.windows import predict_windows

#: Fewer tracks, or all of them right, say too little about how sure to be.
LEAST = 50

#: The temperature stays between its inverse and this.
FURTHEST = 4.0


def calibrate(model, x, y):
    """Set a model's temperature so that its probabilities fit the tracks best.

    Blended targets and label smoothing teach a network to be less sure than it is right. After Guo et
    al., "On Calibration of Modern Neural Networks" (2017): the logits are divided by the one number
    that gives the least negative log likelihood; here, of a track's mean over its windows. The order
    of a window's genres stays as it is.

    Parameters
    ----------
    model : models.Network
        On its device. Its temperature is 1 where there are fewer than `LEAST` tracks, or none is wrong.
    x : Store
        Tracks it has not learned from.
    y : torch.Tensor, shape (n,), int64
        Labels.

    Returns
    -------
    temperature : float
        Below 1 where the model was not sure enough.
    """
    from scipy.optimize import minimize_scalar

    model.temperature.fill_(1)
    windows = [(number, start) for number in range(len(x)) for start in x.starts(number)]
    found = torch.cat([part for _, part in predict_windows(model, x, windows)]).double().clamp_min(1e-12).log()
    owner = torch.tensor([number for number, _ in windows])
    counts = torch.bincount(owner)[:, None]

    def tracks(temperature):
        shares = (found / temperature).softmax(dim=1)
        return torch.zeros(len(x), shares.shape[1], dtype=torch.double).index_add_(0, owner, shares) / counts

    def loss(logarithm):
        p = tracks(math.exp(logarithm))[torch.arange(len(y)), y]
        return -p.clamp_min(1e-12).log().mean().item()

    if len(y) >= LEAST and (tracks(1.0).argmax(dim=1) != y).any():
        reach = np.log(FURTHEST)
        model.temperature.fill_(math.exp(minimize_scalar(loss, bounds=(-reach, reach), method="bounded").x))
    return model.temperature.item()
