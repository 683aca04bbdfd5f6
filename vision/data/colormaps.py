"""Colours of a plotted spectrogram back to the levels they stand for.

A colormap is a table of 256 colours, one for each level. To invert it, `colours_to_levels` first has to find out which
table a picture was drawn with. It takes about 2000 pixels and looks them up in each of `COLORMAPS`: in the right table
practically all of them are exact entries, and then every pixel is looked up in it. Interpolation and lossy compression
blend colours, so that few are exact; then the table is taken whose nearest colours are closest on average, if they are
close, or much closer than those of the others, and every pixel gets the level of its nearest colour (a k-d tree over
the 256). Colours that are far from every table stay colours.
"""

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from render import png

if TYPE_CHECKING:  # imported when it is needed
    import scipy.spatial

WHITE = (255, 255, 255)

_WHITE_CODE = 0xFFFFFF

#: Formats whose compression changes colours, and ripples around edges. (Lossless WebP is taken for lossy.)
LOSSY = ("JPEG", "WEBP", "MPO")

#: Colormaps that are turned back into levels, the likeliest first. The last three came with matplotlib 3.10.
COLORMAPS = """magma viridis inferno plasma cividis turbo jet coolwarm gray hot afmhot gist_heat gnuplot gnuplot2 CMRmap
    cubehelix nipy_spectral rainbow Spectral RdBu RdYlBu RdYlGn RdGy PiYG PRGn PuOr BrBG seismic bwr bone copper pink
    YlGnBu YlOrRd YlOrBr YlGn Blues Greens Reds Purples Oranges OrRd RdPu PuRd PuBu PuBuGn BuPu BuGn GnBu Wistia terrain
    gist_earth gist_stern gist_ncar gist_rainbow hsv ocean brg cool spring summer autumn winter
    berlin managua vanimo""".split()

#: Share of the sampled pixels that must be exact entries of a table.
EXACT_SHARE = 0.95

#: Mean distance in RGB up to which blended colours belong to a table. Interpolated pictures were mostly 1 to 10 from
#: their own. Reversed maps have the same colours: their levels come out upside down.
NEAR = 12.0

#: Up to the first distance blended colours also belong to a table when every other colormap is so many times as far.
#: JPEGs of quality 75 were 3 to 40 from their own table and, of all but a few maps, the next one 1.1 times as far or
#: more; shrunk pictures in colours that change quickly were up to 20 from it, and the next one 2.7 times.
FURTHER, RATIO, LOSSY_RATIO = 40.0, 1.35, 1.1

#: Mean distance above which colours are taken for changed by compression, also in a PNG: what a JPEG was saved as.
COMPRESSED = 6.0

#: Brightness and two differences of colour (ITU-R BT.601, as JPEG has them) of RGB. Lossy formats keep the differences
#: at half the resolution, so that they count for less when a level is looked up: with 0.3 the levels of JPEGs in
#: viridis were wrong by 3.9 on average in place of 7.0, of jet by 4.9 in place of 6.4.
YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
YCC_WEIGHTS = (1.0, 0.3, 0.3)

#: Tables are compared by so many colours first, and the best of them by all.
FEW_COLOURS, BEST_TABLES = 100, 5

#: Distance in RGB above which a colour is none of a table's: programs round by 1, and after lossy compression.
OUTSIDE, LOSSY_OUTSIDE = 2.5, 40.0


class _Table(NamedTuple):
    """A colormap: its 24-bit codes, sorted, with the level of each, and a k-d tree of its colours by level."""

    cmap: str
    codes: np.ndarray
    levels: np.ndarray
    tree: "scipy.spatial.cKDTree"


@functools.cache
def _tables() -> list[_Table]:
    """Every known colormap, twice: matplotlib rounds the colours of a mesh and truncates those of an image.

    Codes have red in their lowest byte.
    """
    import matplotlib
    from scipy.spatial import cKDTree

    tables = []
    for cmap in filter(matplotlib.colormaps.__contains__, COLORMAPS):
        exact = matplotlib.colormaps[cmap](np.linspace(0, 1, 256))[:, :3] * 255
        for table in (np.rint(exact).astype(np.int32), exact.astype(np.int32)):
            codes = table[:, 0] | table[:, 1] << 8 | table[:, 2] << 16
            codes, levels = np.unique(codes, return_index=True)
            tables.append(_Table(cmap, codes, levels.astype(np.uint8), cKDTree(table)))
    return tables


@functools.cache
def _lossy_tree(number: int) -> "scipy.spatial.cKDTree":
    """A table's colours by level, to look up those that lossy compression has changed, as `_weighted` gives them."""
    from scipy.spatial import cKDTree

    return cKDTree(_weighted(_tables()[number].tree.data))


