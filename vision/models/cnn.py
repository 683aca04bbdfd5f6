"""Networks: pictures (B, C, H, W) to logits (B, n_classes)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

#: A convolution of so many channels, or "M" for halving by max pooling.
VGG_WIDTHS: list[Any] = [64, "M", 128, "M", 256, "M", 256]
#: Of the quick recipe: one block less.
SMALL_WIDTHS: list[Any] = [64, "M", 128, "M", 256]

DENSE_WIDTHS: list[Any] = [16, "M", 32, "M", 64, 64, "M", 128, 128, "M", 128, 128, "M"]


def conv(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
    pool: int | tuple[int, int] = 1,
    pool_first: bool = False,
) -> list[nn.Module]:
    """Convolution, batch norm (Ioffe and Szegedy, 2015), ReLU and max pooling, as a list of layers."""
    # No bias: batch norm subtracts it again.
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)]
    # Max pooling and ReLU can be exchanged; pooling first leaves a quarter of the values for ReLU, and before batch
    # norm for that, too, which then normalises what is passed on.
    pooling = [] if pool == 1 else [nn.MaxPool2d(pool)]
    layers[1:] = [*pooling, layers[1]] if pool_first else [layers[1], *pooling]
    return [*layers, nn.ReLU(inplace=True)]


def make_layers(widths: Sequence[Any], channels: int, pool_first: bool = False) -> nn.Sequential:
    """The convolutions of a VGG: 3x3 for each width, halving by max pooling after each that an "M" follows."""
    layers = []
    for width, after in zip(widths, [*widths[1:], None], strict=True):
        if width != "M":
            layers += conv(channels, width, pool=2 if after == "M" else 1, pool_first=pool_first)
            channels = width
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """A small VGG that ends in global average and global max pooling.

    After Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition" (2015): 3x3 convolutions between halvings. Narrower, because a few hundred tracks
    are few. The first layer is 5x5 with a stride of two: full resolution took most of the time and
    gained nothing. Global pooling (Lin, Chen and Yan, 2014) keeps what occurs and drops where.
    """

    widths, pool_first = VGG_WIDTHS, True

    def __init__(self, n_classes: int, *, channels: int, size: int, dropout: float):
        super().__init__()
        self.features = nn.Sequential(
            *conv(channels, 32, 5, 2, pool=2, pool_first=self.pool_first),
            *make_layers(self.widths, 32, self.pool_first),
        )
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * self.widths[-1], n_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (B, n_classes), of pictures, (B, channels, H, W)."""
        x = self.features(x)
        # amax, not adaptive max pooling: that one is silently wrong in some releases on MPS.
        return self.classifier(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))


class SmallVGG(VGG):
    """The same with a block less, and batch norm before pooling: the model of the quick recipe."""

    widths, pool_first = SMALL_WIDTHS, False


class DenseVGG(nn.Module):
    """A VGG that ends as the original does, in dense layers over all positions: the model of the classic recipe."""

    def __init__(self, n_classes: int, *, channels: int, size: int, dropout: float):
        super().__init__()
        self.features = make_layers(DENSE_WIDTHS, channels)
        places = (size // 2 ** DENSE_WIDTHS.count("M")) ** 2
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(DENSE_WIDTHS[-2] * places, 256),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(256, n_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (B, n_classes), of pictures, (B, channels, H, W)."""
        return self.classifier(self.features(x))


def cnn2(n_classes: int, *, channels: int, size: int, dropout: float) -> nn.Sequential:
    """Two convolution blocks with dropout and a dense layer of 128, as in many tutorials."""
    layers = []
    for inputs, outputs in ((channels, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(inplace=True), nn.Dropout(0.25)]
    dense = [nn.Flatten(), nn.Linear(64 * (size // 4) ** 2, 128), nn.ReLU(inplace=True), nn.Dropout(dropout)]
    return nn.Sequential(*layers, *dense, nn.Linear(128, n_classes))


def cnn3(n_classes: int, *, channels: int, size: int, dropout: float) -> nn.Sequential:
    """Three convolution blocks and a dense layer of 128, all with batch norm, and dropout before the last layer."""
    layers = []
    for inputs, outputs in ((channels, 32), (32, 64), (64, 128)):
        layers += conv(inputs, outputs, pool=2)
    # Without batch norm here it hardly learned at any rate, and dropout in the blocks cost as much: see docs/recipe.md.
    dense = [nn.Flatten(), nn.Linear(128 * (size // 8) ** 2, 128, bias=False), nn.BatchNorm1d(128)]
    return nn.Sequential(*layers, *dense, nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(128, n_classes))


class CRNN(nn.Module):
    """Convolutions, then a GRU over time in both directions.

    After Choi et al., "Convolutional Recurrent Neural Networks for Music Classification" (2017).
    """

    def __init__(self, n_classes: int, *, channels: int, size: int, dropout: float):
        super().__init__()
        layers = [*conv(channels, 32, pool=2), *conv(32, 64, pool=(4, 2)), *conv(64, 128, pool=(4, 2))]
        self.features = nn.Sequential(*layers)
        self.gru = nn.GRU(128, 64, batch_first=True, bidirectional=True)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(128, n_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (B, n_classes), of pictures, (B, channels, H, W)."""
        steps = self.features(x).mean(dim=2).transpose(1, 2)  # (B, time, channels)
        return self.classifier(self.gru(steps)[0].mean(dim=1))


#: By the name of the flag ``--model``. Each takes n_classes, channels, size and dropout.
MODELS = {"vgg": VGG, "vgg_small": SmallVGG, "vgg_dense": DenseVGG, "cnn2": cnn2, "cnn3": cnn3, "crnn": CRNN}
