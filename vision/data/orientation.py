"""Which way up a spectrogram is.

In music the low bands are the loud ones: in all of 709 GTZAN tracks, the lowest quarter of the Mel bands is louder than
the highest. A picture of which the opposite is true, among others of which it is not, is upside down
(``imshow(..., origin="upper")``) or drawn in a reversed colormap (``magma_r``), whose levels come out upside down: its
colours alone do not tell. In recordings of birds or insects the opposite may be true of all.
"""

import numpy as np
from numpy.typing import ArrayLike

#: Levels of 255 by which one quarter is louder, at least, in a picture that tells which way up it is.
STEEP = 10.0

#: What is wrong with a picture that `is_turned`, or with those that it is compared with.
TURNED = "upside down, or in a reversed colormap such as magma_r"


def tilt_of(levels: ArrayLike) -> float:
    """How much louder the lowest quarter of the bands is than the highest.

    Parameters
    ----------
    levels : array_like, shape (n_bands, n_frames), uint8
        The highest band first, as in a picture.

    Returns
    -------
    tilt : float
        Difference of the mean levels, from -255 to 255.
    """
    levels = np.asarray(levels)
    quarter = max(1, len(levels) // 4)
    return float(levels[-quarter:].mean() - levels[:quarter].mean())


def is_turned(tilt: float, usual: float, *, upright: bool) -> bool:
    """Whether a picture is loud where others are quiet, because one or the others are upside down.

    Parameters
    ----------
    tilt, usual : float
        From `tilt_of`, of this one and of the others.
    upright : bool
        Whether this one was drawn by `render`: where it is loud above and the others below, so is its sound.
    """
    steep = min(abs(tilt), abs(usual)) >= STEEP
    return steep and (tilt < 0) != (usual < 0) and not (upright and usual > 0)