def _weighted(colours: np.ndarray) -> np.ndarray:
    """RGB rows as brightness and differences of colour, by their weights: (n, 3) to (n, 3)."""
    return (colours @ YCC.T) * YCC_WEIGHTS


@functools.cache
def _levels_by_code(number: int) -> np.ndarray:
    """The level of each 24-bit code in a table, plus 256; 0 where the code is not in it.

    A search of the table for each pixel took longer than everything else that is done to a picture. Of these 32 MB
    the operating system allocates only the pages of colours that occur.
    """
    table = _tables()[number]
    levels = np.zeros(1 << 24, np.uint16)
    levels[_WHITE_CODE] = 256  # level 0, unless it is a colour of the table
    levels[table.codes] = table.levels.astype(np.uint16) + 256
    return levels


def _codes(pixels: np.ndarray) -> np.ndarray:
    """24-bit codes of RGB pixels: (h, w, 3), uint8, to (h, w), int32, with red in the lowest byte."""
    height, width = pixels.shape[:2]
    if pixels.strides == (4 * width, 4, 1) and pixels.base is not None and pixels.base.shape == (height, width, 4):
        wide = pixels.base
    else:
        wide = np.zeros((height, width, 4), np.uint8)
        wide[..., :3] = pixels
    return (wide.view("<u4")[..., 0] & 0xFFFFFF).view(np.int32)


def _split(codes: np.ndarray) -> np.ndarray:
    """24-bit codes to RGB rows: (n,) to (n, 3)."""
    return np.stack([codes & 255, codes >> 8 & 255, codes >> 16], axis=-1)


def colours_to_levels(pixels: np.ndarray, *, lossy: bool = False) -> tuple[np.ndarray | None, str | None]:
    """Undo a colormap: where the colours are those of one of matplotlib's tables, return the levels.

    White, where it is no colour of the table, is what matplotlib draws for minus infinity: level 0.

    Parameters
    ----------
    pixels : np.ndarray, shape (h, w, 3), uint8
        RGB.
    lossy : bool
        Whether compression has changed colours.

    Returns
    -------
    levels : np.ndarray, shape (h, w), uint8, or None
        None where the colours are of no known table.
    cmap : str or None
        The table's name.
    """
    codes = _codes(pixels)
    sample = _sample(codes)
    number = _exact_table(sample)
    if number is not None:
        table = _tables()[number]
        marked = _levels_by_code(number).take(codes)  # twice as fast as by index
        levels = marked.astype(np.uint8)  # the lower byte
        if marked.min() < 256:  # blends along the edges of the axes
            blends = marked < 256
            levels[blends] = table.tree.query(pixels[blends])[1]
        return levels, table.cmap
    number, distance = _nearest_table(sample, lossy)
    if number is None:
        return None, None
    table = _tables()[number]
    lossy = lossy or distance > COMPRESSED
    unique, inverse = np.unique(codes, return_inverse=True)
    colours = _split(unique)
    nearest = _lossy_tree(number).query(_weighted(colours))[1] if lossy else table.tree.query(colours)[1]
    levels = nearest.astype(np.uint8)[inverse].reshape(codes.shape)
    if table.codes[-1] != _WHITE_CODE:
        levels[codes == _WHITE_CODE] = 0
    return levels, table.cmap


