"""Probabilities for pictures, window by window."""

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
    texture_probabilities: torch.Tensor | None = None,
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
    texture_probabilities : torch.Tensor, shape (n_windows, n_classes), optional
        From `models.svm.texture_probabilities` for the same pictures, so that they are not computed again.

    Returns
    -------
    probabilities : torch.Tensor, shape (n, n_classes), float32
        On the CPU; rows sum to 1. Shape (0, 0) where there is nothing to do.
    """
    return x.mean_over_windows(
        lambda windows: predict_windows(
            model, x, windows, precision=precision, texture_probabilities=texture_probabilities
        ),
        numbers,
    )


@torch.inference_mode()
def predict_windows(
    model: nn.Module,
    x: PixelStore,
    windows: list[tuple[int, int]],
    *,
    precision: str = "fp32",
    texture_probabilities: torch.Tensor | None = None,
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
    texture_probabilities : torch.Tensor, shape (len(windows), n_classes), optional
        From the texture SVM, where they were computed before.

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
        cached = () if texture_probabilities is None else (texture_probabilities[first : first + EVAL_BATCH],)
        with autocast(device, precision):
            logits = model(pixels, *cached)
        yield part, logits.float().softmax(dim=1).cpu()
