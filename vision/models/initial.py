"""Begin a training from the network of an earlier run."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from render.errors import MelvisionError
from vision.models import checkpoint
from vision.models.classifier import GenreClassifier
from vision.models.spec import ModelSpec


def read_initial(run: str | Path, name: str) -> tuple[GenreClassifier, ModelSpec]:
    """Load the model of an earlier run whose network a training is to begin with.

    Parameters
    ----------
    run : str or Path
        A run folder, or its ``model.pt``.
    name : str
        The network that is to be trained.

    Raises
    ------
    MelvisionError
        When there is no usable model, or its network is another one.
    """
    model, spec = checkpoint.load_model(run)
    if model.network_name != name:
        found = f"its network is {model.network_name}" if model.network_name else "it has no network"
        raise MelvisionError(f"{run}: {found}, and {name} is to be trained; give the same --model, or another run")
    return model, spec


@torch.no_grad()
def take_weights(model: GenreClassifier, spec: ModelSpec, run: str | Path) -> str:
    """Copy into a fresh model what fits of an earlier run's network; its texture SVM is fitted anew.

    Parameters
    ----------
    model : GenreClassifier
        Its network gets the weights. The last layer keeps what both know: the rows of genres of the same name.
    spec : ModelSpec
        Of the model.
    run : str or Path
        As of `read_initial`.

    Returns
    -------
    line : str
        What was taken, for the user.
    """
    assert model.net is not None and model.network_name is not None
    earlier, before = read_initial(run, model.network_name)
    assert earlier.net is not None
    mine, theirs = model.net.state_dict(), earlier.net.state_dict()
    head = last_layer(model.net, len(spec.classes))
    fresh = []
    for name, values in mine.items():
        if head and name.startswith(f"{head}."):
            continue
        if name in theirs and theirs[name].shape == values.shape:
            values.copy_(theirs[name])
        else:
            fresh.append(name)
    known = _take_rows(mine, theirs, head, spec.classes, before.classes) if head else []
    if model.normalize.mean.shape == earlier.normalize.mean.shape:
        # What the layers have learned is of pixels scaled so.
        model.normalize.load_state_dict(earlier.normalize.state_dict())
    line = f"begins with {run}: {len(mine) - len(fresh)} of {len(mine)} parts of its network"
    line += f", of the last layer {len(known)} of {len(spec.classes)} genres"
    line += f"; anew: {', '.join(fresh)}" if fresh else ""
    here, there = ((s.input.size, s.input.window) for s in (spec, before))
    return line + (f"; it was trained at {_span(there)}, here it is {_span(here)}" if here != there else "")


def _span(size_and_window: tuple[int, float | None]) -> str:
    size, window = size_and_window
    return f"{size} pixels for {f'{window:g} s' if window else 'a whole track'}"


def last_layer(net: nn.Module, n_classes: int) -> str:
    """Return the name of the layer that gives the logits; empty where there is none of that kind."""
    layers = [(name, part) for name, part in net.named_modules() if isinstance(part, nn.Linear)]
    return next((name for name, part in reversed(layers) if part.out_features == n_classes), "")


def _take_rows(
    mine: dict[str, torch.Tensor],
    theirs: dict[str, torch.Tensor],
    head: str,
    classes: Sequence[str],
    before: Sequence[str],
) -> list[str]:
    """Copy the rows of the last layer for the genres that both know; returns these."""
    numbers = {unicodedata.normalize("NFC", genre): number for number, genre in enumerate(before)}
    rows = [(label, numbers.get(unicodedata.normalize("NFC", genre))) for label, genre in enumerate(classes)]
    weight, bias = f"{head}.weight", f"{head}.bias"
    if weight not in theirs or theirs[weight].shape[1:] != mine[weight].shape[1:]:
        return []
    for label, number in rows:
        if number is not None:
            mine[weight][label] = theirs[weight][number]
            mine[bias][label] = theirs[bias][number]
    return [classes[label] for label, number in rows if number is not None]
