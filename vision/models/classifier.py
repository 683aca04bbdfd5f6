"""GenreClassifier: a weighted set of experts, and a temperature."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from render.errors import MelvisionError
from vision.models.cnn import MODELS
from vision.models.pretrained import torchvision_model
from vision.models.svm import TextureSVM
from vision.models.texture_space import TextureSpace

#: Name of the expert on texture; the other one goes by its network's name.
TEXTURE = "texture"


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
    """A weighted mean of experts: a network, and support vector machines on texture statistics.

    Parameters
    ----------
    net : nn.Module or None
        Normalised pictures to logits; None where texture is the only expert.
    normalize : Normalize
        For `net` only.
    texture : TextureSVM or None
        None where the network is the only expert.
    experts : dict of str to float
        The weight of each expert in the mean of their probabilities, by its name: the network's, and `TEXTURE`. They
        sum to 1.
    own_space : TextureSpace, optional
        Where there is no `texture`: it tells what is unlike the training music.
    """

    temperature: torch.Tensor

    def __init__(
        self,
        net: nn.Module | None,
        normalize: Normalize,
        texture: TextureSVM | None,
        experts: Mapping[str, float],
        own_space: TextureSpace | None = None,
    ):
        super().__init__()
        self.normalize, self.net, self.texture, self.experts = normalize, net, texture, dict(experts)
        self.own_space = own_space
        #: Divides the logits outside training; see `calibration.calibrate`.
        self.register_buffer("temperature", torch.ones(()))

    @property
    def network_name(self) -> str | None:
        """The name of the expert that is trained; None where there is none."""
        return next((name for name in self.experts if name != TEXTURE), None)

    @property
    def space(self) -> TextureSpace | None:
        """Where the train windows lie; None in models of earlier versions without texture."""
        return self.own_space if self.texture is None else self.texture

    def alone(self, name: str) -> "GenreClassifier":
        """Return one expert as a classifier of its own, which shares its weights and is not calibrated."""
        texture = name == TEXTURE
        net = None if texture else self.net
        single = GenreClassifier(net, self.normalize, self.texture if texture else None, {name: 1.0})
        return single.to(self.temperature.device).train(self.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of pixels in [0, 1].

        Parameters
        ----------
        x : torch.Tensor, shape (B, C, H, W)

        Returns
        -------
        logits : torch.Tensor, shape (B, n_classes)
            In training the network's alone: it learns as if there were no other expert. Otherwise, with several,
            the logarithm of the weighted mean of their probabilities.
        """
        return self._logits(x, None)

    def with_distance(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits as of `forward`, and how far each picture is from the train windows, (B,); it needs a `space`."""
        assert self.space is not None
        statistics = self.space.texture(x)
        return self._logits(x, statistics), self.space.distance(statistics)

    def _logits(self, x: torch.Tensor, statistics: torch.Tensor | None) -> torch.Tensor:
        if self.training or self.texture is None:
            assert self.net is not None
            logits = self.net(self.normalize(x))
            return logits if self.training else logits / self.temperature
        texture = self.texture.classify(self.texture.texture(x) if statistics is None else statistics)
        if self.net is None:
            return texture / self.temperature
        logits = self.net(self.normalize(x))
        mean = self.experts[TEXTURE] * texture.softmax(dim=1)
        mean = mean + (1 - self.experts[TEXTURE]) * logits.float().softmax(dim=1)
        return mean.clamp_min(1e-12).log() / self.temperature


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
    experts: Mapping[str, float] | None = None,
    space: int = 0,
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
    experts : dict of str to float, optional
        As of `GenreClassifier`; by default the network, and texture with half the weight where there is one.
    space : int
        Train windows that a `TextureSpace` holds where there is no texture SVM; 0 for none.
    weights : str, optional
        For `torchvision_model`.

    Raises
    ------
    MelvisionError
        When there is no such network, or it does not take pictures of this size.
    """
    if experts is None:
        experts = {name: 0.5, TEXTURE: 0.5} if texture else {name: 1.0}
    net: nn.Module | None = None
    if name not in experts:
        pass
    elif name in MODELS:
        if weights:
            raise MelvisionError(f"weights {weights}: {name} has none; they are for torchvision's models")
        net = MODELS[name](n_classes, channels=channels, size=size, dropout=dropout)
    else:
        net = torchvision_model(name, n_classes, weights=weights, dropout=dropout)
    head = TextureSVM(n_classes, size=size, points=texture) if texture else None
    own_space = TextureSpace(size=size, points=space) if space and not texture else None
    network = GenreClassifier(net, Normalize(mean, std), head, experts, own_space).eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, channels, size, size))
    except Exception as error:  # many kinds, by layer
        reason = str(error).splitlines()[0]
        raise MelvisionError(f"model {name} does not take {size}x{size} pictures ({reason}); try size 224") from None
    return network.train()
