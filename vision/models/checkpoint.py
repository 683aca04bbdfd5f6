"""Weights, class names and all that is needed to predict the same way, in one file."""

import io
import pickle
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from render import atomic
from render.errors import MelvisionError
from vision.models import run_files
from vision.models.classifier import MUSICNN, GenreClassifier, create_model
from vision.models.spec import ModelSpec

#: Of the files written; those of `OLD_FORMATS` are read too.
FORMAT = 6
OLD_FORMATS = (3, 4, 5)


def build(spec: ModelSpec, weights: str | None = None, pretrained: bool = False) -> GenreClassifier:
    """Make the model that a spec describes, with fresh weights; see `classifier.create_model`."""
    arguments: dict[str, Any] = {**spec.model, "channels": spec.input.channels, "size": spec.input.size}
    # Levels stretched to their own range do not tell what the fixed level of 0 dB would have been.
    render = spec.input.render if spec.input.absolute else {**(spec.input.render or {}), "ref": "max"}
    arguments |= {"seconds_per_pixel": spec.input.seconds_per_pixel, "render": render}
    return create_model(len(spec.classes), **arguments, weights=weights, pretrained=pretrained)


def save(path: str | Path, model: nn.Module, spec: ModelSpec) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : str or Path
        ``model.pt`` of a run.
    model : nn.Module
        From `build`; its weights are stored as float32 on the CPU.
    spec : ModelSpec
        What it was built from.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write(path, {"format": FORMAT, "spec": spec.to_dict(), "weights": weights})


def write(path: str | Path, content: dict) -> None:
    """Store a dict of tensors and plain values at `path`, whole or not at all."""
    with atomic.replacing(path) as file:
        # By way of memory: writing by itself, torch hides behind an error of its own that the disk is full.
        archive = io.BytesIO()
        torch.save(content, archive)
        file.write(archive.getbuffer())


def read(path: str | Path) -> dict:
    """Read what `write` stored, running no code that a file may hold.

    Raises
    ------
    MelvisionError
        When the file is missing or no such file.
    """
    path = Path(path)
    if not path.is_file():
        expected = f"expected a run folder with {run_files.MODEL} in it; {run_files.runs_here()}"
        raise MelvisionError(f"{path}: there is no such checkpoint; {expected}")
    try:
        # torch reads weights without a look at their checksums.
        with zipfile.ZipFile(path) as parts:
            # torch compresses nothing: a small file that would fill the memory is none of its.
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()) or parts.testzip():
                raise ValueError("checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, AttributeError,
            zipfile.BadZipFile, zlib.error, NotImplementedError):  # fmt: skip
        raise MelvisionError(f"{path}: is no checkpoint or damaged; expected the model.pt of a run") from None
    if not isinstance(content, dict) or content.get("format") not in (FORMAT, *OLD_FORMATS):
        raise MelvisionError(f"{path}: was not written by this version of melvision; train anew, or use its version")
    return content


def load_model(path: str | Path) -> tuple[GenreClassifier, ModelSpec]:
    """Load a checkpoint.

    Parameters
    ----------
    path : str or Path
        ``model.pt``, or the run folder that holds it.

    Returns
    -------
    model : nn.Module
        In evaluation mode, on the CPU, float32.
    spec : ModelSpec

    Raises
    ------
    MelvisionError
        When it is missing, damaged, or not a melvision checkpoint.
    """
    path = Path(path)
    if path.is_dir():
        path = path / run_files.MODEL
    content = read(path)
    try:
        spec = ModelSpec.from_dict(content["recipe"] if content["format"] == 3 else content["spec"])
        _check_weights(content["weights"], spec)
        model = build(spec)
        model.load_state_dict(content["weights"])
        _check_answer(model, spec)
    except (TypeError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise MelvisionError(f"{path}: does not fit this version of melvision ({str(error).splitlines()[0]})") from None
    return model.to(memory_format=torch.channels_last).eval(), spec


def _check_weights(weights: dict[str, torch.Tensor], spec: ModelSpec) -> None:
    """Raise ValueError for weights that are no numbers, or too few for the network, before memory is taken for it."""
    for name, tensor in weights.items():
        if tensor.dtype not in (torch.float32, torch.int64) or tensor.layout != torch.strided:
            raise ValueError(f"{name} is {tensor.dtype}")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"{name} holds fewer numbers than its shape says")
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity")
    name = spec.model["name"]
    if name in spec.model["experts"] and name != MUSICNN:  # which is of one size
        with torch.device("meta"):  # shapes only
            alone = {"texture": 0, "musicnn": False, "space": 0, "experts": {name: 1.0}}
            network = build(replace(spec, model={**spec.model, **alone}))
        needed, there = (sum(tensor.numel() for tensor in of.values()) for of in (network.state_dict(), weights))
        if needed > there:
            raise ValueError(f"{name} has {needed} numbers, the file {there}")


@torch.inference_mode()
def _check_answer(model: GenreClassifier, spec: ModelSpec) -> None:
    """Raise ValueError where a model's answer to a picture is no number."""
    size = spec.input.size
    noise = torch.rand(1, spec.input.channels or 1, size, size, generator=torch.Generator().manual_seed(0))
    if not model.eval()(noise).isfinite().all():
        raise ValueError("its answers are no numbers")
