"""Probabilities for pictures, window by window."""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from vision.data.pixel_store import EVAL_BATCH, PixelStore, to_pixels
from vision.inference.device import autocast


@torch.inference_mode()
def predict_proba(
    model: nn.Module,
    x: PixelStore,
    numbers: Sequence[int] | None = None,
    *,
    precision: str = "fp32",
) -> torch.Tensor:
    """Probabilities of the genres for each picture: the mean over its windows.

    Parameters
    ----------
    model : nn.Module
        Put into evaluation mode.
    x : PixelStore
        Pictures.
    numbers : sequence of int, optional
        Which of them; by default all.
    precision : str
        ``"fp32"`` or ``"bf16"``.

    Returns
    -------
    probabilities : torch.Tensor, shape (n, n_classes), float32
        On the CPU; rows sum to 1. Shape (0, 0) where there is nothing to do.
    """
    return x.mean_over_windows(lambda windows: predict_windows(model, x, windows, precision=precision), numbers)


@torch.inference_mode()
def predict_windows(
    model: nn.Module,
    x: PixelStore,
    windows: list[tuple[int, int]],
    *,
    precision: str = "fp32",
) -> Iterator[tuple[list[tuple[int, int]], torch.Tensor]]:
    """Probabilities for single windows.

    Parameters
    ----------
    model : nn.Module
        Put into evaluation mode.
    x : PixelStore
        Pictures.
    windows : list of (int, int)
        Number of the picture, left edge.
    precision : str
        ``"fp32"`` or ``"bf16"``.

    Yields
    ------
    part : list of (int, int)
        Some of the windows, in order.
    probabilities : torch.Tensor, shape (len(part), n_classes), float32
        On the CPU.
    """
    model.eval()
    device = next(itertools.chain(model.parameters(), model.buffers())).device
    for first in range(0, len(windows), EVAL_BATCH):
        part = windows[first : first + EVAL_BATCH]
        pixels = to_pixels(x.cut(*zip(*part, strict=True)), device)
        with autocast(device, precision):
            logits = model(pixels)
        yield part, logits.float().softmax(dim=1).cpu()
