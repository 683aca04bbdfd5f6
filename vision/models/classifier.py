"""GenreClassifier: normalisation, a network, a texture SVM beside it, and a temperature."""

from collections.abc import Sequence

import torch
from torch import nn

from render.errors import MelvisionError
from vision.models.cnn import MODELS
from vision.models.pretrained import torchvision_model
from vision.models.svm import TextureSVM


class Normalize(nn.Module):
    """Scale pixels to zero mean and unit standard deviation; the figures are stored with the weights.

    Parameters
    ----------
    mean, std : sequence of float
        One value a channel, of pixels in [0, 1], measured on the train pictures.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(x - mean) / std``, shape (B, C, H, W)."""
        return (x - self.mean) / self.std


class GenreClassifier(nn.Module):
    """A network and, beside it, support vector machines on texture statistics.

    Parameters
    ----------
    net : nn.Module
        Normalised pictures to logits.
    normalize : Normalize
        For `net` only.
    texture : TextureSVM or None
        Its probabilities are averaged with the network's.
    """

    #: Weight of the texture SVM in the mean of both probabilities: it is right more often than the network.
    TEXTURE = 0.7

    temperature: torch.Tensor

    def __init__(self, net: nn.Module, normalize: Normalize, texture: TextureSVM | None = None):
        super().__init__()
        self.normalize, self.net, self.texture = normalize, net, texture
        #: Divides the logits outside training; see `calibration.calibrate`.
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, x: torch.Tensor, texture_probabilities: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of pixels in [0, 1].

        Parameters
        ----------
        x : torch.Tensor, shape (B, C, H, W)
        texture_probabilities : torch.Tensor, shape (B, n_classes), optional
            What the method of that name gave for them before.

        Returns
        -------
        logits : torch.Tensor, shape (B, n_classes)
            In training the network's alone: it learns as if there were no texture SVM, in which nothing
            is trained. Otherwise, with texture, the logarithm of the weighted mean of both probabilities.
        """
        logits = self.net(self.normalize(x))
        if self.training:
            return logits
        if self.texture is None:
            return logits / self.temperature
        known = texture_probabilities
        mean = self.TEXTURE * (self.texture_probabilities(x) if known is None else known)
        mean = mean + (1 - self.TEXTURE) * logits.float().softmax(dim=1)
        return mean.clamp_min(1e-12).log() / self.temperature

    def texture_probabilities(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities of the texture SVM alone, shape (B, n_classes), of pixels in [0, 1], shape (B, C, H, W)."""
        assert self.texture is not None
        return self.texture(x).softmax(dim=1)


def create_model(
    n_classes: int,
    *,
    name: str,
    channels: int,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    dropout: float,
    texture: int,
    weights: str | None = None,
) -> GenreClassifier:
    """Make a classifier with a fresh network.

    Parameters
    ----------
    n_classes : int
        Genres.
    name : str
        One of `MODELS`, or a classification network of torchvision.
    channels : int
        1 for levels, 3 for colours.
    size : int
        Height and width of the pictures, in pixels.
    mean, std : sequence of float
        For `Normalize`.
    dropout : float, in [0, 1)
        Before the last layer.
    texture : int
        Train windows that the texture SVM holds; 0 for a classifier without one.
    weights : str, optional
        For `torchvision_model`.

    Raises
    ------
    MelvisionError
        When there is no such network, or it does not take pictures of this size.
    """
    if name in MODELS:
        if weights:
            raise MelvisionError(f"weights {weights}: {name} has none; they are for torchvision's models")
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
        raise MelvisionError(f"model {name} does not take {size}x{size} pictures ({reason}); try size 224") from None
    return network.train()