def _sample(codes: np.ndarray) -> np.ndarray:
    """About 2000 codes of a picture, without white, sorted: so they are looked up faster.

    Two colours are in many tables; a picture of silence does not say which. Then none is returned.
    """
    sample = np.sort(codes.ravel()[:: max(1, codes.size // 2000)])
    sample = sample[sample != _WHITE_CODE]
    return sample if np.count_nonzero(np.diff(sample)) > 1 else sample[:0]


def _exact_table(sample: np.ndarray) -> int | None:
    """The number of the table that practically all of some sorted codes are exact entries of; None where there is none.

    None, too, where there are no codes.
    """
    if len(sample) == 0:
        return None
    for number, table in enumerate(_tables()):
        if (table.codes.take(np.searchsorted(table.codes, sample), mode="clip") == sample).mean() >= EXACT_SHARE:
            return number
    return None


def _distance(table: _Table, codes: np.ndarray) -> float:
    """Mean distance in RGB of some codes from a table's nearest colours."""
    return float(table.tree.query(_split(codes))[0].mean())


def _nearest_table(sample: np.ndarray, lossy: bool) -> tuple[int | None, float]:
    """The number of the table that some codes are closest to on average, None where none is near; and how close."""
    if len(sample) == 0:
        return None, np.inf
    tables, few = _tables(), sample[:: max(1, len(sample) // FEW_COLOURS)]
    # Every second one: rounded or truncated makes no difference to what is blended.
    best = sorted(range(0, len(tables), 2), key=lambda number: _distance(tables[number], few))[:BEST_TABLES]
    distances = {number: _distance(tables[number], sample) for number in best}
    nearest = min(best, key=distances.__getitem__)
    other = min(distances[number] for number in best if number != nearest)
    is_clear = distances[nearest] <= FURTHER and other >= (LOSSY_RATIO if lossy else RATIO) * distances[nearest]
    return nearest if is_clear or distances[nearest] <= NEAR else None, distances[nearest]


def stretch(levels: np.ndarray) -> np.ndarray:
    """Scale a picture's levels to its own range, as matplotlib does when it draws one.

    Other programs' pictures come scaled, and that cannot be undone: level 0 is the track's own minimum, whether that
    is 80 dB or 60 dB below its peak. Ours always span 80 dB; stretched, both agree.

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


def is_outside_colormap(colour: tuple, pixels: np.ndarray, *, lossy: bool) -> bool:
    """Whether pixels are of a known colormap that a colour is not in.

    Parameters
    ----------
    colour : tuple of 3 int
        RGB.
    pixels : np.ndarray, shape (h, w, 3), uint8
        Of a spectrogram.
    lossy : bool
        Whether compression has changed colours.
    """
    sample = _sample(_codes(pixels))
    number = _exact_table(sample)
    if number is None:
        number, _ = _nearest_table(sample, lossy)
    if number is None:
        return False
    of_map = [table for table in _tables() if table.cmap == _tables()[number].cmap]
    return min(table.tree.query(colour)[0] for table in of_map) > (LOSSY_OUTSIDE if lossy else OUTSIDE)


def _palette_name(values: list[int] | None, cmap: str | None = None) -> str | None:
    """Name of the colormap that an indexed picture's palette is, so that its indices are levels.

    Parameters
    ----------
    values : list of int or None
        R, G, B, R, G, B ... as `PIL.Image.Image.getpalette` gives them.
    cmap : str, optional
        What the picture's text chunk says, in `COLORMAPS` or not; only this one is tried then.

    Returns
    -------
    name : str or None
    """
    table = np.array(values or [], np.uint8)
    try:
        names = [cmap] if cmap else COLORMAPS
        return next((name for name in names if np.array_equal(table, png.palette(name).ravel())), None)
    except (ValueError, TypeError):  # the chunk may say anything
        return None


def as_rgb(image: Image.Image) -> np.ndarray:
    """Pixels as RGB on white paper: (h, w, 3), uint8. What is transparent becomes white."""
    transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    # `_codes` reads the four bytes of a pixel as one number, without copying.
    image = image.convert("RGBA")
    pixels = np.asarray(image)
    # Alpha is the highest byte. Comparing 32-bit numbers takes a tenth of the time of comparing every fourth byte.
    if transparent and pixels.view("<u4").min() < 0xFF000000:
        pixels = np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, (*WHITE, 255)), image))
    return pixels[..., :3]


def read_levels(image: Image.Image, box: tuple[int, int, int, int] | None = None) -> tuple[np.ndarray, str | None]:
    """A picture's levels, where its colours have a known meaning.

    Parameters
    ----------
    image : PIL.Image.Image
        Grey pictures hold levels already.
    box : tuple of 4 int, optional
        (left, top, right, bottom) of what lies inside its margin; by default all of it.

    Returns
    -------
    pixels : np.ndarray, shape (h, w) or (h, w, 3), uint8
        Levels as the picture has them, not stretched; RGB where the colours are of no known colormap.
    cmap : str or None
        The colormap, ``"gray"`` for grey; None with RGB.
    """
    lossy = image.format in LOSSY  # which a cropped image does not tell
    if box and box != (0, 0, *image.size):
        image = image.crop(box)
    if image.mode in ("L", "1"):
        return np.asarray(image.convert("L")), "gray"
    if image.mode == "P":
        about = png.read_about(image)
        cmap = _palette_name(image.getpalette("RGB"), about.get("cmap") if about else None)
        if cmap:
            return np.asarray(image), cmap
    pixels = as_rgb(image)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    if np.array_equal(red[0], green[0]) and np.array_equal(red, green) and np.array_equal(red, blue):
        return red, "gray"
    levels, cmap = colours_to_levels(pixels, lossy=lossy)
    return (pixels, None) if levels is None else (levels, cmap)
