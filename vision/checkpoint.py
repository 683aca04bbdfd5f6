"""Weights, class names and all that is needed to predict the same way, in one file."""

import math
import pickle
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from render import atomic
from render.cli import InputError
from vision import models
from vision.transforms import RemoveBorder

FORMAT = 2


@dataclass
class Recipe:
    """How a model sees pictures. JSON-able.

    Attributes
    ----------
    classes : list of str
        Genres in the order of the logits. Never taken from a folder listing again.
    model : dict
        The arguments of `models.build`, less `n_classes`.
    frames : list of dict
        For `RemoveBorder`.
    render : dict or None
        How the train pictures were drawn, from their text chunks; None for other programs' pictures.
    seconds : float
        Length of track that a train picture spans.
    window : float or None
        Seconds that the network takes at once; None is a whole track.
    drawn : list of 2 int, or None
        Width and height at which another program drew the train pictures. Ours and audio are
        drawn so too before they are resized: the network notices how columns and rows were dropped
        or repeated.
    about : dict
        Run settings, versions, the kept epoch: for people, not for predicting.
    """

    classes: list
    model: dict
    frames: list = field(default_factory=list)
    render: dict | None = None
    seconds: float = 30.0
    window: float | None = None
    drawn: list | None = None
    about: dict = field(default_factory=dict)

    @property
    def size(self):
        """Height and width of the network's input, in pixels."""
        return self.model["size"]

    @property
    def channels(self):
        """1 for levels, 3 for colours."""
        return self.model["channels"]

    def width(self, seconds):
        """Pixels that so many seconds take, at the network's `size`."""
        if self.window:
            return max(1, round(self.size * seconds / self.window))
        # Whole tracks are made `size` wide; of a much longer one, each piece as long as those.
        return self.size * max(1, round(seconds / self.seconds))

    def remove_border(self):
        """Return the margin remover as it was fitted."""
        return RemoveBorder(self.frames)


def build(recipe, weights=None):
    """Make the network that a recipe describes, with fresh weights; see `models.build`."""
    return models.build(len(recipe.classes), **recipe.model, weights=weights)


def save(path, model, recipe):
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : str or Path
        ``model.pt`` of a run.
    model : nn.Module
        From `build`; its weights are stored as float32 on the CPU.
    recipe : Recipe
        What it was built from.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write(path, {"format": FORMAT, "recipe": asdict(recipe), "weights": weights})


def write(path, content):
    """Store a dict of tensors and plain values at `path`, whole or not at all."""
    with atomic.replacing(path) as file:
        torch.save(content, file)


def read(path):
    """Read what `write` stored, running no code that a file may hold.

    Raises
    ------
    InputError
        When the file is missing or no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such checkpoint; expected a run folder with model.pt in it")
    try:
        # torch reads weights without a look at their checksums.
        with zipfile.ZipFile(path) as parts:
            if parts.testzip():
                raise ValueError("checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, AttributeError,
            zipfile.BadZipFile, zlib.error, NotImplementedError):  # fmt: skip
        raise InputError(f"{path}: is no checkpoint or damaged; expected the model.pt of a run") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path}: was not written by this version of melvision; train anew, or use its version")
    return content


def load(path):
    """Load a checkpoint.

    Parameters
    ----------
    path : str or Path
        ``model.pt``, or the run folder that holds it.

    Returns
    -------
    model : nn.Module
        In evaluation mode, on the CPU, float32.
    recipe : Recipe

    Raises
    ------
    InputError
        When it is missing, damaged, or not a melvision checkpoint.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "model.pt"
    content = read(path)
    try:
        recipe = Recipe(**content["recipe"])
        if not all(isinstance(name, str) for name in recipe.classes) or not 0 < recipe.seconds < math.inf:
            raise ValueError("classes or seconds")
        if recipe.window is not None and not 0 < recipe.window < math.inf:
            raise ValueError("window")
        if recipe.drawn and not 0 < min(recipe.drawn) <= max(recipe.drawn) < 1 << 14:
            raise ValueError("drawn")
        model = build(recipe)
        model.load_state_dict(content["weights"])
        recipe.remove_border()
    except (TypeError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise InputError(f"{path}: does not fit this version of melvision ({str(error).splitlines()[0]})") from None
    return model.to(memory_format=torch.channels_last).eval(), recipe
