"""What an expert makes of a picture before it decides on a genre."""

from typing import Any

import torch

from render.errors import MelvisionError
from vision.models.classifier import MUSICNN, TEXTURE, GenreClassifier
from vision.models.initial import last_layer


def embedding(model: GenreClassifier, x: torch.Tensor, expert: str, n_classes: int) -> torch.Tensor:
    """Numbers that describe pictures.

    Parameters
    ----------
    model : GenreClassifier
        In evaluation mode.
    x : torch.Tensor, shape (B, C, H, W)
        Pixels in [0, 1].
    expert : str
        One of the model's. Of its network it is what the last layer takes; of musicnn its 200 numbers; of texture the
        statistics along their principal axes.
    n_classes : int
        Genres.

    Returns
    -------
    embedding : torch.Tensor, shape (B, d), float32

    Raises
    ------
    MelvisionError
        When the network does not end in a linear layer.
    """
    if expert == TEXTURE and model.texture is not None:
        return model.texture.project(model.texture.statistics(x))
    if expert == MUSICNN and model.musicnn is not None:
        return model.musicnn.statistics(x)
    assert model.net is not None
    name = last_layer(model.net, n_classes)
    if not name:
        raise MelvisionError(f"{expert}: its last layer is not linear, so it gives no embedding; name another expert")
    found: list[torch.Tensor] = []

    def keep(layer: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        found.append(inputs[0])

    handle = model.net.get_submodule(name).register_forward_pre_hook(keep)
    try:
        model.net(model.normalize(x))
    finally:
        handle.remove()
    return found[0].float()
