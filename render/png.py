"""Spectrograms to PNG files and back: one pixel is one Mel band of one frame.

The PNG is indexed: people see a colormap, the file holds the level. Row 0 is the highest band. A text chunk says how
the picture was made.
"""

import contextlib
import ctypes
import functools
import json
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from render import __version__, atomic
from render.errors import ParameterError, PictureError
from render.feature_picture import feature_bands
from render.settings import Settings
from render.spectrogram import MAX_PIXELS

#: Keyword of the text chunk by which our pictures are recognised.
CHUNK = "melvision"

#: Characters of that chunk, at most: the name of the audio file is all that varies in length. Parsing JSON of
#: megabytes takes seconds.
MAX_CHUNK = 1 << 16

#: Key in ``Image.info`` under which `load_pixels` keeps why a picture of ours is not as it was written.
_CHANGED = "melvision changed"

#: The only formats that are opened: Pillow passes some others to outside programs (EPS to Ghostscript).
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")


@functools.cache
def palette(cmap: str) -> np.ndarray:
    """Return the 256 colours of a matplotlib colormap.

    Parameters
    ----------
    cmap : str
        Its name.

    Returns
    -------
    colours : np.ndarray, shape (256, 3), uint8
        RGB; row 0 is the colour of the lowest level. Read-only.

    Raises
    ------
    ParameterError
        When matplotlib has no such colormap.
    """
    import matplotlib

    if cmap not in matplotlib.colormaps:
        raise ParameterError("cmap", cmap, "a colormap of matplotlib, such as magma, viridis or inferno")
    # Rounded here, not by `bytes=True`: its rounding has changed between matplotlib's releases.
    colours = np.rint(matplotlib.colormaps[cmap](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.uint8)
    colours.flags.writeable = False
    return colours


def quantise(S_db: np.ndarray, *, vmin: float | np.ndarray, vmax: float | np.ndarray) -> np.ndarray:
    """Convert decibels to levels.

    Parameters
    ----------
    S_db : np.ndarray, float32
        Values outside [vmin, vmax] are clipped.
    vmin, vmax : float or np.ndarray, in dB
        The values of levels 0 and 255.

    Returns
    -------
    levels : np.ndarray, same shape, uint8
        The nearest level; the error is at most ``(vmax - vmin) / 510`` dB.
    """
    low, scale = np.float32(vmin), np.float32(255 / (vmax - vmin))
    levels = np.empty(S_db.shape, np.uint8)
    for start in range(0, S_db.shape[-1], 1 << 16):  # in pieces, so that a long track needs little memory
        columns = slice(start, start + (1 << 16))
        scaled = S_db[..., columns] - low
        scaled *= scale
        np.rint(np.clip(scaled, 0, 255, out=scaled), out=scaled)
        levels[..., columns] = scaled
    return levels


def quantise_rows(values: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    """Convert values to levels; in a feature picture each band of rows has its own range.

    Parameters
    ----------
    values : np.ndarray, shape (n_rows, n_frames), float32
        Row 0 is the lowest.
    about : dict
        From `describe`.

    Returns
    -------
    levels : np.ndarray, same shape, uint8
    """
    vmin, vmax = _row_ranges(about, len(values))
    return quantise(values, vmin=vmin, vmax=vmax)


def _row_ranges(about: dict[str, Any], n_rows: int) -> tuple:
    """Return the values of levels 0 and 255: two numbers, or two columns (n_rows, 1) where there are bands."""
    if "bands" not in about:
        return float(about["vmin"]), float(about["vmax"])
    rows = [band["rows"] for band in about["bands"]]
    if sum(rows) != n_rows:
        raise ValueError(f"{n_rows} rows; its bands have {sum(rows)}")
    return tuple(np.repeat([float(band[end]) for band in about["bands"]], rows)[:, None] for end in ("vmin", "vmax"))


def describe(settings: Settings, source: dict[str, Any], cmap: str) -> dict[str, Any]:
    """Return what the text chunk of a picture says, as a dict ready for JSON.

    Parameters
    ----------
    settings : Settings
        How the picture is made.
    source : dict
        The audio file's ``name``, ``size`` in bytes and content ``hash``.
    cmap : str
        Name of the colormap.
    """
    about = {"version": __version__, **settings.to_dict(), "cmap": cmap, "source": source}
    about |= {"vmin": -settings.top_db, "vmax": 0.0}
    return about | ({"bands": feature_bands(settings)} if settings.kind == "features" else {})


def write(path: str | Path, values: np.ndarray, about: dict[str, Any], *, colours: np.ndarray) -> None:
    """Write one picture atomically.

    Parameters
    ----------
    path : str or Path
        PNG to write; an existing file is replaced.
    values : np.ndarray, shape (n_rows, n_frames), float32
        S_db, or what `feature_picture.feature_values` returns; row 0 is the lowest band.
    about : dict
        From `describe`.
    colours : np.ndarray, shape (256, 3), uint8
        From `palette`.
    """
    levels = quantise_rows(values, about)
    image = Image.fromarray(np.ascontiguousarray(levels[::-1]), "L")
    image.putpalette(colours.tobytes())  # turns mode "L" into "P" and keeps the indices
    text = PngImagePlugin.PngInfo()
    # JSON in ASCII: names in any script, and even bytes that are not valid text, survive as escapes.
    text.add_text(CHUNK, json.dumps(about, sort_keys=True))
    with atomic.replacing(path) as file:
        # For noisy pictures like these, level 1 is faster than the default and the file no larger.
        image.save(file, "PNG", pnginfo=text, compress_level=1)


def open_picture(path: str | Path | IO[bytes]) -> Image.Image:
    """Open a picture without decoding its pixels; one that is too large to be decoded safely is refused.

    Parameters
    ----------
    path : str, Path or binary file
        The picture.

    Returns
    -------
    image : PIL.Image.Image
        Its pixels are not read yet. Close it, or use it in a ``with`` block.

    Raises
    ------
    PictureError
        When it is missing, not a picture, or has over `MAX_PIXELS` pixels.
    """
    try:
        image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError:
        raise PictureError(f"is too large to decode safely (over {MAX_PIXELS} pixels)") from None
    except FileNotFoundError:
        raise PictureError("is missing") from None
    except Exception as error:  # Pillow's parsers raise many kinds of exception on damaged files
        reason = "unknown format or damaged" if isinstance(error, Image.UnidentifiedImageError) else error
        raise PictureError(f"cannot be read as a picture ({reason})") from None
    if image.format == "TIFF":
        _silence_libtiff()
    if image.width * image.height > MAX_PIXELS:
        width, height = image.size
        image.close()
        raise PictureError(f"is {width}x{height}, too large to decode safely (over {MAX_PIXELS} pixels)")
    return image


@functools.cache
def _silence_libtiff() -> None:
    """Keep the library behind Pillow's TIFFs from printing: what it finds damaged reaches us as an exception too.

    It prints to the process's standard error, past Python, with names such as ``tempfile.tif``. Its handlers are found
    through Pillow's own module, which is linked with it; where it is linked in statically (Windows), nothing is done.
    """
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(Image.core.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            handler = getattr(library, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)


def load_pixels(image: Image.Image) -> None:
    """Decode the pixels of an open picture and turn them upright, as the EXIF data of photos and scans says.

    A text chunk of ours that stands behind the pixels is no longer believed: another program wrote the file, and
    nothing tells whether its columns are still frames.

    Parameters
    ----------
    image : PIL.Image.Image
        From `open_picture`; changed in place.

    Raises
    ------
    PictureError
        When its pixels are damaged.
    """
    was_in_front = CHUNK in image.info
    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise PictureError(f"is damaged ({error})") from None
    if CHUNK in image.info and not was_in_front:
        image.info[_CHANGED] = "another program wrote the file anew"
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        if orientation in range(2, 9):
            ImageOps.exif_transpose(image, in_place=True)
            image.info[_CHANGED] = "its EXIF data turn it"
    except Exception:  # damaged EXIF data turn nothing
        return


def _parse(image: Image.Image) -> dict[str, Any] | None:
    """Return what the text chunk says, whether or not the picture is still as it was written."""
    text = image.info.get(CHUNK)
    if not isinstance(text, str) or len(text) > MAX_CHUNK:
        return None
    try:
        about = json.loads(text)
        about |= Settings.from_dict(about).to_dict()
        good = isinstance(about["source"], dict) and float(about["vmin"]) < float(about["vmax"])
        for band in about.get("bands", []):
            good &= type(band["rows"]) is int and band["rows"] > 0 and float(band["vmin"]) < float(band["vmax"])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    return about if good else None


def _palette_of(image: Image.Image) -> np.ndarray:
    """R, G, B, R, G, B ... of an indexed picture, without decoding its pixels."""
    table = image.palette
    if table is not None and table.mode == "RGB" and table.rawmode in (None, "RGB"):
        return np.frombuffer(bytes(table.palette), np.uint8)
    return np.array(image.getpalette("RGB") if table else [], np.uint8)


def _change(image: Image.Image, about: dict[str, Any]) -> str:
    """Return in what a picture is not as `write` wrote it; empty where it is."""
    if _CHANGED in image.info:
        return image.info[_CHANGED]
    if image.mode != "P":
        return f"its pixels are {image.mode}; expected a palette"
    n_rows = sum(band["rows"] for band in about["bands"]) if "bands" in about else about["n_mels"]
    if image.height != n_rows:
        return f"it has {image.height} rows; its text chunk says {n_rows}"
    if about["duration"] is not None:
        most = int(about["duration"] * about["sr"] / about["hop_length"]) + 2  # frames at both ends, and rounding
        if image.width > most:
            return f"it has {image.width} columns; its text chunk says at most {most}"
    # Where the chunk does not name the colormap, any will do that people see as levels.
    cmap = about.get("cmap")
    try:
        colours = palette(cmap).ravel() if cmap else None
    except (ParameterError, TypeError):
        return f"its colormap {cmap!r:.50} is not known here"
    if colours is not None and not np.array_equal(_palette_of(image), colours):
        return f"its palette is not {cmap}"
    return ""


def read_about(image: Image.Image) -> dict[str, Any] | None:
    """Return what the text chunk of an open picture says; see `describe`.

    It is believed only where the picture is as `write` wrote it. Other programs keep the chunk when they resize a
    picture, or reduce its colours. A figure stays a figure whatever was done to it.

    Parameters
    ----------
    image : PIL.Image.Image
        From `open_picture`.

    Returns
    -------
    about : dict or None
        As `describe` returned it; None if the picture is not ours, was changed (see `changed`) or its chunk is damaged.
    """
    about = _parse(image)
    return about if about and (about["style"] == "figure" or not _change(image, about)) else None


def changed(image: Image.Image) -> str:
    """Return how another program changed a picture of ours, so that its text chunk is not believed.

    Parameters
    ----------
    image : PIL.Image.Image
        From `open_picture`.

    Returns
    -------
    reason : str
        Empty where the picture is as it was written, or is not ours.
    """
    about = _parse(image)
    return _change(image, about) if about and about["style"] != "figure" else ""


def read(path: str | Path | IO[bytes]) -> tuple[np.ndarray, dict[str, Any]]:
    """Read one of our pictures back.

    Parameters
    ----------
    path : str or Path
        A PNG that `write` made.

    Returns
    -------
    values : np.ndarray, shape (n_rows, n_frames), float32
        Row 0 is the lowest band; within half a level of what was written (0.16 dB for 80 dB).
        The rows of a feature picture are those of ``about["bands"]``.
    about : dict
        The settings and the source, as `describe` made them.

    Raises
    ------
    PictureError
        When it cannot be read or is not one of ours.
    """
    with open_picture(path) as image:
        about = read_about(image)
        if about is None or about["style"] == "figure":
            change = f" as it is ({change})" if (change := changed(image)) else ""
            reason = "is a figure for people" if about else f"was not written by melvision{change}"
            raise PictureError(f"{reason}: it holds no levels to read back")
        try:
            levels = np.asarray(image)[::-1]
        except Exception as error:
            raise PictureError(f"is damaged ({error})") from None
    try:
        vmin, vmax = _row_ranges(about, len(levels))
    except ValueError as error:
        raise PictureError(f"is damaged ({error})") from None
    return (levels * np.float32((vmax - vmin) / 255) + np.float32(vmin)).astype(np.float32), about
