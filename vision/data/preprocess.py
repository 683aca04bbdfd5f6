"""The one way from a picture, a recording or samples to the network's input."""

from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from render import png
from render.settings import Settings
from vision.data.borders import BORDER_SAMPLE, RemoveBorder
from vision.data.colormaps import read_levels, stretch


def to_tensor(image):
    """A picture as levels where its colours have a known meaning, else as RGB.

    Parameters
    ----------
    image : PIL.Image.Image
        Without its margin. Grey pictures hold levels already.

    Returns
    -------
    x : torch.Tensor, shape (1, h, w) or (3, h, w), uint8
        One channel of levels, stretched, or three of colour.
    """
    pixels, cmap = read_levels(image)
    if cmap is None:
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    return torch.from_numpy(np.array(stretch(pixels)))[None]


def redraw(image, size, tracks=1.0):
    """Draw one of our pictures at the size that another program would have, without blending.

    Parameters
    ----------
    image : PIL.Image.Image
        Indexed or grey.
    size : sequence of 2 int, or None
        Width and height; None leaves the picture as it is.
    tracks : float
        How many times as long as the other program's tracks this one is.
    """
    if not size:
        return image
    return image.resize((max(1, round(size[0] * tracks)), size[1]), Image.Resampling.NEAREST)


class ToInput:
    """Levels or colours at the height of the network's input, as a transform: PIL image to uint8 tensor.

    Parameters
    ----------
    size : int
        Height in pixels, and width of what the network takes at once.
    """

    def __init__(self, size=224):
        self.size = size

    def __repr__(self):
        return f"{type(self).__name__}(size={self.size})"

    def __call__(self, image, width=None):
        """Return uint8 (1, size, width) where colours are known, else (3, size, width).

        `width` is `size` by default. A picture that takes less is repeated until it fills it: to
        stretch it would slow the music down.
        """
        return self.resize(to_tensor(image), width)

    def resize(self, x, width=None):
        """As calling it, for levels or colours: uint8 (channels, h, w)."""
        # torchvision's resize is this, bit for bit, but takes seconds to import; predicting needs nothing else of it.
        x = interpolate(x[None], (self.size, width or self.size), mode="bilinear", antialias=True)[0]
        if x.shape[-1] < self.size:
            x = x.repeat(1, 1, -(-self.size // x.shape[-1]))[..., : self.size]
        return x


def match_channels(x, channels):
    """Bring a picture to the channels a model takes.

    Parameters
    ----------
    x : torch.Tensor, shape (1 or 3, h, w), uint8
        Levels or colours.
    channels : int
        1 or 3.

    Returns
    -------
    x : torch.Tensor, shape (channels, h, w), uint8
        Levels are shown to a colour model in magma; colours of unknown meaning are shown to a model
        of levels by their brightness.
    """
    if len(x) == channels:
        return x
    if channels == 3:
        return torch.from_numpy(png.palette("magma").copy())[x[0].long()].permute(2, 0, 1).contiguous()
    red, green, blue = x
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).to(torch.uint8)[None]


#: A side of a picture, in pixels, that no network of ours comes near.
LARGEST_SIDE = 1 << 14

#: Lengths of tracks and windows that make sense, in seconds: others make pictures of absurd width.
LENGTHS = (1e-6, 1e7)


@dataclass
class InputSpec:
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

    @classmethod
    def from_dict(cls, values):
        """Return the recipe that a file holds, which may have come from anywhere.

        Raises
        ------
        ValueError, TypeError, KeyError, AttributeError
            When it is none of ours; the message says which part.
        """
        recipe = cls(**values)
        shortest, longest = LENGTHS
        names = recipe.classes if isinstance(recipe.classes, list) else []
        rules = {
            "classes": names and all(isinstance(name, str) for name in names),
            "seconds": shortest <= recipe.seconds <= longest,
            "window": recipe.window is None or shortest <= recipe.window <= longest,
            "drawn": not recipe.drawn or 0 < min(recipe.drawn) <= max(recipe.drawn) < LARGEST_SIDE,
            "size": type(recipe.size) is int and 0 < recipe.size < LARGEST_SIDE,
            "channels": recipe.channels in (1, 3),
            "texture": type(recipe.model.get("texture")) is int and 0 <= recipe.model["texture"] <= LARGEST_SIDE,
            "about": isinstance(recipe.about, dict),
        }
        for name, good in rules.items():
            if not good:
                raise ValueError(name)
        for frame in recipe.frames:
            edges = [*frame["size"], *frame["colour"], frame["top"], frame["bottom"], frame["left"], frame["count"]]
            if not all(type(value) is int for value in edges + list(frame["rights"])):
                raise ValueError("frames")
        Settings.from_dict(recipe.render or {})
        return recipe

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


#: Seconds that a picture may say that it spans: drawn out for the network, longer ones would fill the memory.
LONGEST_PICTURE = 1e5


def seconds_of(about, width):
    """Length of track that a picture of ours spans, of its text chunk and its width in pixels.

    Raises
    ------
    png.PictureError
        When it says that it spans more than `LONGEST`.
    """
    seconds = width * about["hop_length"] / about["sr"]
    if seconds > LONGEST_PICTURE:
        raise png.PictureError(f"says that it spans {seconds:.0f} s; expected at most {LONGEST_PICTURE:.0f}")
    return seconds


def median_seconds(paths, default):
    """The median length of track that pictures span, in seconds, from `BORDER_SAMPLE` of them.

    Parameters
    ----------
    paths : list of str
        Pictures; those that cannot be read are passed over.
    default : float
        What pictures without our text chunk are taken to span.
    """
    found = []
    for number in np.linspace(0, len(paths) - 1, min(len(paths), BORDER_SAMPLE)).round().astype(int):
        try:
            with png.open_picture(paths[number]) as image:
                about = png.read_about(image)
                found.append(seconds_of(about, image.width) if about else default)
        except png.PictureError:
            continue
    return float(np.median(found)) if found else default
