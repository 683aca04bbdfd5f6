"""Track keys: which track a file belongs to, by its name."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePath

from render.formats import AUDIO_ENDINGS, PICTURE_ENDINGS
from render.levels import GENRES

_ENDING = re.compile(f"({'|'.join(map(re.escape, PICTURE_ENDINGS + AUDIO_ENDINGS))})$", re.I)

#: What a program appended to a recording's whole name, as in ``song.wav_3``.
_BEHIND_ENDING = re.compile(f"(?<=.)({'|'.join(map(re.escape, AUDIO_ENDINGS))})[ ._+@#([-]+[^.]*\\d.*$", re.I)

#: GTZAN's names, with whatever a program that cuts tracks into pieces has appended.
_GTZAN = re.compile(r"^([a-z]+[ ._-]?\d{5})(?:[ ._+-].*)?$", re.I)

#: Names like GTZAN's and FMA's, of a zero-padded or long number, and the number of a piece.
_NUMBERED = re.compile(r"^([^\d+]*(?:0\d{3,}|\d{5,6}))(?:[ ._-]+\d{1,4})?$")

#: ``blues_12_3``, where the first word is a genre: genre, track, piece.
_GENRE_TRACK_PIECE = re.compile(r"^(([^\W\d_]+(?:-[^\W\d_]+)?)[ ._-]\d+)[ ._-]\d+$")

#: The end of an augmented copy's name, as ``python -m render --augment`` writes it.
_COPY = re.compile(r"\+aug\d+$")

_UNIT = r"(?:s|secs?|seconds?|ms|min|m)"
_NUMBER = r"\d+(?:\.\d+)?"
_CLOCK = r"\d+[:.]\d\d(?:[:.]\d+)?"

#: What else programs append to a track's name when they cut it into pieces or draw it several times.
_PARTS = [
    re.compile(pattern, re.I)
    for pattern in (
        r"([ ._-]*(?:seg|segment|part|chunk|clip|slice)[ ._-]?\d+|[ ._-]+(?:aug|augment|copy)[ ._-]?\d*| ?\(\d+\))$",
        # pieces: _crop1, _win_03, _frame-12, _offset30.5, _start_0_end_30
        r"[._+-]+(?:segm|crops?|excerpt|snippet|fragment|frag|piece|section|windows?|win|frames?|block|patch|tile"
        r"|split|cut|sub|subclip|subsegment|offset|start|begin|from|to|end|idx|index|pt|slices?|segments?|chunks?|parts?"
        rf"|clips?)[ ._=-]?{_NUMBER}{_UNIT}?$",
        # 3of10, (3 of 10), 3-out-of-10
        r"[ ._([-]+(?:(?:part|pt|piece|chunk|segment|seg)[ ._-]?)?\d+[ ._-]?(?:out[ ._-]?)?of[ ._-]?\d+[)\]]?$",
        # time ranges: _0-30s, _0s-30s, _10.0-20.0, _10.0_20.0, _00m30s-01m00s, (0:30-1:00), _30sec
        rf"[ ._([-]+{_NUMBER}{_UNIT}?[ ]?(?:[_-]|to|–)[ ]?{_NUMBER}{_UNIT}[)\]]?$",
        rf"[ ._([-]+{_NUMBER}{_UNIT}[ ]?(?:[_-]|to|–)[ ]?{_NUMBER}{_UNIT}?[)\]]?$",
        r"[ ._([-]+(?:\d+h)?(?:\d+m)?\d+s?[ ]?(?:[_-]|to|–)[ ]?(?:\d+h)?\d+m(?:\d+(?:\.\d+)?s?)?[)\]]?$",
        r"[ ._([-]+\d+\.\d+[ ]?(?:[_-]|to|–)[ ]?\d+\.\d+[)\]]?$",
        rf"[ ._([-]+{_CLOCK}[ ]?(?:[_-]|to|–)[ ]?{_CLOCK}[)\]]?$",
        r"[ _.-]*[(\[]\d+[ ]?(?:[_-]|to|–)[ ]?\d+[)\]]$",
        r"[ ._([-]+\d+(?:\.\d+)?(?:secs?|seconds?|ms)[)\]]?$",
        # augmented: _pitch+2, _pitch_up, _tempo1.1, _speed_0.9, _noise2
        r"[._+-]+(?:pitch[ _-]?shift(?:ed)?|time[ _-]?stretch(?:ed)?|pitch(?:ed)?|ps|ts|tempo|speed|stretch(?:ed)?"
        r"|shift|noise|noisy|gain|vol|volume|rate|eq|reverb|echo|transposed?|detuned?|semitones?|specaug(?:ment)?"
        r"|augmented|time[ _-]?mask|freq[ _-]?mask|mask|rotated?|flip(?:ped)?)"
        r"[ ._=]?(?:[+-]?\d+(?:\.\d+)?[ ]?(?:st|semitones?|db|x|pct|%|cents?|hz)?|[ _-]?(?:up|down))$",
        r"_(?:pitch_?shift(?:ed)?|time_?stretch(?:ed)?|specaug(?:ment)?|noisy|add_?noise|white_?noise|augmented"
        r"|time_?mask|freq_?mask)$",
        # copies: - Copy (2), - Kopie, [1], conflicted copies
        r"[ ._-]+(?:copy|kopie|copie|copia|cópia|kopia|kopi|kopio|コピー|副本|복사본|копия)[ ._-]*\(?\d*\)?$",
        r" ?\[\d+\]$",
        r"[ ._-]+\([^()]*conflicted copy[^()]*\)$",
        r"\.sync-conflict-\d+-\d+-\w+$",
    )
]
_RANGE = re.compile(r"_(\d+)-(\d+)$")
_COPY_OF = re.compile(r"^(?:copy of|kopie von|copie de|copia de|cópia de|kopia)[ _]+(?=.)", re.I)

#: Keys of an album's tracks: of "01 Intro", "1-03 Intro", "Track 3".
_ALBUM = re.compile(r"(?:\d{1,2} )?\d{1,3} ?[^\d\s]|(?:audio ?)?track\d+$")

#: A bare number at the end of a name: a piece of a track, or a track of an album.
_BARE = re.compile(r"(?<=[^\s._-])[ ._-]+\d+s?$")


def _stem(name: str) -> str:
    stem = unicodedata.normalize("NFC", PurePath(name.replace("\\", "/")).name)
    while (shorter := _ENDING.sub("", stem)) != stem:
        stem = shorter
    return stem


def _without_part(stem: str) -> str:
    """Take the last thing that a program appended off a name; a name is never left empty."""
    shorter = _COPY.sub("", _BEHIND_ENDING.sub("", stem))
    for pattern in _PARTS:
        if shorter != stem:
            break
        shorter = pattern.sub("", stem)
    times = _RANGE.search(stem)
    # "1999-2001" are years, "12-3" are no times.
    if shorter == stem and times and int(times[1]) < int(times[2]) and not 1900 <= int(times[1]) <= 2100:
        shorter = stem[: times.start()]
    return shorter if shorter.strip(" ._-") else stem


def _is_numbered(stem: str) -> re.Match | None:
    """Match a name of which the number is the track's, and what follows is a piece's."""
    genre = _GENRE_TRACK_PIECE.match(stem)
    if genre and re.sub(r"[\W_]", "", genre[2]).casefold() in GENRES:
        return genre
    return _GTZAN.match(stem) or _NUMBERED.match(stem)


def track_key(name: str, *, pieces: bool = False) -> str:
    """Return the key of the track that a file belongs to, the same for its pieces and copies.

    Endings and separators are removed, and so is what names a piece or an augmented copy beyond doubt: a time range,
    ``3of10``, ``_crop1``, ``_pitch+2``, ``- Copy (2)``, and a number behind a name like GTZAN's.

    Parameters
    ----------
    name : str
        File name, with or without folders and ending.
    pieces : bool
        Whether ``song_0`` and ``song_1`` are pieces of one track. Other numbers may be those of tracks, too.

    Returns
    -------
    key : str
        Lower case.

    Examples
    --------
    >>> track_key("blues00012.png") == track_key("blues/blues.00012.wav") == track_key("blues.00012.3.png")
    True
    """
    whole = stem = _stem(name)
    numbered = _is_numbered(stem)
    while not numbered and (shorter := _without_part(stem)) != stem:
        stem = _ENDING.sub("", shorter) or shorter
        numbered = _is_numbered(stem)
    stem = numbered[1] if numbered else _COPY_OF.sub("", stem)
    if pieces and not numbered:
        stem = _BARE.sub("", stem)
    key = re.sub(r"[\s._-]+", " ", stem).strip().casefold()
    # "blues 00012" is "blues00012", but "1 2" is not "12".
    return re.sub(r"(?<=[^\W\d_]) (?=\d)|(?<=\d) (?=[^\W\d_])", "", key) or whole.casefold()


def picture_key(genre: str, path: str, *, pieces: bool = False) -> str:
    """Return the `track_key` of a picture in a genre folder, which may lie in folders of artists, albums or tracks.

    Names that number the tracks of an album (``01 Intro``) are told apart by their folders. Names that are nothing but
    a number belong to the folder: it may hold the pieces of one track. All other names mean the same in any folder.

    Parameters
    ----------
    genre : str
        Name of the genre folder.
    path : str
        The picture's path from any folder above the genre's.
    pieces : bool
        As of `track_key`.

    Examples
    --------
    >>> picture_key("rock", "rock/Artist A/01 Intro.png")
    'artist a/01 intro'
    """
    key, inside = track_key(path, pieces=pieces), subfolders(genre, path)
    if not inside or not (_ALBUM.match(key) or key.isdecimal()):
        return key
    folder = "/".join(re.sub(r"[\s._-]+", " ", part).strip().casefold() for part in inside)
    return folder if key.isdecimal() else f"{folder}/{key}"


def subfolders(genre: str, path: str) -> tuple[str, ...]:
    """Return the folders between a genre and a picture, the outermost first; arguments as of `picture_key`."""
    parts = PurePath(unicodedata.normalize("NFC", path.replace("\\", "/"))).parts[:-1]
    genre = unicodedata.normalize("NFC", genre)
    last = max((number for number, part in enumerate(parts) if part == genre), default=len(parts))
    return parts[last + 1 :]


def possible_pieces(root: object, tracks: Iterable[tuple[str, str]]) -> list[str]:
    """Return one line that says how many names end in a number as pieces of one track do; none where none do.

    Parameters
    ----------
    root : object
        The folder that they are in.
    tracks : iterable of (str, str)
        Genre and path of each picture.
    """
    by_piece: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    files: dict[tuple[str, str], int] = defaultdict(int)
    for genre, file in tracks:
        whole = genre, picture_key(genre, file, pieces=True)
        by_piece[whole].setdefault(picture_key(genre, file), PurePath(file).name)
        files[whole] += 1
    ambiguous = {whole: names for whole, names in by_piece.items() if len(names) > 1}
    if not ambiguous:
        return []
    examples = ", ".join(sorted(next(iter(ambiguous.values())).values())[:2])
    n = sum(files[whole] for whole in ambiguous)
    return [
        f"{root}: {n} of {sum(files.values())} names end in a bare number, such as {examples}: they may be pieces of "
        f"{len(ambiguous)} tracks, and then land in several splits; --pieces keeps them together"
    ]


def is_copy(name: str) -> bool:
    """Return whether a file is an augmented copy, drawn by ``python -m render --augment``.

    Parameters
    ----------
    name : str
        File name, with or without folders.
    """
    return bool(_COPY.search(_stem(name)))
