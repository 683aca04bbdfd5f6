"""Grad-CAM: which places of the last convolutions speak for a genre."""

import numpy as np
import torch
from torch import nn

from vision.attribution.occlusion import _to_one
from vision.data.pixel_store import PixelStore, to_pixels

GRADIENT_BATCH = 16


def feature_layer(model, size):
    """The layer whose maps Grad-CAM weighs: the last of the size that the last convolution leaves.

    So it holds what convolutions found, after their activations and sums, and before pooling makes it coarser.

    Parameters
    ----------
    model : models.Network
        In evaluation mode.
    size : int
        Height and width of its pictures, in pixels.

    Returns
    -------
    layer : nn.Module
        Part of ``model.net``.

    Raises
    ------
    ValueError
        When there are no maps of places: a transformer's one convolution only cuts the picture up.
    """
    seen = []

    def note(layer, _, output):
        if isinstance(output, torch.Tensor) and output.dim() == 4 and min(output.shape[2:]) > 1:
            seen.append((layer, output.shape[2:]))

    hooks = [layer.register_forward_hook(note) for layer in model.net.modules()]
    try:
        with torch.inference_mode():
            mean = model.normalize.mean
            model.net(torch.zeros(1, mean.shape[1], size, size, device=mean.device))
    finally:
        for hook in hooks:
            hook.remove()
    convolutions = [shape for layer, shape in seen if isinstance(layer, nn.Conv2d)]
    if len(convolutions) < 2:
        raise ValueError("has no maps of features for Grad-CAM to weigh: it is no convolutional network")
    return [layer for layer, shape in seen if shape == convolutions[-1]][-1]


def grad_cam(models, x, label):
    """Grad-CAM of a track: where the convolutions' maps speak for a genre.

    After Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization"
    (2017), computed by captum. It explains a network's convolutions only. Texture statistics, most of the answer of
    the standard recipe (`Network.TEXTURE`), have no gradient: `look` explains all.

    Parameters
    ----------
    models : list of models.Network
        `Predictor.models`; their maps are averaged, each by its own scale. Not to be used by another
        thread at the same time.
    x : torch.Tensor, shape (channels, size, width), uint8
        As `Predictor.read` gives it.
    label : int
        The genre to explain.

    Returns
    -------
    heat : np.ndarray, shape (size, width), float32
        In [0, 1], 1 at the strongest place of the track: its windows, `Store.starts`, side by side, averaged
        where they overlap. 0 everywhere where nothing speaks for the genre.

    Raises
    ------
    ValueError
        When a network has no maps; see `feature_layer`.
    """
    _, size, width = x.shape
    starts = PixelStore.of(x[None]).starts(0)
    heats = []
    for model in models:
        total, count = np.zeros((2, size, width), np.float32)
        for first in range(0, len(starts), GRADIENT_BATCH):
            part = starts[first : first + GRADIENT_BATCH]
            maps = _window_maps(model.eval(), torch.stack([x[..., start : start + size] for start in part]), label)
            for start, found in zip(part, maps, strict=True):
                total[:, start : start + size] += found
                count[:, start : start + size] += 1
        heats.append(_to_one(total / np.maximum(count, 1)))
    return _to_one(np.mean(heats, axis=0))


def _window_maps(model, windows, label):
    """Grad-CAM of windows (n, channels, size, size), uint8, brought to their size: (n, size, size), float32."""
    # Half of its second of import is pyplot: only who asks for Grad-CAM pays for it.
    from captum.attr import LayerAttribution, LayerGradCam

    size = windows.shape[-1]
    pixels = to_pixels(windows, model.normalize.mean.device)
    explain = LayerGradCam(lambda pixels: model.net(model.normalize(pixels)), feature_layer(model, size))
    # cuDNN gives recurrent layers gradients in training mode only.
    with torch.backends.cudnn.flags(enabled=False):
        found = explain.attribute(pixels, target=int(label), relu_attributions=True)
    found = LayerAttribution.interpolate(found.detach(), (size, size), "bilinear")
    return found[:, 0].cpu().numpy()
