"""Which side each group of pictures falls on: stratified by genre, seeded, never moved again."""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass

from render.errors import MelvisionError
from vision.splits.groups import connected_components, look_up
from vision.splits.keys import is_copy

SPLITS = ("train", "dev", "test")


@dataclass
class Row:
    """One picture, as ``split.csv`` holds it.

    Attributes
    ----------
    file : str
        Path below the pictures folder, with forward slashes.
    genre, track : str
        Its folder and its `groups.track_key`.
    group : str
        The first file of its group; a group is on one side only.
    split : str
        ``"train"``, ``"dev"``, ``"test"``, or ``""`` where a published list does not name it.
    left_out : str
        Why it is not used; empty when it is.
    pixels : str
        `pictures.pixel_hash`.
    size, mtime_ns, inode : int
        Of the file when its pixels were hashed. `render` gives a picture its source's time, so a
        redrawn one may differ in nothing but the inode.
    """

    file: str
    genre: str
    track: str
    group: str = ""
    split: str = ""
    left_out: str = ""
    pixels: str = ""
    size: int = 0
    mtime_ns: int = 0
    inode: int = 0


def _assign(groups, ratios, seed):
    """Give every group without a split the one that its genres are shortest of."""
    total, have, waiting = Counter(), Counter(), Counter()
    new = [rows for rows in groups if not any(row.split for row in rows)]
    for rows in groups:
        for row in rows:
            if not row.left_out and not is_copy(row.file):
                total[row.genre] += 1
                have[row.genre, row.split] += 1
    wanted = [split for split in SPLITS if ratios[split] > 0]
    want = {}
    for genre, n in total.items():
        for split in wanted[1:]:
            want[genre, split] = max(1, round(n * ratios[split]))
        want[genre, "train"] = n - sum(want[genre, split] for split in wanted[1:])
    for rows in new:
        waiting.update({row.genre for row in rows if not is_copy(row.file)})

    def draw(rows):
        # Not the order of the listing: the same track falls the same way whatever lies beside it.
        first = min(f"{row.genre}/{row.track}" for row in rows)
        return hashlib.blake2b(f"{seed}/{first}".encode(errors="surrogateescape")).digest()

    for rows in sorted(new, key=lambda rows: (-len(rows), draw(rows))):
        sizes = Counter(row.genre for row in rows if not is_copy(row.file))
        choices = wanted
        for genre in sizes:
            bare = [split for split in wanted if have[genre, split] == 0]
            if bare and waiting[genre] <= len(bare):
                choices = bare  # the last groups of a genre go where it has none yet
            waiting[genre] -= 1
        best = max(choices, key=lambda split: sum(n * (want[g, split] - have[g, split]) for g, n in sizes.items()))
        for row in rows:
            row.split = best
            have[row.genre, best] += not is_copy(row.file)


def assign_splits(rows, gone, *, lists, groups, ratios, seed):
    """Fill in `group`, `split` and `left_out` of every row.

    Rows that have a split keep it. Where a group has rows on two sides, the assignments stay and
    the lesser side (train before dev before test) is left out.

    Parameters
    ----------
    rows : list of Row
        Pictures that are there; changed in place.
    gone : list of Row
        Pictures that were there before: they still tie others together.
    lists : dict of str to dict
        For some of train, dev and test, what `groups.read_list` gave. Empty to draw by `ratios`.
    groups : dict
        What `groups.read_groups` gave, or empty.
    ratios : dict of str to float
        Shares of train, dev and test, summing to 1.
    seed : int
        Of the draw.
    """
    everything = rows + gone
    numbers = connected_components(
        [(row.genre, row.track) for row in everything],
        [row.pixels or None for row in everything],
        [look_up(groups, row.genre, row.track) for row in everything],
    )
    members = defaultdict(list)
    for number, row in zip(numbers, everything, strict=True):
        members[number].append(row)
    for number, group in members.items():
        for row in group:
            row.group = everything[number].file
            if lists:
                named = [split for split, keys in lists.items() if look_up(keys, row.genre, row.track)]
                row.split = named[-1] if named else ""
        sides = [split for split in SPLITS if any(row.split == split for row in group)]
        for row in group:
            # The test side of a conflict counts most, then dev: neither may have been trained on.
            if lists and not row.split:
                row.left_out = "on no list"
            elif len(sides) > 1 and row.split not in ("", sides[-1]):
                row.left_out = f"tied to a {sides[-1]} picture"
            elif sides:
                row.split, row.left_out = row.split or sides[-1], ""
    if not lists:
        away = {id(row) for row in gone}
        here = ([row for row in group if id(row) not in away] for group in members.values())
        _assign([group for group in here if group], ratios, seed)
    trained = {row.genre for row in everything if row.split == "train" and not row.left_out}
    for row in rows:
        if row.genre not in trained and not row.left_out:
            row.left_out = "its genre has no train picture"
        if is_copy(row.file) and row.split in ("dev", "test") and not row.left_out:
            row.left_out = f"augmented copy of a {row.split} track"


def straddling(rows):
    """Groups with used pictures on more than one side: a proof of `settle`, empty when all is well.

    Returns
    -------
    groups : list of str
    """
    sides = defaultdict(set)
    for row in rows:
        if not row.left_out:
            sides[row.group].add(row.split)
    return sorted(group for group, splits in sides.items() if len(splits) > 1)


def compare_names(rows, lists, groups):
    """Compare the names in published lists and groups with those of the pictures.

    Parameters
    ----------
    rows : list of Row
        Pictures.
    lists, groups : dict
        As for `settle`.

    Returns
    -------
    notes : list of str
        Listed tracks without a picture, tracks on two lists, groups of tracks that are not there.

    Raises
    ------
    MelvisionError
        When not one picture is on some list: the names must be of another form.
    """
    notes = []
    names = {row.track for row in rows} | {f"{row.genre.casefold()}/{row.track}" for row in rows}
    for split, keys in lists.items():
        missing = sorted(set(keys) - names)
        if len(missing) == len(keys):
            ours = f"{rows[0].genre}/{rows[0].track}"
            raise MelvisionError(
                f"no picture is on the {split} list: it has {missing[0]}, the pictures are like {ours}"
            )
        if missing:
            notes.append(f"{len(missing)} tracks of the {split} list have no picture: {', '.join(missing[:5])}")
    listed = Counter(key for keys in lists.values() for key in keys)
    twice = sorted(key for key, times in listed.items() if times > 1)
    if twice:
        notes.append(f"{len(twice)} tracks are on two lists, such as {twice[0]}; test counts before dev before train")
    strange = len(set(groups) - names)
    if strange:
        notes.append(f"{strange} of the {len(groups)} tracks in the groups file have no picture")
    return notes
