"""Which split each group of pictures is in: stratified by genre, seeded, and never changed again.

How the assignment works
------------------------
Pictures that belong together (pieces of one track, equal pixels, one artist) form a group, and a group is in one split
only (`groups.connected_components`). Each genre has a target for each split: its number of pictures times the ratio,
rounded, and at least one for dev and test. Groups that have no split yet are assigned greedily, the largest first: each
goes to the split that is furthest below the target in the group's genres. Groups of one size are ordered by a BLAKE2b
hash of the seed and of the group's first track. So the order is random, but it depends on the seed and the names alone,
and the same folder and seed give the same split on every machine.

A small genre must still reach all splits: once a genre has no more groups waiting than splits without any of it, the
next group goes to one of those.

What has a split keeps it. New pictures are assigned in the same way, with the pictures that are already there counted
towards the targets, so adding some moves none of the others. Where a new picture or a groups file joins groups that
are in different splits, nothing moves either: the pictures of the less protected split (train before dev before test)
are left out.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from render.cli import plural
from render.errors import MelvisionError
from vision.data.validate import one_of
from vision.splits.groups import Value, connected_components, genre_forms, look_up
from vision.splits.keys import is_copy, picture_key

SPLITS = ("train", "dev", "test")

#: Reasons for `Row.left_out` that the user must know about, because a picture was taken out of its split.
GROUP_IN_OTHER_SPLIT, GENRE_WITHOUT_TRAIN = "its group has a {} picture", "its genre has no train picture"


@dataclass
class Row:
    """One picture, as ``split.csv`` stores it.

    Attributes
    ----------
    file : str
        Path below the pictures folder, with forward slashes.
    genre, track : str
        Its genre folder and its `keys.track_key`.
    group : str
        The first file of its group.
    split : str
        ``"train"``, ``"dev"``, ``"test"``, or ``""`` where a published list does not name it.
    left_out : str
        Why it is not used; empty when it is.
    pixels : str
        `vision.data.images.pixel_hash`.
    size, mtime_ns, inode : int
        Of the file when its pixels were hashed. `render` gives a picture the modification time of its
        source, so a picture that was drawn again may differ in its inode only.
    """

    file: str
    genre: str
    track: str
    group: str = ""
    split: Annotated[str, one_of(*SPLITS, "")] = ""
    left_out: str = ""
    pixels: str = ""
    size: int = 0
    mtime_ns: int = 0
    inode: int = 0


def _targets(totals: Mapping[str, int], ratios: Mapping[str, float], splits: Sequence[str]) -> dict:
    """Return how many pictures of each genre each split should have."""
    targets = {}
    for genre, n in totals.items():
        for split in splits[1:]:
            targets[genre, split] = max(1, round(n * ratios[split]))
        targets[genre, "train"] = n - sum(targets[genre, split] for split in splits[1:])
    return targets


def _assign_groups(groups: list[list[Row]], ratios: Mapping[str, float], seed: int) -> None:
    """Give every group without a split the one that is furthest below its target; see the top of this module."""
    totals: Counter[str] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    waiting: Counter[str] = Counter()
    unassigned = [rows for rows in groups if not any(row.split for row in rows)]
    for rows in groups:
        for row in rows:
            if not row.left_out and not is_copy(row.file):
                totals[row.genre] += 1
                counts[row.genre, row.split] += 1
    splits = [split for split in SPLITS if ratios[split] > 0]
    targets = _targets(totals, ratios, splits)
    for rows in unassigned:
        waiting.update({row.genre for row in rows if not is_copy(row.file)})

    def random_key(rows):
        # Not the position in the folder: a track gets the same key whatever other files are there.
        first = min(f"{row.genre}/{row.track}" for row in rows)
        return hashlib.blake2b(f"{seed}/{first}".encode(errors="surrogateescape")).digest()

    for rows in sorted(unassigned, key=lambda rows: (-len(rows), random_key(rows))):
        sizes = Counter(row.genre for row in rows if not is_copy(row.file))
        choices = splits
        for genre in sizes:
            without = [split for split in splits if counts[genre, split] == 0]
            if without and waiting[genre] <= len(without):
                choices = without  # the last groups of a genre go to the splits that have none of it
            waiting[genre] -= 1
        best = max(choices, key=lambda split: sum(n * (targets[g, split] - counts[g, split]) for g, n in sizes.items()))
        for row in rows:
            row.split = best
            counts[row.genre, best] += not is_copy(row.file)


def assign_splits(
    rows: list[Row],
    removed: list[Row],
    *,
    lists: Mapping[str, Mapping[str, bool]],
    groups: Mapping[str, str],
    ratios: Mapping[str, float],
    seed: int,
) -> None:
    """Fill in `group`, `split` and `left_out` of every row.

    Rows that have a split keep it. Where a group has rows in two splits, the assignments stay and the rows of the less
    protected split (train before dev before test) are left out.

    Parameters
    ----------
    rows : list of Row
        The pictures in the folder; changed in place.
    removed : list of Row
        Pictures that were in the folder before: they still connect others.
    lists : dict of str to dict
        For some of train, dev and test, what `groups.read_list` returned. Empty to assign by `ratios`.
    groups : dict of str to str
        What `groups.read_groups` returned, or empty.
    ratios : dict of str to float
        Shares of train, dev and test, summing to 1.
    seed : int
        Seed of the random order.
    """
    all_rows = rows + removed
    first_of_group = connected_components(
        [(row.genre, row.track) for row in all_rows],
        [row.pixels or None for row in all_rows],
        [_look_up_row(groups, row) for row in all_rows],
    )
    members = defaultdict(list)
    for first, row in zip(first_of_group, all_rows, strict=True):
        members[first].append(row)
    for first, group in members.items():
        for row in group:
            row.group = all_rows[first].file
            if lists:
                listed = [split for split, keys in lists.items() if _look_up_row(keys, row)]
                row.split = listed[-1] if listed else ""
        _leave_out_conflicts(group, by_list=bool(lists))
    if not lists:
        removed_ids = {id(row) for row in removed}
        present = ([row for row in group if id(row) not in removed_ids] for group in members.values())
        _assign_groups([group for group in present if group], ratios, seed)
    trained = {row.genre for row in all_rows if row.split == "train" and not row.left_out}
    for row in rows:
        if row.genre not in trained and not row.left_out:
            row.left_out = GENRE_WITHOUT_TRAIN
        if is_copy(row.file) and row.split in ("dev", "test") and not row.left_out:
            row.left_out = f"augmented copy of a {row.split} track"


def _look_up_row(table: Mapping[str, Value], row: Row) -> Value | None:
    """Look a picture up by its track, or by its own name where the track is of several pieces or an earlier version."""
    value = look_up(table, row.genre, row.track)
    return look_up(table, row.genre, picture_key(row.genre, row.file)) if value is None else value


def _leave_out_conflicts(group: list[Row], *, by_list: bool) -> None:
    """Leave out the rows of one group that are in another split than the most protected one."""
    splits = [split for split in SPLITS if any(row.split == split for row in group)]
    for row in group:
        # Test is protected most, then dev: the model must have been trained on neither.
        if by_list and not row.split:
            row.left_out = "on no list"
        elif len(splits) > 1 and row.split not in ("", splits[-1]):
            row.left_out = GROUP_IN_OTHER_SPLIT.format(splits[-1])
        elif splits:
            row.split, row.left_out = row.split or splits[-1], ""


def removal(row: Row) -> str:
    """Return a line saying that a picture was taken out of its split, and why; empty where it was not."""
    reasons = [GENRE_WITHOUT_TRAIN, *map(GROUP_IN_OTHER_SPLIT.format, SPLITS)]
    if row.left_out not in reasons:
        return ""
    return f"{row.file}: removed from {row.split}, because {row.left_out} (group of {row.group})"


def straddling_groups(rows: Iterable[Row]) -> list[str]:
    """Return the groups with used pictures in more than one split: none after `assign_splits`.

    Parameters
    ----------
    rows : iterable of Row
        All pictures.

    Returns
    -------
    groups : list of str
        `Row.group` of each.
    """
    splits = defaultdict(set)
    for row in rows:
        if not row.left_out:
            splits[row.group].add(row.split)
    return sorted(group for group, names in splits.items() if len(names) > 1)


def compare_names(rows: Sequence[Row], lists: Mapping[str, Mapping[str, bool]], groups: Mapping[str, str]) -> list[str]:
    """Compare the names in published lists and groups with those of the pictures.

    Parameters
    ----------
    rows : list of Row
        Pictures.
    lists, groups : dict
        As for `assign_splits`.

    Returns
    -------
    notes : list of str
        Listed tracks without a picture, tracks on two lists, grouped tracks without a picture.

    Raises
    ------
    MelvisionError
        When no picture at all is on one of the lists: the names must be of another form.
    """
    notes = []
    pairs = {(row.genre, key) for row in rows for key in (row.track, picture_key(row.genre, row.file))}
    names = {key for _, key in pairs} | {f"{name}/{key}" for genre, key in pairs for name in genre_forms(genre)}
    for split, keys in lists.items():
        missing = sorted(set(keys) - names)
        if len(missing) == len(keys):
            example = f"{rows[0].genre}/{rows[0].track}"
            raise MelvisionError(
                f"no picture is on the {split} list: it names tracks like {missing[0]}, the pictures are named like "
                f"{example}"
            )
        if missing:
            lacking = plural(
                len(missing), f"track of the {split} list has no picture", f"tracks of the {split} list have no picture"
            )
            notes.append(f"{lacking}: {', '.join(missing[:5])}")
    listed = Counter(key for keys in lists.values() for key in keys)
    repeated = sorted(key for key, times in listed.items() if times > 1)
    if repeated:
        notes.append(
            f"{plural(len(repeated), 'track is', 'tracks are')} on two lists, such as {repeated[0]}; "
            "test takes precedence, then dev"
        )
    without_picture = len(set(groups) - names)
    if without_picture:
        notes.append(f"{without_picture} of the {len(groups)} tracks in the groups file have no picture")
    return notes
