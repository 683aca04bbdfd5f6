"""Networks: pictures (B, C, H, W) to logits (B, n_classes)."""

import torch
from torch import nn

#: A convolution of so many channels, or "M" for halving by max pooling.
VGG_WIDTHS = [16, "M", 32, "M", 64, 64, "M", 128, 128, "M", 128, 128, "M"]


class Normalize(nn.Module):
    """Bring pixels to zero mean and unit deviation, with figures that belong to the weights.

    Parameters
    ----------
    mean, std : sequence of float
        One value a channel, of pixels in [0, 1], measured on the train pictures.
    """

    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, x):
        """Return ``(x - mean) / std``, shape (B, C, H, W)."""
        return (x - self.mean) / self.std


class VGG(nn.Module):
    """A small VGG with batch norm and dropout.

    After Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition" (2015): 3x3 convolutions between halvings, then fully connected layers. Narrower,
    because a few hundred pictures are few, and with batch norm (Ioffe and Szegedy, 2015).

    Parameters
    ----------
    n_classes : int
        Genres.
    channels : int
        1 for levels, 3 for colours.
    size : int
        Height and width of the pictures, in pixels; a multiple of 32.
    mean, std : sequence of float
        For `Normalize`.
    dropout : float, in [0, 1)
        Before the last layer.
    widths : list of int and "M"
        The convolutions.
    """

    def __init__(self, n_classes, *, channels=1, size=224, mean=(0.5,), std=(0.25,), dropout=0.5, widths=VGG_WIDTHS):
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.features, width, side = make_layers(widths, channels, size)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(width * side * side, 256),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(256, n_classes),
        )

    def forward(self, x):
        """Return logits, shape (B, n_classes), of pixels in [0, 1], shape (B, C, H, W)."""
        return self.classifier(self.features(self.normalize(x)))


def make_layers(widths, channels, size):
    """The convolutions of a VGG.

    Returns
    -------
    layers : nn.Sequential
        Convolution, batch norm and ReLU for each width, max pooling for each "M".
    width : int
        Channels at the end.
    side : int
        Height and width at the end.
    """
    layers = []
    for width in widths:
        if width == "M":
            layers.append(nn.MaxPool2d(2))
            size //= 2
        else:
            # No bias: batch norm takes it out again.
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=False))
            layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
    return nn.Sequential(*layers), channels, size
