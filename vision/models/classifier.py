"""GenreClassifier: a weighted set of experts, and a temperature."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from render.errors import MelvisionError
from vision.models.cnn import MODELS
from vision.models.musicnn import read_weights
from vision.models.musicnn_expert import MusicnnExpert, MusicnnNetwork
from vision.models.pretrained import torchvision_model
from vision.models.svm import TextureSVM
from vision.models.texture_space import TextureSpace

#: Names of the experts that are fitted once; the one that is trained goes by its network's name.
TEXTURE, MUSICNN = "texture", "musicnn"


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
    """A weighted mean of experts: a network, and others that are fitted once.

    Parameters
    ----------
    net : nn.Module or None
        Normalised pictures to logits; None where there are fitted experts only.
    normalize : Normalize
        For `net` only.
    texture : TextureSVM or None
        Support vector machines on texture statistics.
    experts : dict of str to float
        The weight of each expert in the mean of their probabilities, by its name: the network's, `TEXTURE`, `MUSICNN`.
        They sum to 1.
    musicnn : MusicnnExpert, optional
        A discriminant on musicnn's embedding.
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
        musicnn: MusicnnExpert | None = None,
        own_space: TextureSpace | None = None,
    ):
        super().__init__()
        self.normalize, self.net, self.texture, self.experts = normalize, net, texture, dict(experts)
        self.musicnn, self.own_space = musicnn, own_space
        #: Divides the logits outside training; see `calibration.calibrate`.
        self.register_buffer("temperature", torch.ones(()))

    @property
    def network_name(self) -> str | None:
        """The name of the expert that is trained; None where there is none."""
        return next((name for name in self.experts if name not in self.fitted), None)

    @property
    def fitted(self) -> dict[str, Any]:
        """The experts that are fitted once, by name; each has ``statistics(x)`` and ``classify(statistics)``."""
        found = {TEXTURE: self.texture, MUSICNN: self.musicnn}
        return {name: expert for name, expert in found.items() if expert is not None}

    @property
    def space(self) -> TextureSpace | None:
        """Where the train windows lie; None in models of earlier versions without texture."""
        return self.own_space if self.texture is None else self.texture

    def alone(self, name: str) -> "GenreClassifier":
        """Return one expert as a classifier of its own, which shares its weights and is not calibrated."""
        single = GenreClassifier(
            None if name in self.fitted else self.net,
            self.normalize,
            self.texture if name == TEXTURE else None,
            {name: 1.0},
            self.musicnn if name == MUSICNN else None,
        )
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
        if self.training and self.net is not None:
            return self.net(self.normalize(x))
        return self._combine(self._expert_logits(x, {}))

    def answer(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor | None]:
        """All that a classifier says of pixels in [0, 1], computed once.

        Parameters
        ----------
        x : torch.Tensor, shape (B, C, H, W)

        Returns
        -------
        logits : torch.Tensor, shape (B, n_classes)
            As of `forward`, outside training.
        experts : dict of str to torch.Tensor, shape (B, n_classes)
            Probabilities of each expert alone, not calibrated, by its name; empty where there is one only.
        distance : torch.Tensor, shape (B,), or None
            How far each picture is from the train windows; None without a `space`.
        """
        known, distance = {}, None
        if self.space is not None:
            known = {TEXTURE: self.space.statistics(x)}
            distance = self.space.distance(known[TEXTURE])
        of_experts = self._expert_logits(x, known)
        logits = self._combine(of_experts)
        if len(of_experts) == 1:
            return logits, {}, distance
        return logits, {name: of_experts[name].float().softmax(dim=1) for name in self.experts}, distance

    def _expert_logits(self, x: torch.Tensor, known: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The logits of each expert, by its name; `known` are statistics of x, by the expert that they are for."""
        logits = {}
        for name, expert in self.fitted.items():
            logits[name] = expert.classify(known[name] if name in known else expert.statistics(x))
        if self.net is not None and self.network_name is not None:
            logits[self.network_name] = self.net(self.normalize(x))
        return logits

    def _combine(self, logits: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The calibrated logits of the weighted mean of the experts' probabilities."""
        if len(logits) == 1:
            return next(iter(logits.values())) / self.temperature
        weighted = [self.experts[name] * of_expert.float().softmax(dim=1) for name, of_expert in logits.items()]
        return sum(weighted[1:], weighted[0]).clamp_min(1e-12).log() / self.temperature


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
    musicnn: bool = False,
    space: int = 0,
    weights: str | None = None,
    seconds_per_pixel: float = 30 / 224,
    render: Mapping[str, Any] | None = None,
    pretrained: bool = False,
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
    musicnn : bool
        Whether musicnn is one of the fitted experts.
    experts : dict of str to float, optional
        As of `GenreClassifier`; by default the network, and texture with half the weight where there is one.
    space : int
        Train windows that a `TextureSpace` holds where there is no texture SVM; 0 for none.
    weights : str, optional
        For `torchvision_model`.
    seconds_per_pixel, render
        For musicnn, as of `PictureToMel`.
    pretrained : bool
        Fill musicnn with the weights of its package, not with random ones.

    Raises
    ------
    MelvisionError
        When there is no such network, it does not take pictures of this size, or musicnn's weights are not here.
    """
    if experts is None:
        experts = {name: 0.5, TEXTURE: 0.5} if texture else {name: 1.0}
    net: nn.Module | None = None
    picture: dict[str, Any] = {"size": size, "seconds_per_pixel": seconds_per_pixel, "render": render}
    if name not in experts:
        pass
    elif name == MUSICNN:
        net = MusicnnNetwork(n_classes, dropout=dropout, **picture)
    elif name in MODELS:
        if weights:
            raise MelvisionError(f"weights {weights}: {name} has none; they are for torchvision's models")
        net = MODELS[name](n_classes, channels=channels, size=size, dropout=dropout)
    else:
        net = torchvision_model(name, n_classes, weights=weights, dropout=dropout)
    head = TextureSVM(n_classes, size=size, points=texture) if texture else None
    own_space = TextureSpace(size=size, points=space) if space and not texture else None
    listener = MusicnnExpert(n_classes, **picture) if musicnn else None
    if pretrained and isinstance(net, MusicnnNetwork):
        read_weights(net.features)
    if pretrained and listener:
        read_weights(listener.net)
    network = GenreClassifier(net, Normalize(mean, std), head, experts, listener, own_space).eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, channels, size, size))
    except Exception as error:  # many kinds, by layer
        reason = str(error).splitlines()[0]
        raise MelvisionError(f"model {name} does not take {size}x{size} pictures ({reason}); try size 224") from None
    return network.train()
