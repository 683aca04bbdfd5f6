"""What one picture file is: how it was drawn, how much of it is silent, what it sounds like."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from render.errors import PictureError
from render.settings import Settings
from vision.data.colormaps import stretch
from vision.data.images import load
from vision.data.orientation import tilt_of
from vision.data.preprocess import Content, Preprocessor
from vision.data.survey import examine
from vision.quality.near_duplicates import fingerprint
from vision.splits.keys import picture_key

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
        Why it cannot be used; empty when it can: the rest is only filled in then.
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
    changed : str
        How another program changed a picture of ours; see `render.png.changed`.
    blank : bool
        One colour throughout.
    silence : float
        Share of its columns without sound.
    tilt : float
        See `orientation.tilt_of`; 0 for colours.
    upright : bool
        Whether `render` drew it.
    pixels : str
        `pixels.pixel_hash`.
    fingerprint : np.ndarray
        `similar.fingerprint`.
    pieces : bool
        As for `keys.track_key`.
    """

    file: str
    genre: str
    problem: str = ""
    size: tuple = (0, 0)
    drawn: str = ""
    margin: tuple = (0, 0, 0, 0)
    own_edges: bool = False
    seconds: float = 0.0
    changed: str = ""
    blank: bool = False
    silence: float = 0.0
    tilt: float = 0.0
    upright: bool = False
    pixels: str = ""
    fingerprint: np.ndarray | None = None
    pieces: bool = False

    @property
    def track(self) -> tuple[str, str]:
        """Genre and `groups.track_key`."""
        return self.genre, picture_key(self.genre, self.file, pieces=self.pieces)


def _describe(image: Image.Image, content: Content) -> str:
    """How a picture was drawn, in a few words that are the same for all of a kind."""
    settings, cmap = content.settings, content.cmap
    if settings is None:
        form = f"{image.mode} {image.format}" if image.format else "16-bit grey"
        return "{}x{} {}, {}".format(*image.size, form, cmap or "colours of no known colormap")
    drawn = f"melvision {settings.kind}, {settings.n_mels} bands, {settings.sr} Hz, hop {settings.hop_length}, {cmap}"
    named = {"kind", "style", "n_mels", "sr", "hop_length", "offset", "duration"}
    default = Settings().to_dict()
    unusual = [name for name, value in settings.to_dict().items() if name not in named and value != default[name]]
    return drawn + "".join(f", {name} {getattr(settings, name)}" for name in unusual)


def picture_info(path: str | Path, info: PictureInfo, preprocessor: Preprocessor) -> PictureInfo:
    """Look at one file.

    Parameters
    ----------
    path : str or Path
        Where it is.
    info : PictureInfo
        With `file` and `genre`, to be filled in.
    preprocessor : Preprocessor
        Of the folder, or of a model.

    Returns
    -------
    info : PictureInfo
        A filled copy.
    """
    try:
        image = load(path)
        content = preprocessor.content(image)
        levels = content.pixels
        if content.cmap is None:
            levels = np.asarray(Image.fromarray(levels).convert("L"))
        quiet = stretch(levels).max(axis=0) <= SILENT_LEVEL
        left, top, right, bottom = content.box
        return replace(
            info,
            size=image.size,
            drawn=_describe(image, content),
            own_edges=content.unknown_size is not None,
            seconds=content.seconds,
            changed=content.changed,
            margin=(left, top, image.width - right, image.height - bottom),
            blank=bool(quiet.all()),
            silence=float(quiet.mean()),
            upright=content.settings is not None,
            tilt=tilt_of(stretch(levels)) if content.has_tilt else 0.0,
            pixels=examine(path).pixels or "",
            fingerprint=fingerprint(levels, content.seconds),
        )
    except (PictureError, OSError, MemoryError) as error:
        return replace(info, problem=str(error) or type(error).__name__)
