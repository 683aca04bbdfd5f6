"""Grad-CAM: where the last feature maps of a convolutional network are evidence for a genre."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from vision.attribution.occlusion import scale_to_one
from vision.data.pixel_store import PixelStore, to_pixels
from vision.models.classifier import GenreClassifier

#: Windows whose gradients are computed at once.
GRADIENT_BATCH = 16


def feature_layer(model: GenreClassifier, size: int) -> nn.Module:
    """Return the layer whose feature maps Grad-CAM weighs: the last with the spatial size of the last convolution.

    Its maps come after the activations and sums that follow that convolution, and before pooling reduces their size.

    Parameters
    ----------
    model : GenreClassifier
        In evaluation mode.
    size : int
        Height and width of its input, in pixels.

    Returns
    -------
    layer : nn.Module
        Part of ``model.net``.

    Raises
    ------
    ValueError
        When there are no feature maps: the one convolution of a transformer only cuts the picture into patches.
    """
    outputs = []

    def record(layer, _, output):
        if isinstance(output, torch.Tensor) and output.dim() == 4 and min(output.shape[2:]) > 1:
            outputs.append((layer, output.shape[2:]))

    if model.net is None:
        raise ValueError("has no network, so there is no Grad-CAM: it is an expert on texture alone")
    hooks = [layer.register_forward_hook(record) for layer in model.net.modules()]
    try:
        with torch.inference_mode():
            mean = model.normalize.get_buffer("mean")
            model.net(torch.zeros(1, mean.shape[1], size, size, device=mean.device))
    finally:
        for hook in hooks:
            hook.remove()
    convolutions = [shape for layer, shape in outputs if isinstance(layer, nn.Conv2d)]
    if len(convolutions) < 2:
        raise ValueError("has no feature maps for Grad-CAM: it is no convolutional network")
    return [layer for layer, shape in outputs if shape == convolutions[-1]][-1]


def grad_cam(models: Sequence[GenreClassifier], x: torch.Tensor, label: int) -> np.ndarray:
    """Compute Grad-CAM of a track: where the feature maps of the convolutions are evidence for a genre.

    After Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization"
    (2017), computed by captum. It explains a network's convolutions only. The expert on texture has no gradient:
    `occlusion.saliency` explains the whole prediction.

    Parameters
    ----------
    models : list of GenreClassifier
        `Predictor.models`; the maps of each are scaled to 1, then averaged. No other thread may use them at the same
        time.
    x : torch.Tensor, shape (channels, size, width), uint8
        From `Predictor.read`.
    label : int
        The genre to explain.

    Returns
    -------
    heat : np.ndarray, shape (size, width), float32
        In [0, 1], 1 at the maximum of the track: its windows, `PixelStore.starts`, side by side, averaged where they
        overlap. 0 everywhere if nothing is evidence for the genre.

    Raises
    ------
    ValueError
        When a network has no feature maps; see `feature_layer`.
    """
    _, size, width = x.shape
    starts = PixelStore.of(x[None]).starts(0)
    heats = []
    for model in models:
        total, count = np.zeros((2, size, width), np.float32)
        for first in range(0, len(starts), GRADIENT_BATCH):
            part = starts[first : first + GRADIENT_BATCH]
            maps = _window_maps(model.eval(), torch.stack([x[..., start : start + size] for start in part]), label)
            for start, window_map in zip(part, maps, strict=True):
                total[:, start : start + size] += window_map
                count[:, start : start + size] += 1
        heats.append(scale_to_one(total / np.maximum(count, 1)))
    return scale_to_one(np.mean(heats, axis=0))


def _window_maps(model, windows, label):
    """Compute Grad-CAM of windows (n, channels, size, size), uint8, interpolated to (n, size, size), float32."""
    # Imported here because it takes a second, half of it for pyplot.
    from captum.attr import LayerAttribution, LayerGradCam

    size = windows.shape[-1]
    pixels = to_pixels(windows, model.normalize.mean.device)
    explain = LayerGradCam(lambda pixels: model.net(model.normalize(pixels)), feature_layer(model, size))
    # cuDNN computes gradients of recurrent layers in training mode only.
    with torch.backends.cudnn.flags(enabled=False):
        maps = explain.attribute(pixels, target=int(label), relu_attributions=True)
    maps = LayerAttribution.interpolate(maps.detach(), (size, size), "bilinear")
    return maps[:, 0].cpu().numpy()
