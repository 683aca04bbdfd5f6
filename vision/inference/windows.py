"""Probabilities for pictures, window by window."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from vision.data.pixel_store import EVAL_BATCH, PixelStore, to_pixels
from vision.inference.device import autocast

if TYPE_CHECKING:  # an exported file needs no networks of PyTorch's
    from vision.models.classifier import GenreClassifier


@torch.inference_mode()
def predict_proba(
    model: nn.Module,
    x: PixelStore,
    numbers: Sequence[int] | None = None,
    *,
    precision: str = "fp32",
    details: bool = False,
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
    details : bool
        Add columns: the probabilities of each expert, where there are several, and then, where the model has a
        `space`, the mean distance from the train windows; see `GenreClassifier.answer`.

    Returns
    -------
    probabilities : torch.Tensor, shape (n, n_classes), float32
        On the CPU; rows sum to 1, but for the details. Shape (0, 0) where there is nothing to do.
    """

    def predict(windows: list[tuple[int, int]]) -> Iterator[tuple[list[tuple[int, int]], torch.Tensor]]:
        return predict_windows(model, x, windows, precision=precision, details=details)

    return x.mean_over_windows(predict, numbers)


@torch.inference_mode()
def predict_windows(
    model: nn.Module,
    x: PixelStore,
    windows: list[tuple[int, int]],
    *,
    precision: str = "fp32",
    details: bool = False,
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
    details : bool
        As of `predict_proba`.

    Yields
    ------
    part : list of (int, int)
        Some of the windows, in order.
    probabilities : torch.Tensor, shape (len(part), n_classes), float32
        On the CPU; with more columns for details.
    """
    model.eval()
    device = next(itertools.chain(model.parameters(), model.buffers())).device

    def predict(pixels: torch.Tensor) -> torch.Tensor:
        with autocast(device, precision):
            if not details:
                return model(pixels).float().softmax(dim=1)
            logits, experts, distance = cast("GenreClassifier", model).answer(pixels)
        columns = [] if distance is None else [distance.float()[:, None]]
        return torch.cat([logits.float().softmax(dim=1), *experts.values(), *columns], dim=1)

    yield from compute_windows(predict, x, windows, device)


@torch.inference_mode()
def compute_windows(
    compute: Callable[[torch.Tensor], torch.Tensor], x: PixelStore, windows: list[tuple[int, int]], device: torch.device
) -> Iterator[tuple[list[tuple[int, int]], torch.Tensor]]:
    """Compute something of single windows, in batches.

    Parameters
    ----------
    compute : callable
        Takes pixels in [0, 1], (B, C, H, W), on the device, and returns (B, n).
    x, windows
        As of `predict_windows`.
    device : torch.device

    Yields
    ------
    part : list of (int, int)
        Some of the windows, in order.
    values : torch.Tensor, shape (len(part), n)
        On the CPU.
    """
    for first in range(0, len(windows), EVAL_BATCH):
        part = windows[first : first + EVAL_BATCH]
        yield part, compute(to_pixels(x.cut(*zip(*part, strict=True)), device)).cpu()
