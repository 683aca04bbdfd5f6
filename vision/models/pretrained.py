"""Classification networks of torchvision, with or without pretrained weights."""

import inspect
from typing import Any

import torch
from torch import nn

from render.errors import MelvisionError, ParameterError
from vision.models.cnn import MODELS


class GrayToRGB(nn.Module):
    """Feeds pictures of one channel, or of three, to a network that takes three.

    Parameters
    ----------
    net : nn.Module
        Pictures (B, 3, H, W) to logits.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the network's logits of pixels, shape (B, 1 or 3, H, W); one channel is repeated."""
        return self.net(x.expand(-1, 3, -1, -1))


def torchvision_model(
    name: str, n_classes: int, *, weights: str | None = None, dropout: float | None = None
) -> GrayToRGB:
    """One of torchvision's classification networks.

    Parameters
    ----------
    name : str
        As torchvision calls it, such as ``"resnet18"``.
    n_classes : int
        Genres.
    weights : str, optional
        Pretrained weights, as torchvision calls them, or ``"DEFAULT"``: for all layers but the last, which is new.
    dropout : float, in [0, 1), optional
        Where the network has dropout.

    Raises
    ------
    MelvisionError
        When there is no such network or no such weights, or they cannot be downloaded.
    """
    from torchvision import models

    if name not in models.list_models(module=models):
        raise ParameterError("model", name, f"one of {', '.join(MODELS)}, or a torchvision model such as resnet18")
    builder = inspect.signature(models.get_model_builder(name)).parameters
    options: dict[str, Any] = {"num_classes": n_classes}
    # Two old networks have an auxiliary classifier, and are slow to initialise.
    options |= {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    if dropout is not None and ("dropout" in builder or name.startswith(("vgg", "alexnet", "efficientnet", "mobile"))):
        options["dropout"] = dropout
    net = models.get_model(name, **options)
    if weights:
        try:
            trained = _find_weights(name, weights).get_state_dict(progress=False, check_hash=True)
        except OSError as error:
            raise MelvisionError(f"weights {weights}: cannot be downloaded ({error}); train without weights") from None
        own = net.state_dict()
        fitting = {key: value for key, value in trained.items() if key in own and own[key].shape == value.shape}
        net.load_state_dict(fitting, strict=False)
    return GrayToRGB(net)


def pixel_statistics(name: str, weights: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the pixels, one of each channel, that pretrained weights were trained with.

    Raises
    ------
    MelvisionError
        When torchvision has no such weights.
    """
    how = _find_weights(name, weights).transforms()
    return list(how.mean), list(how.std)


def _find_weights(name: str, weights: str) -> Any:
    from torchvision import models

    try:
        return models.get_model_weights(name)[weights]
    except (KeyError, ValueError):
        raise MelvisionError(f"weights {weights}: torchvision has none of this name for {name}; try DEFAULT") from None
