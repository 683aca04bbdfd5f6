"""Networks: pictures (B, C, H, W) to logits (B, n_classes)."""

import torch
from torch import nn

#: A convolution of so many channels, or "M" for halving by max pooling.
VGG_WIDTHS = [64, "M", 128, "M", 256]

DENSE_WIDTHS = [16, "M", 32, "M", 64, 64, "M", 128, 128, "M", 128, 128, "M"]


def conv(inputs, outputs, kernel=3, stride=1, pool=1):
    """Convolution, batch norm (Ioffe and Szegedy, 2015), ReLU and max pooling, as a list of layers."""
    # No bias: batch norm takes it out again.
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)]
    # The largest of what is above zero is what is above zero of the largest, and takes a fourth of the work.
    pooling = [] if pool == 1 else [nn.MaxPool2d(pool)]
    return [*layers, *pooling, nn.ReLU(inplace=True)]


def make_layers(widths, channels):
    """The convolutions of a VGG: 3x3 for each width, halving by max pooling after each that an "M" follows."""
    layers = []
    for width, after in zip(widths, [*widths[1:], None], strict=True):
        if width != "M":
            layers += conv(channels, width, pool=2 if after == "M" else 1)
            channels = width
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """A small VGG that ends in the mean and the maximum over all places.

    After Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition" (2015): 3x3 convolutions between halvings. Narrower, because a few hundred tracks
    are few. The first layer is 5x5 and thins out by two: full resolution cost most of the time and
    gave nothing. Pooling over the picture (Lin, Chen and Yan, 2014) says what occurs, not where.
    """

    def __init__(self, n_classes, *, channels, size, dropout):
        super().__init__()
        self.features = nn.Sequential(*conv(channels, 32, 5, 2, pool=2), *make_layers(VGG_WIDTHS, 32))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * VGG_WIDTHS[-1], n_classes))

    def forward(self, x):
        x = self.features(x)
        # amax, not adaptive max pooling: that one is silently wrong in some releases on MPS.
        return self.classifier(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))


class DenseVGG(nn.Module):
    """A VGG that ends as the original does, in dense layers over all places: the classic recipe's."""

    def __init__(self, n_classes, *, channels, size, dropout):
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

    def forward(self, x):
        return self.classifier(self.features(x))


def cnn2(n_classes, *, channels, size, dropout):
    """Two convolution blocks with dropout and a dense layer of 128: many tutorials' network."""
    layers = []
    for inputs, outputs in ((channels, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(inplace=True), nn.Dropout(0.25)]
    dense = [nn.Flatten(), nn.Linear(64 * (size // 4) ** 2, 128), nn.ReLU(inplace=True), nn.Dropout(dropout)]
    return nn.Sequential(*layers, *dense, nn.Linear(128, n_classes))


def cnn3(n_classes, *, channels, size, dropout):
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

    def __init__(self, n_classes, *, channels, size, dropout):
        super().__init__()
        layers = [*conv(channels, 32, pool=2), *conv(32, 64, pool=(4, 2)), *conv(64, 128, pool=(4, 2))]
        self.features = nn.Sequential(*layers)
        self.gru = nn.GRU(128, 64, batch_first=True, bidirectional=True)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(128, n_classes))

    def forward(self, x):
        steps = self.features(x).mean(dim=2).transpose(1, 2)  # (B, time, channels)
        return self.classifier(self.gru(steps)[0].mean(dim=1))


MODELS = {"vgg": VGG, "vgg_dense": DenseVGG, "cnn2": cnn2, "cnn3": cnn3, "crnn": CRNN}
