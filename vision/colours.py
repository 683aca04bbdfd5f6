"""Colours of a plotted spectrogram back to the levels they stand for."""

import functools

import numpy as np

from render import png

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

    Each comes twice: matplotlib rounds the colours of a mesh and cuts off those of an image.
    """
    import matplotlib
    from scipy.spatial import cKDTree

    tables = []
    for cmap in COLORMAPS:
        exact = matplotlib.colormaps[cmap](np.linspace(0, 1, 256))[:, :3] * 255
        for table in (np.rint(exact).astype(np.int32), exact.astype(np.int32)):
            codes = table[:, 0] << 16 | table[:, 1] << 8 | table[:, 2]
            codes, levels = np.unique(codes, return_index=True)
            tables.append((cmap, codes, levels.astype(np.uint8), cKDTree(table)))
    return tables


def _split(codes):
    """24-bit codes to RGB rows: (n,) to (n, 3)."""
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)


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
    wide = pixels.astype(np.int32)
    codes = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    sample = codes.ravel()[:: max(1, codes.size // 2000)]
    sample = sample[sample != 0xFFFFFF]
    # Two colours are in many tables; a picture of silence tells nothing.
    if len(np.unique(sample)) < 3:
        return None, None
    for name, known, levels, tree in _tables():
        if np.isin(sample, known).mean() >= EXACT_SHARE:
            at = np.searchsorted(known, codes).clip(max=len(known) - 1)
            found = levels[at]
            odd = np.nonzero(known[at] != codes)  # silence, and blends along the edges of the axes
            found[odd] = tree.query(wide[odd])[1]
            cmap = name
            break
    else:
        distance = [tree.query(_split(sample))[0].mean() for *_, tree in _tables()]
        best = int(np.argmin(distance))
        if distance[best] > NEAR:
            return None, None
        cmap, known, _, tree = _tables()[best]
        different, inverse = np.unique(codes, return_inverse=True)
        found = tree.query(_split(different))[1].astype(np.uint8)[inverse].reshape(codes.shape)
    if known[-1] != 0xFFFFFF:
        found[codes == 0xFFFFFF] = 0
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
    table = np.rint((np.arange(256) - low).clip(0, high - low) * (255 / (high - low))).astype(np.uint8)
    return table[levels]


def is_known_palette(values, cmap=None):
    """Tell whether an indexed picture's palette is a known colormap, so that its indices are levels.

    Parameters
    ----------
    values : list of int or None
        R, G, B, R, G, B ... as `PIL.Image.Image.getpalette` gives them.
    cmap : str, optional
        The one it must be, whether listed in `COLORMAPS` or not: what the picture's text chunk says.
    """
    table = np.array(values or [], np.uint8)
    try:
        return any(np.array_equal(table, png.palette(name).ravel()) for name in ([cmap] if cmap else COLORMAPS))
    except (ValueError, TypeError):  # the chunk names no colormap
        return False
