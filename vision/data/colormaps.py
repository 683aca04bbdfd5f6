"""Colours of a plotted spectrogram back to the levels they stand for."""

import functools

import numpy as np
from PIL import Image

from render import png

WHITE = (255, 255, 255)

_WHITE_CODE = 0xFFFFFF

#: Colormaps that are turned back into levels, the likeliest first.
COLORMAPS = "magma viridis inferno plasma cividis turbo jet coolwarm gray".split()

#: So many of the colours must be entries of a table to take the picture for exact.
EXACT_SHARE = 0.95

#: Mean distance in RGB up to which blended colours belong to a table. Interpolated pictures were 2 to 6
#: from their own table and JPEGs in magma or viridis 9 to 11; pictures in most colormaps that are not
#: listed were 19 or more from all of these. Reversed maps have the same colours: their levels come
#: out upside down.
NEAR = 12.0


@functools.cache
def _tables():
    """Every known colormap as (name, sorted 24-bit codes, the level of each code, tree of its colours).

    Each comes twice: matplotlib rounds the colours of a mesh and cuts off those of an image. Codes
    have red in their lowest byte.
    """
    import matplotlib
    from scipy.spatial import cKDTree

    tables = []
    for cmap in COLORMAPS:
        exact = matplotlib.colormaps[cmap](np.linspace(0, 1, 256))[:, :3] * 255
        for table in (np.rint(exact).astype(np.int32), exact.astype(np.int32)):
            codes = table[:, 0] | table[:, 1] << 8 | table[:, 2] << 16
            codes, levels = np.unique(codes, return_index=True)
            tables.append((cmap, codes, levels.astype(np.uint8), cKDTree(table)))
    return tables


@functools.cache
def _levels_of_codes(number):
    """What level each of all 24-bit codes is in a table, plus 256; 0 for what is not in it.

    Searching the table for each pixel took longer than all else that is done to a picture. Of these 32 MB
    the system gives out only the pages of colours that occur.
    """
    _, codes, levels, _ = _tables()[number]
    found = np.zeros(1 << 24, np.uint16)
    found[_WHITE_CODE] = 256  # level 0, unless it is a colour of the table
    found[codes] = levels.astype(np.uint16) + 256
    return found


def _codes(pixels):
    """24-bit codes of RGB pixels: (h, w, 3), uint8, to (h, w), int32, with red in the lowest byte."""
    height, width = pixels.shape[:2]
    if pixels.strides == (4 * width, 4, 1) and pixels.base is not None and pixels.base.shape == (height, width, 4):
        wide = pixels.base
    else:
        wide = np.zeros((height, width, 4), np.uint8)
        wide[..., :3] = pixels
    return (wide.view("<u4")[..., 0] & 0xFFFFFF).view(np.int32)


def _split(codes):
    """24-bit codes to RGB rows: (n,) to (n, 3)."""
    return np.stack([codes & 255, codes >> 8 & 255, codes >> 16], axis=-1)


