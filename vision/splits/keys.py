"""Track keys: which track a file belongs to, by its name."""

import re
import unicodedata
from pathlib import PurePath

from render.formats import AUDIO_ENDINGS, PICTURE_ENDINGS

_ENDING = re.compile(f"({'|'.join(map(re.escape, PICTURE_ENDINGS + AUDIO_ENDINGS))})$", re.I)

#: GTZAN's names, with whatever a program that cuts tracks into pieces has appended.
_GTZAN = re.compile(r"^([a-z]+[ ._-]?\d{5})(?:[ ._+-].*)?$", re.I)

#: What else programs append to a track's name when they cut it into pieces or draw it several times.
_PART = re.compile(
    r"([ ._-]*(?:seg|segment|part|chunk|clip|slice)[ ._-]?\d+|[ ._-]+(?:aug|augment|copy)[ ._-]?\d*| ?\(\d+\))$", re.I
)


def track_key(name: str) -> str:
    """Return the key of the track that a file belongs to, the same for its pieces and copies.

    Endings and separators are removed, and so is the number of a segment or an augmented copy.

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


def is_copy(name: str) -> bool:
    """Return whether a file is an augmented copy, drawn by ``python -m render --augment``.

    Parameters
    ----------
    name : str
        File name, with or without folders.
    """
    return "+aug" in PurePath(name).stem
