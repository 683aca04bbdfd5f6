"""GenreClassifier: normalisation, a network, support vector machines on texture, and a temperature."""

import torch
from torch import nn

from vision.models.cnn import MODELS
from vision.models.pretrained import torchvision_model
from vision.models.svm import TextureSVM


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


class GenreClassifier(nn.Module):
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


def create_model(n_classes, *, name, channels, size, mean, std, dropout, texture, weights=None):
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
    head = TextureSVM(n_classes, size=size, points=texture) if texture else None
    network = GenreClassifier(net, Normalize(mean, std), head).eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, channels, size, size))
    except Exception as error:  # many kinds, by layer
        reason = str(error).splitlines()[0]
        raise ValueError(f"model {name} does not take {size}x{size} pictures ({reason}); try --size 224") from None
    return network.train()
