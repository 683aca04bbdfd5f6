"""File names to track keys."""

import re
import unicodedata
from pathlib import PurePath

from render.formats import AUDIO_ENDINGS, PICTURE_ENDINGS

_ENDING = re.compile(f"({'|'.join(map(re.escape, PICTURE_ENDINGS + AUDIO_ENDINGS))})$", re.I)

#: GTZAN's names, and whatever a program that cuts tracks up has put behind them.
_GTZAN = re.compile(r"^([a-z]+[ ._-]?\d{5})(?:[ ._+-].*)?$", re.I)

#: What else programs put behind a track's name when they cut it up or draw it several times.
_PART = re.compile(
    r"([ ._-]*(?:seg|segment|part|chunk|clip|slice)[ ._-]?\d+|[ ._-]+(?:aug|augment|copy)[ ._-]?\d*| ?\(\d+\))$", re.I
)


def track_key(name):
    """The track a file belongs to, so that its pieces and copies are kept together.

    Endings and separators are taken off, and so is the number of a segment or an augmented copy.

    Parameters
    ----------
    name : str
        File name, with or without folders and ending.

    Returns
    -------
    key : str
        Lower case.

    Examples
    --------
    >>> track_key("blues00012.png") == track_key("blues/blues.00012.wav") == track_key("blues.00012.3.png")
    True
    """
    stem = unicodedata.normalize("NFC", PurePath(name.replace("\\", "/")).name)
    while (shorter := _ENDING.sub("", stem)) != stem:
        stem = shorter
    gtzan = _GTZAN.match(stem)
    stem = gtzan[1] if gtzan else _PART.sub("", stem.split("+aug")[0])
    key = re.sub(r"[\s._-]+", " ", stem).strip().casefold()
    # "blues 00012" is "blues00012", but "1 2" is not "12".
    return re.sub(r"(?<=[^\W\d_]) (?=\d)|(?<=\d) (?=[^\W\d_])", "", key) or stem.casefold()


def is_copy(name):
    """Tell whether a file is an augmented copy that `python -m render --augment` drew."""
    return "+aug" in PurePath(name).stem
