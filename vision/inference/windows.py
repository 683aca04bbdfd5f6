"""Probabilities for pictures, window by window."""

import torch

from vision.data.pixel_store import EVAL_BATCH, to_pixels
from vision.inference.device import autocast


@torch.inference_mode()
def predict_proba(model, x, numbers=None, *, precision="fp32", second=None):
    """Probabilities of the genres for each picture: the mean over its windows.

    Parameters
    ----------
    model : nn.Module
        Put into evaluation mode.
    x : Store
        Pictures.
    numbers : sequence of int, optional
        Which of them; by default all.
    precision : str
        ``"fp32"`` or ``"bf16"``.
    second : torch.Tensor, shape (n_windows, n_classes), optional
        `second.opinions` of the same pictures, so that they are not asked for again.

    Returns
    -------
    probabilities : torch.Tensor, shape (n, n_classes), float32
        On the CPU; rows sum to 1. Shape (0, 0) where there is nothing to do.
    """
    return x.mean_over_windows(
        lambda windows: predict_windows(model, x, windows, precision=precision, second=second), numbers
    )


@torch.inference_mode()
def predict_windows(model, x, windows, *, precision="fp32", second=None):
    """Probabilities for single windows.

    Parameters
    ----------
    model : nn.Module
        Put into evaluation mode.
    x : Store
        Pictures.
    windows : list of (int, int)
        Number of the picture, left edge.
    precision : str
        ``"fp32"`` or ``"bf16"``.
    second : torch.Tensor, shape (len(windows), n_classes), optional
        What `second.opinions` said of them.

    Yields
    ------
    part : list of (int, int)
        Some of the windows, in order.
    probabilities : torch.Tensor, shape (len(part), n_classes), float32
        On the CPU.
    """
    model.eval()
    device = next(model.parameters()).device
    for first in range(0, len(windows), EVAL_BATCH):
        part = windows[first : first + EVAL_BATCH]
        pixels = to_pixels(x.cut(*zip(*part, strict=True)), device)
        said = () if second is None else (second[first : first + EVAL_BATCH],)
        with autocast(device, precision):
            logits = model(pixels, *said)
        yield part, logits.float().softmax(dim=1).cpu()
