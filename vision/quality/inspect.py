"""What is wrong with a folder of pictures, before anyone trains on it: findings as plain data."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from render.cli import progress
from vision.data.dataset import SpectrogramFolder
from vision.data.images import PICTURE_ENDINGS
from vision.data.preprocess import Preprocessor, learn_input_spec
from vision.quality.label_issues import find_label_issues
from vision.quality.near_duplicates import find_similar
from vision.quality.picture_info import PictureInfo, picture_info
from vision.splits.groups import connected_components
from vision.splits.keys import is_copy

#: A picture this silent is worth a look, and so is a track shorter than this share of the usual length.
MUCH_SILENCE = SHORT = 0.5

#: Where this share of pictures are drawn alike, the others are odd ones; below, the set is a mixture.
ALIKE = 0.9


@dataclass
class Finding:
    """One thing to know.

    Attributes
    ----------
    kind : str
        One word, for programs.
    told : str
        What was found and what to do, in a sentence.
    files : list of str
        What it is about: files, or genre folders.
    attention : bool
        False where it is only good to know.
    """

    kind: str
    told: str
    files: list = field(default_factory=list)
    attention: bool = True


@dataclass
class Doubt:
    """A picture that a model takes for another genre, on good grounds; see `doubts.find_doubtful`.

    Attributes
    ----------
    number : int
        Which picture.
    suggested : str
        What the model takes it for.
    p_given, p_suggested : float
        The probabilities of its genre folder and of that.
    """

    number: int
    suggested: str
    p_given: float
    p_suggested: float


@dataclass
class Health:
    """All that is found out of a folder.

    Attributes
    ----------
    root : str
        The folder.
    genres : list of str
        Its genre folders.
    looks : list of Traits
        One a file.
    equal : list of list of int
        Pictures that are equal pixel by pixel.
    near : list of similar.Pair
        Pictures of one recording that are not equal. Of equal ones only the first is compared.
    families : list of list of int
        `equal` and `near` together: what must be on one side of a split.
    findings : list of Finding
    doubts : list of Doubt
        The most doubtful first; empty until `doubt_labels` is called.
    """

    root: str
    genres: list
    looks: list
    equal: list
    near: list
    families: list
    findings: list
    doubts: list = field(default_factory=list)

    def across(self, numbers):
        """Tell whether pictures lie in different genres."""
        return len({self.looks[number].genre for number in numbers}) > 1


def _n(count, what):
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _balance(genres, looks):
    """Genres without pictures, with too few, or with many more or fewer than the others."""
    tracks = {genre: set() for genre in genres}
    for look in looks:
        if not look.problem and not is_copy(look.file):
            tracks[look.genre].add(look.track)
    counts = {genre: len(found) for genre, found in tracks.items()}
    usual = float(np.median([count for count in counts.values() if count] or [0]))
    named = {genre: f"{genre} ({count})" for genre, count in counts.items()}
    empty = [genre for genre, count in counts.items() if count == 0]
    if empty:
        yield Finding("empty", f"{_n(len(empty), 'genre folder')} without a usable picture: fill or remove", empty)
    few = [named[genre] for genre, count in counts.items() if 0 < count < 3]
    if few:
        yield Finding("few", f"{_n(len(few), 'genre')} with fewer than three tracks, which vision.split needs", few)
    uneven = [named[genre] for genre, n in counts.items() if n >= 3 and not usual / 2 <= n <= usual * 2]
    if uneven:
        told = f"{_n(len(uneven), 'genre')} far from the usual {usual:g} tracks: even the counts out, or train with "
        yield Finding("unbalanced", told + "--class-weights and look at macro F1", uneven)


def _strange(looks):
    """Files that cannot be used, or that nobody would have wanted so."""
    bad = [look.file for look in looks if look.problem]
    if bad:
        yield Finding("unusable", f"{_n(len(bad), 'file')} cannot be used: repair or remove", bad)
    usable = [look for look in looks if not look.problem]
    blank = [look.file for look in usable if look.blank]
    if blank:
        told = f"{_n(len(blank), 'picture')} of one colour throughout: silent tracks, or nothing was drawn"
        yield Finding("blank", told, blank)
    silent = [look.file for look in usable if not look.blank and look.silence >= MUCH_SILENCE]
    if silent:
        yield Finding("silent", f"{_n(len(silent), 'picture')} silent for half of the time or more", silent)
    usual = float(np.median([look.seconds for look in usable] or [0]))
    short = [look.file for look in usable if look.seconds < usual * SHORT]
    if short:
        yield Finding("short", f"{_n(len(short), 'picture')} of less than half the usual {usual:.1f} s", short)
    alone = [look.file for look in usable if look.own_edges]
    if alone:
        told = f"{_n(len(alone), 'picture')} of a size that no other has: the margin is a guess by its own edges"
        yield Finding("alone", told, alone, attention=False)


def _drawings(genres, looks):
    """Pictures drawn otherwise than the rest, worst where it goes with the genre."""
    usable = [look for look in looks if not look.problem]
    kinds = Counter(look.drawn for look in usable).most_common()
    if len(kinds) < 2:
        return
    common, count = kinds[0]
    odd = [look.file for look in usable if look.drawn != common]
    if count >= ALIKE * len(usable):
        told = f"{_n(len(odd), 'picture')} drawn otherwise than the other {count} ({common})"
        yield Finding("odd", told, odd)
    else:
        told = f"drawn in {len(kinds)} ways; colormaps and sizes are evened out, frequency axes cannot be"
        yield Finding("mixed", told, attention=False)
    for genre in genres:
        mine = [look.drawn for look in usable if look.genre == genre]
        others = [look.drawn for look in usable if look.genre != genre]
        if len(mine) < 3 or not others:
            continue
        for kind, _ in kinds:
            here, there = mine.count(kind) / len(mine), others.count(kind) / len(others)
            if here - there > 0.5:
                told = f"{genre}: {here:.0%} drawn as {kind}, of the other genres {there:.0%}: a model will learn "
                yield Finding("confounded", told + "the drawing and not the music; draw all alike")


def _repetitions(health):
    looks = health.looks
    if health.equal:
        across = sum(health.across(numbers) for numbers in health.equal)
        pairs = sum(len(numbers) * (len(numbers) - 1) // 2 for numbers in health.equal)
        files = [looks[number].file for numbers in health.equal for number in numbers]
        told = f"{_n(pairs, 'pair')} of equal pictures, {across} across genres; vision.split keeps them together"
        yield Finding("equal", told, files)
    if health.near:
        pairs = [(pair.first, pair.second) for pair in health.near]
        files = [looks[number].file for number in dict.fromkeys(number for pair in pairs for number in pair)]
        told = f"{_n(len(pairs), 'pair')} more that show one recording, {sum(map(health.across, pairs))} across genres"
        yield Finding("near", told + "; write them with --groups and give the file to vision.split", files)
    mixed = [numbers for numbers in health.families if health.across(numbers)]
    if mixed:
        files = [looks[number].file for numbers in mixed for number in numbers]
        told = f"{_n(len(mixed), 'recording')} under more than one genre: at most one label is right"
        yield Finding("two labels", told, files)


def inspect_folder(root, *, track_seconds=30.0, jobs=-1):
    """Find out what is in a folder of pictures, and what is wrong with it.

    Parameters
    ----------
    root : str or Path
        One folder a genre.
    track_seconds : float
        What pictures without our text chunk are taken to span.
    jobs : int
        Decoding threads; -1 is one a core.

    Returns
    -------
    health : Health

    Raises
    ------
    MelvisionError
        When there is no folder, or no picture in it.
    """
    folder = SpectrogramFolder(root)
    paths = [path for path, _ in folder.samples]
    named = [
        PictureInfo(Path(path).relative_to(root).as_posix(), folder.classes[label]) for path, label in folder.samples
    ]
    preprocessor = Preprocessor(learn_input_spec(paths, track_seconds=track_seconds))
    calls = Parallel(n_jobs=jobs, prefer="threads", return_as="generator")(
        delayed(picture_info)(path, traits, preprocessor) for path, traits in zip(paths, named, strict=True)
    )
    looks = list(progress(calls, total=len(paths), desc="look", unit="picture"))
    shown = [number for number, look in enumerate(looks) if not look.problem and not look.blank]
    by_pixels = defaultdict(list)
    for number in shown:
        by_pixels[looks[number].pixels].append(number)
    equal = [numbers for numbers in by_pixels.values() if len(numbers) > 1]
    first = [numbers[0] for numbers in by_pixels.values()]
    near = [
        replace(pair, first=first[pair.first], second=first[pair.second])
        for pair in find_similar([looks[number].fingerprint for number in first])
    ]
    # Pieces and copies of one track are no news.
    near = [pair for pair in near if looks[pair.first].track != looks[pair.second].track]
    entries = [(looks[number].pixels, number) for number in shown]
    entries += [(pair, number) for pair in near for number in (pair.first, pair.second)]
    tied = connected_components([number for _, number in entries], [label for label, _ in entries])
    members = defaultdict(set)
    for family, (_, number) in zip(tied, entries, strict=True):
        members[family].add(number)
    families = [sorted(numbers) for numbers in members.values() if len(numbers) > 1]
    health = Health(str(root), folder.classes, looks, equal, near, families, [])
    stray = [path.name for path in sorted(Path(root).iterdir()) if path.is_file()]
    stray = [name for name in stray if name.lower().endswith(PICTURE_ENDINGS)]
    health.findings += [*_strange(looks), *_balance(folder.classes, looks), *_drawings(folder.classes, looks)]
    health.findings += _repetitions(health)
    if stray:
        told = f"{_n(len(stray), 'picture')} outside of a genre folder: not used"
        health.findings.append(Finding("stray", told, stray, attention=False))
    return health


def doubt_labels(health, classes, found, learned, what):
    """Find the labels that a model doubts, of pictures that it did not learn from.

    Parameters
    ----------
    health : Health
        From `inspect`; its `doubts` and `findings` are filled in.
    classes : list of str
        Genres, in the order of the probabilities.
    found : dict of int to np.ndarray, shape (n_classes,)
        The model's probabilities of some of the pictures.
    learned : set of int
        Pictures that the model learned from. No doubt of these is fair, nor of their recordings under
        other names.
    what : str
        Where the probabilities come from.
    """
    looks = health.looks
    known = {number for family in health.families if learned & set(family) for number in family} | learned
    judged = [number for number in sorted(found) if number not in known and looks[number].genre in classes]
    y = np.array([classes.index(looks[number].genre) for number in judged], np.int64)
    probabilities = np.array([found[number] for number in judged])
    for at, label in zip(*find_label_issues(y, probabilities), strict=True):
        p = probabilities[at]
        health.doubts.append(Doubt(judged[at], classes[label], float(p[y[at]]), float(p[label])))
    if health.doubts:
        files = [looks[doubt.number].file for doubt in health.doubts]
        told = f"{_n(len(files), 'picture')} of {len(judged)} with a doubtful label, by {what}: listen before moving "
        health.findings.append(Finding("doubtful", told + "one, for the model errs too", files))
    usable = sum(not look.problem for look in looks)
    rest = usable - len(judged)
    if rest:
        told = f"{rest} of {usable} pictures were not judged by {what}"
        if known:
            told += f": of {len(known)} it learned the label, there or from the same recording under another name, "
            told += "and gives no fair doubt; vision.crossval judges all: --predictions"
        health.findings.append(Finding("unjudged", told, attention=not judged))
