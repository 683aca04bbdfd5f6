"""Which pictures belong together: published lists, groups files, and connected components."""

import csv
import unicodedata
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TypeVar

from render.cli import plural
from render.errors import MelvisionError
from vision.splits.keys import subfolders, track_key

Value = TypeVar("Value")


def _listed_key(name):
    """Return the key of a name in a list, which includes the genre where the name has a folder."""
    genre = PurePath(name.replace("\\", "/")).parent.name
    return f"{genre.casefold()}/{track_key(name)}" if genre else track_key(name)


def look_up(table: Mapping[str, Value], genre: str, key: str) -> Value | None:
    """Look a track up in a list or groups file, which may name it with its genre or without.

    Parameters
    ----------
    table : dict
        From `read_list` or `read_groups`.
    genre, key : str
        The picture's genre folder and `track_key`.

    Returns
    -------
    value : object or None
        None where the track is not listed.
    """
    for name in genre_forms(genre):
        if f"{name}/{key}" in table:
            return table[f"{name}/{key}"]
    return table.get(key)


def genre_forms(genre: str) -> list[str]:
    """Return a genre's name in lower case, as it is and in both Unicode forms: lists come from other systems."""
    name = genre.casefold()
    return list(dict.fromkeys([name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)]))


def connected_components(*columns: Sequence[Hashable | None]) -> list[int]:
    """Join items that share any label into groups.

    Items are the nodes of a graph; two items with the same label in the same column have an edge. The groups are
    the graph's connected components, so items may be in one group without sharing a label: A and B are of one
    artist, B and C have equal pixels. They are found with a disjoint-set forest (union-find): each item points to
    another item of its group, the root points to itself, and joining two groups lets one root point to the other.
    Paths are halved on the way to the root, which keeps them short. The smaller number always becomes the root, so
    the result does not depend on the order of the columns.

    Parameters
    ----------
    *columns : sequence of hashable or None
        Each holds one label an item; None connects to nothing.

    Returns
    -------
    groups : list of int
        One number an item: the position of the first item of its group.

    Examples
    --------
    >>> connected_components(["a", "b", "b", "c"], ["x", None, "y", "y"])
    [0, 1, 1, 1]
    """
    parent = list(range(len(columns[0])))

    def root(item):
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for labels in columns:
        first: dict[Hashable, int] = {}
        for item, label in enumerate(labels):
            if label is None:
                continue
            one, other = root(first.setdefault(label, item)), root(item)
            parent[max(one, other)] = min(one, other)
    return [root(item) for item in range(len(parent))]


