"""Networks: pictures (B, C, H, W) to logits (B, n_classes)."""

import inspect

import torch
from torch import nn

from vision.kernel import TextureHead

#: A convolution of so many channels, or "M" for halving by max pooling.
VGG_WIDTHS = [64, "M", 128, "M", 256]
DENSE_WIDTHS = [16, "M", 32, "M", 64, 64, "M", 128, 128, "M", 128, 128, "M"]


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


class Colours(nn.Module):
    """One of torchvision's networks, which take three channels, for pictures of one or three."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.expand(-1, 3, -1, -1))


def torchvision_model(name, n_classes, *, weights=None, dropout=None):
    """One of torchvision's classification networks, by name; arguments as for `build`.

    Pretrained ``weights`` are those of all layers but the last, which is new.

    Raises
    ------
    ValueError
        When there is no such network or no such weights, or they cannot be downloaded.
    """
    from torchvision import models

    if name not in models.list_models(module=models):
        raise ValueError(f"no such model; expected one of {', '.join(MODELS)}, or torchvision's, such as resnet18")
    builder = inspect.signature(models.get_model_builder(name)).parameters
    options = {"num_classes": n_classes}
    # Two old networks have a second, auxiliary answer, and slow initial weights.
    options |= {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    if dropout is not None and ("dropout" in builder or name.startswith(("vgg", "alexnet", "efficientnet", "mobile"))):
        options["dropout"] = dropout
    net = models.get_model(name, **options)
    if weights:
        try:
            found = models.get_model_weights(name)[weights]
        except KeyError:
            raise ValueError(f"torchvision has no weights {weights} for it; try DEFAULT") from None
        try:
            trained = found.get_state_dict(progress=False, check_hash=True)
        except OSError as error:
            raise ValueError(f"weights {weights} cannot be downloaded ({error}); train without --weights") from None
        own = net.state_dict()
        fitting = {key: value for key, value in trained.items() if key in own and own[key].shape == value.shape}
        net.load_state_dict(fitting, strict=False)
    return Colours(net)


class Network(nn.Module):
    """A network and, beside it, an opinion from texture statistics.

    Parameters
    ----------
    net : nn.Module
        Normalised pictures to logits.
    normalize : Normalize
        For `net` only.
    texture : kernel.TextureHead or None
        The second opinion.
    """

    #: How much the second opinion's probabilities count: it is right more often than the network.
    TEXTURE = 0.7

    def __init__(self, net, normalize, texture=None):
        super().__init__()
        self.normalize, self.net, self.texture = normalize, net, texture
        #: Divides the logits outside training; see `calibration.calibrate`.
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, x, second=None):
        """Logits of pixels in [0, 1], shape (B, C, H, W).

        Parameters
        ----------
        x : torch.Tensor, shape (B, C, H, W)
        second : torch.Tensor, shape (B, n_classes), optional
            What `second_opinion` said of them before.

        Returns
        -------
        logits : torch.Tensor, shape (B, n_classes)
            In training the network's alone: it learns as if there were no other, which has nothing
            left to learn. Else, with texture, of the weighted mean of both probabilities.
        """
        logits = self.net(self.normalize(x))
        if self.training:
            return logits
        if self.texture is None:
            return logits / self.temperature
        mean = self.TEXTURE * (self.second_opinion(x) if second is None else second)
        mean = mean + (1 - self.TEXTURE) * logits.float().softmax(dim=1)
        return mean.clamp_min(1e-12).log() / self.temperature

    def second_opinion(self, x):
        """Probabilities from texture alone, shape (B, n_classes), of pixels in [0, 1]; training leaves it as it is."""
        return self.texture(x).softmax(dim=1)


def build(n_classes, *, name, channels, size, mean, std, dropout, texture, weights=None):
    """Make a network.

    Parameters
    ----------
    n_classes : int
        Genres.
    name : str
        One of `MODELS`, or a classification network of torchvision's.
    channels : int
        1 for levels, 3 for colours.
    size : int
        Height and width of the pictures, in pixels.
    mean, std : sequence of float
        For `Normalize`.
    dropout : float, in [0, 1)
        Before the last layer.
    texture : int
        Train windows that a second opinion, from texture statistics, compares with; 0 for none.
    weights : str, optional
        For `torchvision_model`.

    Raises
    ------
    ValueError
        When there is no such network, or it does not take pictures of this size.
    """
    if name in MODELS:
        if weights:
            raise ValueError(f"--weights {weights} is for torchvision's models; {name} has none")
        net = MODELS[name](n_classes, channels=channels, size=size, dropout=dropout)
    else:
        net = torchvision_model(name, n_classes, weights=weights, dropout=dropout)
    head = TextureHead(n_classes, size=size, points=texture) if texture else None
    network = Network(net, Normalize(mean, std), head).eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, channels, size, size))
    except Exception as error:  # many kinds, by layer
        reason = str(error).splitlines()[0]
        raise ValueError(f"model {name} does not take {size}x{size} pictures ({reason}); try --size 224") from None
    return network.train()
