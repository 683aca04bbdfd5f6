"""What one picture file is: how it was drawn, how much of it is silent, what it sounds like."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from render import png
from render.settings import Settings
from vision.data.colormaps import read_levels, stretch
from vision.data.images import load, pixel_hash
from vision.data.preprocess import seconds_of
from vision.quality.near_duplicates import fingerprint
from vision.splits.keys import track_key

#: Columns up to this level of a stretched picture are silent.
SILENT_LEVEL = 5


@dataclass
class PictureInfo:
    """What one file is.

    Attributes
    ----------
    file, genre : str
        Path below the pictures folder, with forward slashes, and the genre folder.
    problem : str
        Why it cannot be used; empty when it can: the rest is only told then.
    size : tuple of 2 int
        Width and height with margins, in pixels.
    drawn : str
        How it was drawn: size, mode, colormap, format; of ours the settings.
    margin : tuple of 4 int
        Pixels left, top, right, bottom.
    own_edges : bool
        The margin was found by this picture alone.
    seconds : float
        Length of track that it spans.
    blank : bool
        One colour throughout.
    silence : float
        Share of its columns without sound.
    pixels : str
        `pixels.pixel_hash`.
    fingerprint : np.ndarray
        `similar.fingerprint`.
    """

    file: str
    genre: str
    problem: str = ""
    size: tuple = (0, 0)
    drawn: str = ""
    margin: tuple = (0, 0, 0, 0)
    own_edges: bool = False
    seconds: float = 0.0
    blank: bool = False
    silence: float = 0.0
    pixels: str = ""
    fingerprint: np.ndarray | None = None

    @property
    def track(self):
        """Genre and `groups.track_key`."""
        return self.genre, track_key(self.file)


def _describe(image, about, cmap):
    """How a picture was drawn, in a few words that are the same for all of a kind."""
    if about is None:
        form = f"{image.mode} {image.format}" if image.format else "16-bit grey"
        return "{}x{} {}, {}".format(*image.size, form, cmap or "colours of no known colormap")
    settings = Settings.from_dict(about)
    told = f"melvision {settings.kind}, {settings.n_mels} bands, {settings.sr} Hz, hop {settings.hop_length}, {cmap}"
    same = {"kind", "style", "n_mels", "sr", "hop_length", "offset", "duration"}
    usual = Settings().to_dict()
    return told + "".join(
        f", {name} {value}" for name, value in settings.to_dict().items() if name not in same and value != usual[name]
    )


def picture_info(path, traits, remove_border, track_seconds):
    """Look at one file.

    Parameters
    ----------
    path : str or Path
        Where it is.
    traits : Traits
        With `file` and `genre`, to be filled in.
    remove_border : RemoveBorder
        Fitted to the folder.
    track_seconds : float
        What a picture without our text chunk is taken to span.

    Returns
    -------
    traits : Traits
        A filled copy.
    """
    try:
        image = load(path)
        about = png.read_about(image)
        box, known = remove_border.box(image)
        levels, cmap = read_levels(image if box == (0, 0, *image.size) else image.crop(box))
        if cmap is None:
            levels = np.asarray(Image.fromarray(levels).convert("L"))
        quiet = stretch(levels).max(axis=0) <= SILENT_LEVEL
        seconds = seconds_of(about, image.width) if about else track_seconds
        return replace(
            traits, size=image.size, drawn=_describe(image, about, cmap), own_edges=not known, seconds=seconds,
            margin=(box[0], box[1], image.width - box[2], image.height - box[3]), blank=bool(quiet.all()),
            silence=float(quiet.mean()), pixels=pixel_hash(image), fingerprint=fingerprint(levels, seconds),
        )  # fmt: skip
    except (png.PictureError, OSError, MemoryError) as error:
        return replace(traits, problem=str(error) or type(error).__name__)
