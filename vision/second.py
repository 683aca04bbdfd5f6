"""The second opinion beside the network: solved from train windows, and asked once where the network is asked often."""

import torch

from vision.engine import EVAL_BATCH, to_pixels
from vision.kernel import POINTS


def train_windows(x):
    """Windows of train pictures, (number, left edge) each, that texture is learned from: up to `kernel.POINTS`."""
    windows = _windows(x, range(len(x)))
    return windows[:: -(-len(windows) // POINTS)]


def fit(model, x, y, class_weight=None):
    """Solve a model's second opinion, where it has one, for windows of the train pictures.

    Parameters
    ----------
    model : models.Network
        With or without texture; on its device.
    x : Store
        Train pictures.
    y : torch.Tensor, shape (n,), int64
        Labels.
    class_weight : torch.Tensor, shape (n_classes,), optional
        How much each genre counts.
    """
    if model.texture is None:
        return
    windows = train_windows(x)
    statistics = _of_windows(model.texture.texture, model, x, windows)
    model.texture.fit(statistics, y[[number for number, _ in windows]], class_weight)


def opinions(model, x, numbers):
    """What it says of the windows that pictures are scored by.

    Parameters
    ----------
    model : models.Network
        With or without texture.
    x : Store
        Pictures.
    numbers : sequence of int
        Which of them.

    Returns
    -------
    second : torch.Tensor, shape (n_windows, n_classes), or None
        Probabilities, on the model's device; None where the model has no second opinion, or nothing was asked.
    """
    windows = _windows(x, numbers)
    if model.texture is None or not windows:
        return None
    return _of_windows(model.second_opinion, model, x, windows)


def _windows(x, numbers):
    return [(number, start) for number in numbers for start in x.starts(number)]


@torch.inference_mode()
def _of_windows(call, model, x, windows):
    device = next(model.parameters()).device
    parts = (windows[first : first + EVAL_BATCH] for first in range(0, len(windows), EVAL_BATCH))
    return torch.cat([call(to_pixels(x.cut(*zip(*part, strict=True)), device)) for part in parts])