def colours_to_levels(pixels):
    """Undo a colormap: where the colours are those of one of matplotlib's tables, return the levels.

    Colours that are exact entries of a table settle it. Otherwise `imshow` or a lossy format may
    have blended them: then the table counts that they lie closest to, if they do lie close. White,
    where it is no colour of the table, is what matplotlib draws for minus infinity: level 0.

    Parameters
    ----------
    pixels : np.ndarray, shape (h, w, 3), uint8
        RGB.

    Returns
    -------
    levels : np.ndarray, shape (h, w), uint8, or None
        None where the colours are of no known table.
    cmap : str or None
        The table's name.
    """
    codes = _codes(pixels)
    sample = np.sort(codes.ravel()[:: max(1, codes.size // 2000)])  # what is in order is found sooner
    sample = sample[sample != _WHITE_CODE]
    # Two colours are in many tables; a picture of silence tells nothing.
    if np.count_nonzero(np.diff(sample)) < 2:
        return None, None
    for number, (name, known, _, tree) in enumerate(_tables()):
        if (known.take(np.searchsorted(known, sample), mode="clip") == sample).mean() >= EXACT_SHARE:
            whole = _levels_of_codes(number).take(codes)  # twice as quick as by index
            found = whole.astype(np.uint8)  # the lower byte
            if whole.min() < 256:  # blends along the edges of the axes
                unknown = whole < 256
                found[unknown] = tree.query(pixels[unknown])[1]
            return found, name
    distance = [tree.query(_split(sample))[0].mean() for *_, tree in _tables()]
    best = int(np.argmin(distance))
    if distance[best] > NEAR:
        return None, None
    cmap, known, _, tree = _tables()[best]
    different, inverse = np.unique(codes, return_inverse=True)
    found = tree.query(_split(different))[1].astype(np.uint8)[inverse].reshape(codes.shape)
    if known[-1] != _WHITE_CODE:
        found[codes == _WHITE_CODE] = 0
    return found, cmap


def stretch(levels):
    """Scale a picture's levels to its own range, as matplotlib does when it draws one.

    Other programs' pictures come that way and cannot be undone: level 0 is the track's own minimum,
    be that 80 dB or 60 dB below its peak. Ours are fixed at 80 dB; stretched, they agree.

    Parameters
    ----------
    levels : np.ndarray, shape (h, w), uint8
        Any range.

    Returns
    -------
    levels : np.ndarray, shape (h, w), uint8
        From 0 to 255; a constant picture becomes all 0.
    """
    low, high = int(levels.min()), int(levels.max())
    if high == low:
        return np.zeros_like(levels)
    if (low, high) == (0, 255):
        return levels
    table = np.rint((np.arange(256) - low).clip(0, high - low) * (255 / (high - low))).astype(np.uint8)
    return table.take(levels)


def _palette_name(values, cmap=None):
    """Name of the colormap that an indexed picture's palette is, so that its indices are levels.

    Parameters
    ----------
    values : list of int or None
        R, G, B, R, G, B ... as `PIL.Image.Image.getpalette` gives them.
    cmap : str, optional
        The one it must be, whether listed in `COLORMAPS` or not: what the picture's text chunk says.

    Returns
    -------
    name : str or None
    """
    table = np.array(values or [], np.uint8)
    try:
        names = [cmap] if cmap else COLORMAPS
        return next((name for name in names if np.array_equal(table, png.palette(name).ravel())), None)
    except (ValueError, TypeError):  # the chunk names no colormap
        return None


def as_rgb(image):
    """Pixels as RGB on white paper: (h, w, 3), uint8. What is transparent becomes white."""
    transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    # Four bytes a pixel are one number: `_codes` takes them as they lie in memory.
    image = image.convert("RGBA")
    pixels = np.asarray(image)
    # Alpha is the highest byte: whole numbers are compared in a tenth of the time of every fourth byte.
    if transparent and pixels.view("<u4").min() < 0xFF000000:
        pixels = np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, (*WHITE, 255)), image))
    return pixels[..., :3]


def read_levels(image):
    """A picture's levels, where its colours have a known meaning.

    Parameters
    ----------
    image : PIL.Image.Image
        Without its margin. Grey pictures hold levels already.

    Returns
    -------
    pixels : np.ndarray, shape (h, w) or (h, w, 3), uint8
        Levels as the picture has them, not stretched; RGB where the colours are of no known colormap.
    cmap : str or None
        The colormap, ``"gray"`` for grey; None with RGB.
    """
    if image.mode in ("L", "1"):
        return np.asarray(image.convert("L")), "gray"
    if image.mode == "P":
        about = png.read_about(image)
        cmap = _palette_name(image.getpalette("RGB"), about and about.get("cmap"))
        if cmap:
            return np.asarray(image), cmap
    pixels = as_rgb(image)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    if np.array_equal(red[0], green[0]) and np.array_equal(red, green) and np.array_equal(red, blue):
        return red, "gray"
    levels, cmap = colours_to_levels(pixels)
    return (pixels, None) if levels is None else (levels, cmap)
