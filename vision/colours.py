"""Colours of a plotted spectrogram back to the levels they stand for."""

import functools

import numpy as np

from render import png

#: Colormaps that are turned back into levels, the likeliest first.
COLORMAPS = "magma viridis inferno plasma cividis turbo jet hot coolwarm gray gray_r".split()


@functools.cache
def _tables():
    """Every known colormap as (name, sorted 24-bit codes, the level of each code, RGB table).

    Each comes twice: matplotlib rounds the colours of a mesh and cuts off those of an image.
    """
    import matplotlib

    tables = []
    for cmap in COLORMAPS:
        exact = matplotlib.colormaps[cmap](np.linspace(0, 1, 256))[:, :3] * 255
        for table in (np.rint(exact).astype(np.int32), exact.astype(np.int32)):
            codes = table[:, 0] << 16 | table[:, 1] << 8 | table[:, 2]
            codes, levels = np.unique(codes, return_index=True)
            tables.append((cmap, codes, levels.astype(np.uint8), table))
    return tables


def colours_to_levels(pixels, *, share=0.97):
    """Undo a colormap: colours that are exactly one of matplotlib's known tables become levels.

    White, where it is no colour of the table, is what matplotlib draws for minus infinity: level 0.
    The few pixels that are blended, along the edges of the axes, take the nearest colour's level.

    Parameters
    ----------
    pixels : np.ndarray, shape (h, w, 3), uint8
        RGB.
    share : float
        How many of the pixels that are not white must be exact.

    Returns
    -------
    levels : np.ndarray, shape (h, w), uint8, or None
        None where the colours are of no known table.
    cmap : str or None
        The table's name.
    """
    wide = pixels.astype(np.int32)
    codes = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    sample = codes.ravel()[:: max(1, codes.size // 2000)]
    for cmap, known, levels, table in _tables():
        silent = 0xFFFFFF if known[-1] != 0xFFFFFF else -1

        def exact(values, known=known):
            at = np.searchsorted(known, values).clip(max=len(known) - 1)
            return at, known[at] == values

        coloured = sample[sample != silent]
        # Two colours are in many tables; a picture of silence tells nothing.
        if len(np.unique(coloured)) < 3 or exact(coloured)[1].mean() < share - 0.02:
            continue
        at, good = exact(codes)
        white = codes == silent
        if good[~white].mean() < share:
            continue
        result = levels[at]
        result[white] = 0
        odd = np.nonzero(~good & ~white)
        if len(odd[0]):
            distance = np.abs(wide[odd][:, None] - table).sum(axis=2)
            result[odd] = distance.argmin(axis=1)
        return result, cmap
    return None, None


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
    table = np.rint((np.arange(256) - low).clip(0, high - low) * (255 / (high - low))).astype(np.uint8)
    return table[levels]


def is_known_palette(values):
    """Tell whether an indexed picture's palette is a known colormap, so that its indices are levels.

    Parameters
    ----------
    values : list of int or None
        R, G, B, R, G, B ... as `PIL.Image.Image.getpalette` gives them.
    """
    table = np.array(values or [], np.uint8)
    return len(table) == 768 and any(np.array_equal(table, png.palette(cmap).ravel()) for cmap in COLORMAPS)
