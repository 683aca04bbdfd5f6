"""What belongs together: lists and groups files, and items that share a label."""

import csv
from pathlib import Path, PurePath

from render.errors import MelvisionError
from vision.splits.keys import track_key


def _named_key(name):
    """The key of a line in a list: with its folder, the genre, where it names one."""
    genre = PurePath(name.replace("\\", "/")).parent.name
    return f"{genre.casefold()}/{track_key(name)}" if genre else track_key(name)


def look_up(table, genre, key):
    """What a list or groups file says of one track, named with its genre or without.

    Parameters
    ----------
    table : dict
        From `read_list` or `read_groups`.
    genre, key : str
        The picture's genre folder and `track_key`.

    Returns
    -------
    value : object
        None where the track is not named.
    """
    return table.get(f"{genre.casefold()}/{key}", table.get(key))


def connected_components(*labels_of):
    """Join items that share any label into groups.

    Parameters
    ----------
    *labels_of : list of hashable or None
        Each a list with one label an item; None ties to nothing.

    Returns
    -------
    groups : list of int
        One number an item: the position of the first item of its group.
    """
    parent = list(range(len(labels_of[0])))

    def root(item):
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for labels in labels_of:
        first = {}
        for item, label in enumerate(labels):
            if label is None:
                continue
            one, other = root(first.setdefault(label, item)), root(item)
            parent[max(one, other)] = min(one, other)
    return [root(item) for item in range(len(parent))]


def _lines(path, what):
    try:
        # Names of files may hold bytes that are no text.
        text = Path(path).read_text("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise MelvisionError(f"{path}: cannot be read ({error.strerror}); expected {what}") from None
    if "\0" in text:
        raise MelvisionError(f"{path}: is no text in UTF-8; expected {what}")
    return text.splitlines()


def read_list(path):
    """Read a published list of tracks, one a line, such as ``blues/blues.00029.wav``.

    Returns
    -------
    keys : dict of str to bool
        The key of each line, for `look_up`, and True.

    Raises
    ------
    MelvisionError
        When it cannot be read or is empty.
    """
    what = "one track a line, such as blues/blues.00029.wav"
    keys = {_named_key(line.strip()): True for line in _lines(path, what) if line.strip()}
    if not keys:
        raise MelvisionError(f"{path}: is empty; expected {what}")
    return keys


def read_groups(path):
    """Read which tracks belong together, say by artist.

    Parameters
    ----------
    path : str or Path
        A CSV file with the columns track and group (a header line may be there), or an index with
        lines like ``blues.00000.wav ::: John Lee Hooker ::: title``, as Sturm's of GTZAN.

    Returns
    -------
    groups : dict of str to str
        Key of each track, for `look_up`, to its group; tracks whose group is blank are left out.

    Raises
    ------
    MelvisionError
        When it cannot be read, has a line of another form, or has neither header nor groups.
    """
    what = "lines of track,group"
    groups, header = {}, False
    lines = _lines(path, what)
    index = any(":::" in line for line in lines)
    rows = ([part.strip() for part in line.split(":::")] for line in lines) if index else csv.reader(lines)
    for number, row in enumerate(rows, 1):
        if not any(row):
            continue
        if len(row) < 2:
            raise MelvisionError(f"{path}, line {number}: found {row[0]!r}; expected {what}")
        track, group = row[0].strip(), row[1].strip()
        if number == 1 and [track.lower(), group.lower()] == ["track", "group"]:
            header = True
            continue
        if group:
            groups[_named_key(track)] = " ".join(group.casefold().split())
    # With its header it is whole: `vision.check` found no two tracks that belong together.
    if not groups and not header:
        raise MelvisionError(f"{path}: names no group; expected {what}")
    return groups


def merge_groups(tables):
    """Join several groups files, say of artists and of near-duplicates, into one.

    Parameters
    ----------
    tables : list of dict
        Each from `read_groups`. A group of one name is one group, whatever file names it.

    Returns
    -------
    groups : dict of str to str
        As of one file: tracks that any of the files ties together are of one group.
    """
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
