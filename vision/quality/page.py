"""The health of a picture folder as a page, with pictures of what it speaks of."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from render import png
from render.cli import one_line
from vision.data.colormaps import read_levels, stretch
from vision.data.images import load
from vision.reports import html

#: So many recordings, doubtful labels and files of one finding are shown; `--json` has all.
MOST = 60

#: So many names in a line.
NAMED = 10

#: Of one recording, so many pictures.
MEMBERS = 4

#: Pixels of a shown picture: twice what a phone has for it.
WIDTH, HEIGHT = 520, 96


def _strip(health, number, start=0.0, span=None):
    """One picture in magma, without margins, where it lies in a stretch of time that others share."""
    look = health.pictures[number]
    image = load(Path(health.root) / look.file)
    left, top, right, bottom = look.margin
    levels, cmap = read_levels(image.crop((left, top, image.width - right, image.height - bottom)))
    shown = Image.fromarray(levels if cmap is None else png.palette("magma")[stretch(levels)])
    per_second = WIDTH / (span or look.seconds)
    drawn = shown.resize((max(1, round(look.seconds * per_second)), HEIGHT), Image.Resampling.BOX)
    paper = Image.new("RGB", (WIDTH, HEIGHT), "white")
    paper.paste(drawn, (round(start * per_second), 0))
    return paper


def _starts(family, near):
    """Where each picture of a family begins in the recording, in seconds after the first to begin."""
    offsets = defaultdict(dict)
    for pair in near:
        offsets[pair.first][pair.second] = pair.offset
        offsets[pair.second][pair.first] = -pair.offset
    starts, waiting = {}, [family[0]]
    while waiting:
        number = waiting.pop()
        starts.setdefault(number, 0.0)
        for other, offset in offsets[number].items():
            if other not in starts:
                starts[other] = starts[number] + offset
                waiting.append(other)
    # Equal pictures begin together; only the first of them was compared.
    return starts


def _recordings(health):
    equal = {number: numbers for numbers in health.equal for number in numbers}
    cards = []
    for family in sorted(health.recordings, key=lambda numbers: not health.across_genres(numbers))[:MOST]:
        starts = _starts(family, health.near)
        for number in family:
            twin = next((other for other in equal.get(number, ()) if other in starts), None)
            starts.setdefault(number, starts.get(twin, 0.0))
        earliest = min(starts.values())
        span = max(starts[number] + health.pictures[number].seconds for number in family) - earliest
        told = [one_line(health.pictures[number].file) for number in family]
        strips = [
            (_strip(health, number, starts[number] - earliest, span), name)
            for number, name in zip(family[:MEMBERS], told, strict=False)
        ]
        pairs = [pair for pair in health.near if pair.first in family]
        how = "equal pixels"
        if pairs:
            worst = min(pairs, key=lambda pair: pair.similarity)
            how = f"similarity {worst.similarity:.2f}, {abs(worst.offset):.1f} s apart, {worst.overlap:.0f} s in common"
            how += " (the weakest pair)" if len(pairs) > 1 else ""
        genres = ". TWO GENRES" if health.across_genres(family) else ""
        more = f" and {len(family) - MEMBERS} more" if len(family) > MEMBERS else ""
        cards.append(html.figure(strips, f"{' = '.join(told[:MEMBERS])}{more}: {how}{genres}"))
    if not cards:
        return [html.paragraph("No picture shows the same recording as another.")]
    told = (
        f"{len(cards)} of {len(health.recordings)} recordings that are there more than once, set one under the other "
    )
    told += "where they agree, in the same colours. Look whether they do: what is above must be below."
    return [html.paragraph(told), html.columns(cards)]


def _doubts(health):
    cards = []
    for doubt in health.label_issues[:MOST]:
        file = one_line(health.pictures[doubt.index].file)
        told = f"{file}: {doubt.suggested}? ({doubt.p_suggested:.2f}; {health.pictures[doubt.index].genre} "
        cards.append(html.figure([(_strip(health, doubt.index), file)], f"{told}{doubt.p_given:.2f})"))
    told = f"The {len(cards)} most doubtful of {len(health.label_issues)}, the most doubtful first, with the "
    told += (
        "probabilities of what the model suggests and of the genre folder. It errs too: listen before a file is moved."
    )
    return [html.paragraph(told), html.columns(cards)]


def _files(health):
    """Files that findings speak of: with a picture, where they have one."""
    bad = [f"{look.file}: {look.problem}" for look in health.pictures if look.problem]
    if bad:
        yield html.paragraph(f"{len(bad)} cannot be used:")
        yield html.bullets(map(one_line, bad))
    numbers = {look.file: number for number, look in enumerate(health.pictures)}
    for finding in health.findings:
        if finding.kind in ("blank", "silent", "short", "odd", "alone"):
            cards = []
            for file in finding.files[:MOST]:
                look = health.pictures[numbers[file]]
                told = f"{one_line(file)}: {look.drawn}, {look.seconds:.1f} s, {look.silence:.0%} silent"
                cards.append(html.figure([(_strip(health, numbers[file]), one_line(file))], told))
            more = f" ({len(cards)} shown)" if len(cards) < len(finding.files) else ""
            yield from (html.paragraph(finding.message + more), html.columns(cards))


def _told(finding):
    """A finding in a line, with the names that no other part of the page has."""
    if finding.kind not in ("empty", "few", "unbalanced", "stray", "two labels"):
        return one_line(finding.message)
    more = f" and {len(finding.files) - NAMED} more" if len(finding.files) > NAMED else ""
    return one_line(f"{finding.message}: {', '.join(finding.files[:NAMED])}{more}")


def margins(looks):
    """The commonest margins of pictures drawn alike, in words."""
    found = Counter(look.margin for look in looks).most_common()
    if found == [((0, 0, 0, 0), len(looks))]:
        return "none"
    margin, count = found[0]
    told = "left {}, top {}, right {}, bottom {}".format(*margin)
    return told if len(found) == 1 else f"{told} ({count} of {len(looks)}; {len(found) - 1} others)"


def genre_rows(health):
    """A row a genre: pictures, tracks, unusable, and share of the tracks of all genres."""
    rows, tracks = [], defaultdict(set)
    for look in health.pictures:
        if not look.problem:
            tracks[look.genre].add(look.track)
    total = sum(map(len, tracks.values()))
    for genre in health.genres:
        mine = [look for look in health.pictures if look.genre == genre]
        bad, share = sum(bool(look.problem) for look in mine), len(tracks[genre]) / max(1, total)
        rows.append([genre, len(mine), len(tracks[genre]), bad, f"{share:.0%}"])
    return rows


def drawing_rows(health):
    """A row for each way that pictures are drawn, the commonest first: how many, how, with which margins, how long."""
    kinds = defaultdict(list)
    for look in health.pictures:
        if not look.problem:
            kinds[look.drawn].append(look)
    rows = []
    for drawn, looks in sorted(kinds.items(), key=lambda kind: -len(kind[1])):
        lengths = np.array([look.seconds for look in looks])
        told = f"{lengths.min():.1f}" if np.ptp(lengths) < 0.05 else f"{lengths.min():.1f} to {lengths.max():.1f}"
        rows.append([drawn, len(looks), margins(looks), told])
    return rows


def write(path, health):
    """Write the page.

    Parameters
    ----------
    path : Path
        HTML file.
    health : health.Health
        Of a folder that is still there.
    """
    attention = [_told(finding) for finding in health.findings if finding.attention]
    notes = [_told(finding) for finding in health.findings if not finding.attention]
    n, bad = len(health.pictures), sum(bool(look.problem) for look in health.pictures)
    headline = f"{n} pictures, {len(health.genres)} genres. "
    headline += f"{len(attention)} to look at before training." if attention else "Nothing needs attention."
    across = sum(map(health.across_genres, health.recordings))
    entries = [
        ("Pictures", str(n), f"{bad} cannot be used"),
        ("Equal", str(sum(len(numbers) - 1 for numbers in health.equal)), "copies, pixel by pixel"),
        ("Near-duplicates", str(len(health.near)), "more pairs of one recording"),
        ("Two labels", str(across), "recordings under two genres"),
    ]
    sections = {
        "What to look at": [html.tiles(entries), html.bullets(attention + notes)],
        "Genres": [html.table(["genre", "pictures", "tracks", "unusable", "share"], genre_rows(health))],
        "How they are drawn": [html.table(["drawn", "pictures", "margins in pixels", "seconds"], drawing_rows(health))],
        "The same recording": _recordings(health),
    }
    if health.label_issues:
        sections["Doubtful labels"] = _doubts(health)
    files = list(_files(health))
    if files:
        sections["Files to look at"] = files
    html.write_page(Path(path), f"Health of {one_line(Path(health.root).resolve().name)}", headline, sections)