def _read_lines(path, expected):
    try:
        # File names may hold bytes that are not valid UTF-8.
        text = Path(path).read_text("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise MelvisionError(f"{path}: cannot be read ({error.strerror}); expected {expected}") from None
    if "\0" in text:
        raise MelvisionError(f"{path}: is no text in UTF-8; expected {expected}")
    return text.splitlines()


def read_list(path: str | Path) -> dict[str, bool]:
    """Read a published list of tracks, one a line, such as ``blues/blues.00029.wav``.

    Parameters
    ----------
    path : str or Path
        Text file.

    Returns
    -------
    keys : dict of str to bool
        The key of each line, for `look_up`, and True.

    Raises
    ------
    MelvisionError
        When it cannot be read or is empty.
    """
    expected = "one track a line, such as blues/blues.00029.wav"
    keys = {_listed_key(line.strip()): True for line in _read_lines(path, expected) if line.strip()}
    if not keys:
        raise MelvisionError(f"{path}: is empty; expected {expected}")
    return keys


def read_groups(path: str | Path) -> dict[str, str]:
    """Read which tracks belong together, say by artist.

    Parameters
    ----------
    path : str or Path
        A CSV file with the columns track and group (a header line may be there), or an index with
        lines like ``blues.00000.wav ::: John Lee Hooker ::: title``, such as Sturm's of GTZAN.

    Returns
    -------
    groups : dict of str to str
        Key of each track, for `look_up`, to its group; tracks whose group is blank are left out.

    Raises
    ------
    MelvisionError
        When it cannot be read, has a line of another form, or has neither header nor groups.
    """
    expected = "lines of track,group"
    groups: dict[str, str] = {}
    header = False
    lines = _read_lines(path, expected)
    index = any(":::" in line for line in lines)
    rows = ([part.strip() for part in line.split(":::")] for line in lines) if index else csv.reader(lines)
    for number, row in enumerate(rows, 1):
        if not any(row):
            continue
        if len(row) < 2:
            raise MelvisionError(f"{path}, line {number}: found {row[0]!r}; expected {expected}")
        track, group = row[0].strip(), row[1].strip()
        if number == 1 and [track.lower(), group.lower()] == ["track", "group"]:
            header = True
            continue
        if group:
            groups |= normalise_groups({track: group})
    # A header without groups is complete: `vision.check` found no two tracks that belong together.
    if not groups and not header:
        raise MelvisionError(f"{path}: holds no group; expected {expected}")
    return groups


def normalise_groups(groups: Mapping[str, str]) -> dict[str, str]:
    """Return tracks as ``genre/name`` and their groups as `read_groups` gives them: names compare without case."""
    return {_listed_key(track): " ".join(group.casefold().split()) for track, group in groups.items()}


def folder_groups(tracks: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Take the first folder inside a genre for an artist.

    Parameters
    ----------
    tracks : iterable of (str, str, str)
        Genre, path and key of each track.

    Returns
    -------
    groups : dict of str to str
        As of `read_groups`; an artist is one group in all genres.
    """
    inside = ((genre, subfolders(genre, file), key) for genre, file, key in tracks)
    return {f"{genre.casefold()}/{key}": f"folder {folders[0].casefold()}" for genre, folders, key in inside if folders}


def artist_folders(root: object, tracks: Iterable[tuple[str, str]]) -> list[str]:
    """Return one line that says how many pictures lie in folders inside their genres; none where none do.

    Parameters
    ----------
    root : object
        The folder of genres.
    tracks : iterable of (str, str)
        Genre and path of each picture.
    """
    inside = [(genre, folders[0]) for genre, file in tracks if (folders := subfolders(genre, file))]
    if not inside:
        return []
    genre, folder = min(inside)
    return [
        f"{root}: {plural(len(inside), 'picture lies', 'pictures lie')} in "
        f"{plural(len(set(inside)), 'folder')} inside the genres, such as "
        f"{genre}/{folder}; where these are artists, --groups-from-folders of vision.split keeps each in one split"
    ]


def two_genres(root: object, pictures: Iterable[tuple[str, str, str]]) -> list[str]:
    """Return one line that names pictures of equal pixels in two genres; none where there are none.

    Parameters
    ----------
    root : object
        The folder of genres.
    pictures : iterable of (str, str, str)
        Genre, path and pixel hash of each picture.
    """
    by_pixels: dict[str, dict[str, str]] = {}
    for genre, file, pixels in pictures:
        by_pixels.setdefault(pixels, {}).setdefault(genre, file)
    both = [list(files.values()) for files in by_pixels.values() if len(files) > 1]
    if not both:
        return []
    examples = ", ".join(" = ".join(files) for files in both[:3])
    return [
        f"{root}: {plural(len(both), 'picture is', 'pictures are')} in two genres; both labels are kept, "
        f"on one side: {examples}"
    ]


def merge_groups(tables: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Join several groups files, say of artists and of near-duplicates, into one.

    Parameters
    ----------
    tables : iterable of dict
        Each from `read_groups`. Groups of the same name are one group, whichever file they are in.

    Returns
    -------
    groups : dict of str to str
        Tracks that are in one group in any of the files are in one group here.
    """
    tables = list(tables)
    keys = {key for table in tables for key in table}
    # One file may name a track with its genre and another without.
    entries = [
        (key, group)
        for key in sorted(keys)
        for table in tables
        if (group := table.get(key, table.get(key.partition("/")[2] or key)))
    ]
    numbers = connected_components([key for key, _ in entries], [group for _, group in entries])
    return {key: entries[number][1] for (key, _), number in zip(entries, numbers, strict=True)}
