"""musicnn: a network that was trained to tag 200 000 songs, with its weights from the package of that name.

Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging" (2019), trained it on the
Million Song Dataset to name 50 tags, genres such as metal and jazz among them. The Python package ``musicnn`` 0.1.0
(ISC licence) holds the weights as a TensorFlow checkpoint. Only that file is read: neither TensorFlow nor the package's
code is needed.
"""

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import pad

from render.errors import MelvisionError

#: What brings the weights; the package's own requirements are too old to install.
INSTALL = "pip install --no-deps musicnn==0.1.0"

#: The file with the weights, and its SHA-256. Its layout is known with its hash; see `read_weights`.
WEIGHTS = "musicnn/MSD_musicnn/.data-00000-of-00001"
SHA256 = "8579734ee6388f799ed0def4bbd0d1fdcbeaf213ef2a9dc860917bd76a303de6"

#: Its input: sampling rate in Hz, samples of a frame and from one to the next, Mel bands.
SR, N_FFT, HOP_LENGTH, BANDS = 16000, 512, 256, 96

#: Numbers of its embedding, which is what its last layer goes by, and tags that this one names.
EMBEDDING, TAGS = 200, 50

#: Frames, bands and channels of its first kernels.
FRONT = ((7, 38, 204), (7, 67, 204), (128, 1, 51), (64, 1, 51), (32, 1, 51))


class Musicnn(nn.Module):
    """The network, with random weights; see `read_weights`.

    Batch norm keeps the statistics it was trained with, also while the rest is trained: those of a few genre pictures
    are no better, and here it stands behind the maximum over frequency, not before it.
    """

    def __init__(self) -> None:
        super().__init__()
        front, middle = sum(channels for *_, channels in FRONT), 64
        self.convs = nn.ModuleList(
            [
                *(nn.Conv2d(1, channels, (frames, bands)) for frames, bands, channels in FRONT),
                *(nn.Conv1d(inputs, middle, 7, padding=3) for inputs in (front, middle, middle)),
            ]
        )
        pooled = 2 * (front + 3 * middle)
        widths = (1, *(channels for *_, channels in FRONT), middle, middle, middle, pooled, EMBEDDING)
        self.norms = nn.ModuleList([nn.BatchNorm1d(width, eps=1e-3) for width in widths])
        self.dense = nn.Linear(pooled, EMBEDDING)
        self.tag = nn.Linear(EMBEDDING, TAGS)

    def train(self, mode: bool = True) -> "Musicnn":
        """Set training mode, but for batch norm."""
        super().train(mode)
        self.norms.eval()
        return self

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Return embeddings, shape (B, 200).

        Parameters
        ----------
        mel : torch.Tensor, shape (B, T, 96)
            log10(1 + 1e4 P) of Mel power P, at 16 kHz; see `SR`.
        """
        x = self.norms[0](mel[:, None].flatten(2)).unflatten(2, (-1, BANDS))
        front = torch.cat([self._front(x, number) for number in range(len(FRONT))], dim=1)
        h, parts = front, [front]
        for number in range(len(FRONT), len(self.convs)):
            new = self.norms[number + 1](self.convs[number](h).relu())
            h = new if number == len(FRONT) else h + new
            parts.append(h)
        x = torch.cat(parts, dim=1)
        x = torch.stack([x.amax(dim=2), x.mean(dim=2)], dim=2).flatten(1)
        return self.norms[-1](self.dense(self.norms[-2](x)).relu())

    def _front(self, x: torch.Tensor, number: int) -> torch.Tensor:
        """One kind of first kernels: convolution, ReLU, batch norm, maximum over frequency."""
        conv, norm = self.convs[number], self.norms[number + 1]
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None and isinstance(norm.weight, torch.Tensor)
        # Of what batch norm multiplies by a negative scale, it is the minimum that becomes the maximum. Found before
        # ReLU and batch norm, it costs a quarter less.
        sign = torch.where(norm.weight < 0, -1.0, 1.0)
        before = (conv.kernel_size[0] - 1) // 2
        x = pad(x, (0, 0, before, conv.kernel_size[0] - 1 - before))
        x = nn.functional.conv2d(x, conv.weight * sign[:, None, None, None], conv.bias * sign)
        return norm((x.amax(dim=3) * sign[:, None]).relu())


@torch.no_grad()
def read_weights(net: Musicnn) -> None:
    """Fill a network with the weights of the installed package.

    Raises
    ------
    MelvisionError
        When the package is not installed, or its file is another one.
    """
    try:
        path = Path(str(importlib.metadata.distribution("musicnn").locate_file(WEIGHTS)))
        data = path.read_bytes()
    except (importlib.metadata.PackageNotFoundError, OSError) as error:
        raise MelvisionError(f"musicnn: its weights are not here ({error}); {INSTALL}") from None
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise MelvisionError(f"{path}: is damaged, or not of musicnn 0.1.0; {INSTALL} --force-reinstall")
    offset = 0
    for name, tensor in sorted(_tensors(net).items()):
        order = TENSORFLOW_ORDER[tensor.ndim]
        shape = [tensor.shape[axis] for axis in order]
        values = torch.from_numpy(np.frombuffer(data, "<f4", tensor.numel(), offset).reshape(shape).copy())
        tensor.copy_(values.permute([order.index(axis) for axis in range(tensor.ndim)]))
        # Behind each tensor that was trained stand two of Adam's, as large.
        offset += 4 * tensor.numel() * (1 if "/moving_" in name else 3)
        offset += 8 if name == "batch_normalization_9/moving_variance" else 0  # Adam's two powers


#: Axes of PyTorch's tensors in TensorFlow's order, by their number.
TENSORFLOW_ORDER = {1: [0], 2: [1, 0], 3: [2, 1, 0], 4: [2, 3, 1, 0]}


def _tensors(net: Musicnn) -> dict[str, torch.Tensor]:
    """The network's tensors by their names in the checkpoint, which holds them in the order of these."""
    found: dict[str, Any] = {}
    for number, norm in enumerate(net.norms):
        name = f"batch_normalization_{number}" if number else "batch_normalization"
        found |= {f"{name}/beta": norm.bias, f"{name}/gamma": norm.weight}
        found |= {f"{name}/moving_mean": norm.running_mean, f"{name}/moving_variance": norm.running_var}
    layers = {f"conv2d_{number}" if number else "conv2d": conv for number, conv in enumerate(net.convs)}
    for name, layer in (layers | {"dense": net.dense, "dense_1": net.tag}).items():
        found |= {f"{name}/bias": layer.bias, f"{name}/kernel": layer.weight}
    return found
