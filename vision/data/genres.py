"""Names of genre folders: which differ only in how they are written."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence


def _plain(name: str) -> str:
    """Return a name without case, spaces, separators and Unicode form."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return re.sub(r"[\s_\-\u00ad\u200b-\u200f\u2060\ufeff]+", "", text) or name


def similar_genres(root: object, genres: Iterable[str]) -> list[str]:
    """Return one line that names genres which differ only in case, spaces or Unicode form; none where none do.

    Parameters
    ----------
    root : object
        The folder that they are in.
    genres : iterable of str
        Names of genre folders.
    """
    by_name = defaultdict(list)
    for genre in sorted(set(genres)):
        by_name[_plain(genre)].append(genre)
    groups = [names for names in by_name.values() if len(names) > 1]
    if not groups:
        return []
    shown = "; ".join(", ".join(_shown(name, names) for name in names) for names in groups)
    return [f"{root}: genres that differ only in case, spaces or Unicode form: {shown}; rename them if they are one"]


def _shown(name: str, others: Sequence[str]) -> str:
    """Quote a name so that spaces are seen; where another one looks the same, with its characters' numbers."""
    same = [other for other in others if unicodedata.normalize("NFKC", other) == unicodedata.normalize("NFKC", name)]
    return ascii(name) if len(same) > 1 else repr(name)


def match_genre(name: str, classes: Sequence[str]) -> str | None:
    """Return the class that a genre's name stands for, in whatever Unicode form it is written.

    Parameters
    ----------
    name : str
        Of a genre folder: macOS may write ``"ó"`` as two characters.
    classes : sequence of str
        A model's genres.

    Returns
    -------
    genre : str or None
        None where there is none, or more than one that is not exactly the same.
    """
    if name in classes:
        return name
    form = unicodedata.normalize("NFC", name)
    matches = [genre for genre in classes if unicodedata.normalize("NFC", genre) == form]
    return matches[0] if len(matches) == 1 else None
