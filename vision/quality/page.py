"""The health of a picture folder as a web page, with the pictures that its findings are about."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from render import png
from render.cli import one_line
from vision.data.colormaps import read_levels, stretch
from vision.data.images import load
from vision.quality.inspect import Finding, Health
from vision.quality.near_duplicates import Pair
from vision.quality.picture_info import PictureInfo
from vision.reports import html

#: Recordings, doubtful labels and files of one finding that a page shows at most; ``--json`` has all.
MOST = 60

#: Names in a line, at most.
NAMED = 10

#: Pictures of one recording, at most.
MEMBERS = 4

#: Size of a picture on the page, in pixels: twice the width of a phone's column.
WIDTH, HEIGHT = 520, 96

#: Findings whose files no other part of the page shows, so that their line names them.
NAMED_IN_LINE = ("empty", "few", "unbalanced", "stray", "two labels")

#: Findings about single files, shown with a picture each.
SHOWN_AS_PICTURES = ("blank", "silent", "short", "odd", "alone")

#: Pictures, each with a text for those who cannot see it, and their caption.
Figure = tuple[list[tuple[Image.Image, str]], str]


def _strip(health: Health, number: int, start: float = 0.0, span: float | None = None) -> Image.Image:
    """Draw one picture without margins and in magma, `start` seconds into a strip of `span` seconds."""
    info = health.looks[number]
    image = load(Path(health.root) / info.file)
    left, top, right, bottom = info.margin
    levels, cmap = read_levels(image.crop((left, top, image.width - right, image.height - bottom)))
    picture = Image.fromarray(levels if cmap is None else png.palette("magma")[stretch(levels)])
    per_second = WIDTH / (span or info.seconds)
    resized = picture.resize((max(1, round(info.seconds * per_second)), HEIGHT), Image.Resampling.BOX)
    strip = Image.new("RGB", (WIDTH, HEIGHT), "white")
    strip.paste(resized, (round(start * per_second), 0))
    return strip


def _starts(family: Sequence[int], pairs: Sequence[Pair]) -> dict[int, float]:
    """Where the pictures of a family begin in their recording, in seconds from the first picture of the family.

    The offsets of pairs are summed along a path from that picture. Pictures that no pair mentions are missing.
    """
    offsets = defaultdict(dict)
    for pair in pairs:
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
    return starts


def _aligned_starts(health: Health, family: Sequence[int]) -> dict[int, float]:
    """As `_starts`, for every picture of the family, and counted from the earliest."""
    starts = _starts(family, health.near)
    # Of equal pictures, which begin together, only the first is in a pair.
    equal = {number: numbers for numbers in health.equal for number in numbers}
    for number in family:
        twin = next((other for other in equal.get(number, ()) if other in starts), None)
        starts.setdefault(number, starts.get(twin, 0.0))
    earliest = min(starts.values())
    return {number: starts[number] - earliest for number in family}


def _recording(health: Health, family: Sequence[int]) -> Figure:
    """Pictures of one recording, one above the other, aligned in time."""
    starts = _aligned_starts(health, family)
    span = max(starts[number] + health.looks[number].seconds for number in family)
    names = {number: one_line(health.looks[number].file) for number in family[:MEMBERS]}
    strips = [(_strip(health, number, starts[number], span), name) for number, name in names.items()]
    pairs = [pair for pair in health.near if pair.first in family]
    how = "equal pixels"
    if pairs:
        weakest = min(pairs, key=lambda pair: pair.similarity)
        how = f"similarity {weakest.similarity:.2f}, {abs(weakest.offset):.1f} s apart"
        how += f", {weakest.overlap:.0f} s in common" + (" (the weakest pair)" if len(pairs) > 1 else "")
    genres = ". TWO GENRES" if health.across(family) else ""
    more = f" and {len(family) - MEMBERS} more" if len(family) > MEMBERS else ""
    return strips, f"{' = '.join(names.values())}{more}: {how}{genres}"


def _recordings(health: Health) -> list[Figure]:
    """Recordings that occur more than once, those of two genres first."""
    families = sorted(health.families, key=lambda numbers: not health.across(numbers))
    return [_recording(health, family) for family in families[:MOST]]


def _doubtful(health: Health) -> Iterator[Figure]:
    for doubt in health.doubts[:MOST]:
        info = health.looks[doubt.number]
        file = one_line(info.file)
        caption = f"{file}: {doubt.suggested}? ({doubt.p_suggested:.2f}; {info.genre} {doubt.p_given:.2f})"
        yield [(_strip(health, doubt.number), file)], caption


def _file_findings(health: Health) -> Iterator[tuple[str, list[Figure]]]:
    """Findings about single files, with the pictures of those files."""
    numbers = {info.file: number for number, info in enumerate(health.looks)}
    for finding in health.findings:
        if finding.kind in SHOWN_AS_PICTURES:
            figures = []
            for file in finding.files[:MOST]:
                info, name = health.looks[numbers[file]], one_line(file)
                caption = f"{name}: {info.drawn}, {info.seconds:.1f} s, {info.silence:.0%} silent"
                figures.append(([(_strip(health, numbers[file]), name)], caption))
            shown = f" ({len(figures)} shown)" if len(figures) < len(finding.files) else ""
            yield finding.told + shown, figures


def _line(finding: Finding) -> str:
    """A finding in a line, with the names that no other part of the page has."""
    if finding.kind not in NAMED_IN_LINE:
        return one_line(finding.told)
    more = f" and {len(finding.files) - NAMED} more" if len(finding.files) > NAMED else ""
    return one_line(f"{finding.told}: {', '.join(finding.files[:NAMED])}{more}")


def margins(infos: Sequence[PictureInfo]) -> str:
    """The most common margins of pictures that are drawn alike, in words."""
    counts = Counter(info.margin for info in infos).most_common()
    if counts == [((0, 0, 0, 0), len(infos))]:
        return "none"
    margin, count = counts[0]
    text = "left {}, top {}, right {}, bottom {}".format(*margin)
    return text if len(counts) == 1 else f"{text} ({count} of {len(infos)}; {len(counts) - 1} others)"


def genre_rows(health: Health) -> list[list[Any]]:
    """Rows of the table of genres.

    Parameters
    ----------
    health : Health

    Returns
    -------
    rows : list of list
        For each genre its name, pictures, tracks, unusable pictures, and its share of all tracks.
    """
    rows, tracks = [], defaultdict(set)
    for info in health.looks:
        if not info.problem:
            tracks[info.genre].add(info.track)
    total = sum(map(len, tracks.values()))
    for genre in health.genres:
        problems = [info.problem for info in health.looks if info.genre == genre]
        share = len(tracks[genre]) / max(1, total)
        rows.append([genre, len(problems), len(tracks[genre]), sum(map(bool, problems)), f"{share:.0%}"])
    return rows


def drawing_rows(health: Health) -> list[list[Any]]:
    """Rows of the table of ways in which pictures are drawn.

    Parameters
    ----------
    health : Health

    Returns
    -------
    rows : list of list
        For each way, the most common first: what it is, how many pictures, their margins, and their lengths in
        seconds.
    """
    kinds = defaultdict(list)
    for info in health.looks:
        if not info.problem:
            kinds[info.drawn].append(info)
    rows = []
    for drawn, infos in sorted(kinds.items(), key=lambda kind: -len(kind[1])):
        lengths = np.array([info.seconds for info in infos])
        seconds = f"{lengths.min():.1f}" if np.ptp(lengths) < 0.05 else f"{lengths.min():.1f} to {lengths.max():.1f}"
        rows.append([drawn, len(infos), margins(infos), seconds])
    return rows


def write(path: str | Path, health: Health) -> None:
    """Write the page.

    Parameters
    ----------
    path : str or Path
        HTML file.
    health : Health
        Of a folder that still exists: its pictures are read again.
    """
    attention = [_line(finding) for finding in health.findings if finding.attention]
    notes = [_line(finding) for finding in health.findings if not finding.attention]
    unusable = [one_line(f"{info.file}: {info.problem}") for info in health.looks if info.problem]
    headline = f"{len(health.looks)} pictures, {len(health.genres)} genres. "
    headline += f"{len(attention)} to look at before training." if attention else "Nothing needs attention."
    context = {
        "title": f"Health of {one_line(Path(health.root).resolve().name)}",
        "headline": headline,
        "note": "",
        "n_pictures": len(health.looks),
        "n_equal": sum(len(numbers) - 1 for numbers in health.equal),
        "n_near": len(health.near),
        "n_across": sum(map(health.across, health.families)),
        "findings": attention + notes,
        "genre_rows": genre_rows(health),
        "drawing_rows": drawing_rows(health),
        "recordings": _recordings(health),
        "n_recordings": len(health.families),
        "doubtful": list(_doubtful(health)),
        "n_doubtful": len(health.doubts),
        "unusable": unusable,
        "file_findings": list(_file_findings(health)),
    }
    html.write_page(path, "quality.html", context)
