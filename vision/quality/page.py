"""The health of a picture folder as a web page, with the pictures that its findings are about."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from render import png
from render.cli import one_line, plural
from vision.data.colormaps import read_levels, stretch
from vision.data.images import load
from vision.quality.inspect import WORST, Finding, FolderReport, in_order
from vision.quality.near_duplicates import Pair
from vision.quality.picture_info import PictureInfo
from vision.reports import html
from vision.reports.recordings import find_recordings, sound_of, url_of

#: Recordings, doubtful labels and files of one finding that a page shows at most; ``--json`` has all.
MOST = 60

#: Names in a line, at most.
NAMED = 10

#: Cards and lines of a kind that are open; the others are folded.
OPEN = 10

#: Pictures of one recording, at most.
MEMBERS = 4

#: Size of a picture on the page, in pixels: twice the width of a phone's column.
WIDTH, HEIGHT = 520, 96

#: Findings whose files no other part of the page shows, so that their line names them.
NAMED_IN_LINE = ("empty", "few", "small", "unbalanced", "stray", "two labels")

#: Findings about single files, shown with a picture each.
SHOWN_AS_PICTURES = ("blank", "silent", "short", "odd", "alone")


class Card(NamedTuple):
    """Pictures, each with a text for those who cannot see it, their caption, and their recordings: address and name."""

    pictures: list[tuple[Image.Image, str]]
    caption: str
    sounds: list[tuple[str, str]]
    alarm: bool = False


def _strip(report: FolderReport, number: int, start: float = 0.0, span: float | None = None) -> Image.Image:
    """Draw one picture without margins and in magma, `start` seconds into a strip of `span` seconds."""
    info = report.pictures[number]
    image = load(Path(report.root) / info.file)
    left, top, right, bottom = info.margin
    levels, cmap = read_levels(image, (left, top, image.width - right, image.height - bottom))
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
    offsets: dict[int, dict[int, float]] = defaultdict(dict)
    for pair in pairs:
        offsets[pair.first][pair.second] = pair.offset
        offsets[pair.second][pair.first] = -pair.offset
    starts: dict[int, float] = {}
    waiting = [family[0]]
    while waiting:
        number = waiting.pop()
        starts.setdefault(number, 0.0)
        for other, offset in offsets[number].items():
            if other not in starts:
                starts[other] = starts[number] + offset
                waiting.append(other)
    return starts


def _aligned_starts(report: FolderReport, family: Sequence[int]) -> dict[int, float]:
    """As `_starts`, for every picture of the family, and counted from the earliest."""
    starts = _starts(family, report.near)
    # Of equal pictures, which begin together, only the first is in a pair.
    equal = {number: numbers for numbers in report.equal for number in numbers}
    for number in family:
        of_equal = next((starts[other] for other in equal.get(number, ()) if other in starts), 0.0)
        starts.setdefault(number, of_equal)
    earliest = min(starts.values())
    return {number: starts[number] - earliest for number in family}


def _recording(report: FolderReport, family: Sequence[int], sounds: "_Sounds") -> Card:
    """Pictures of one recording, one above the other, aligned in time."""
    starts = _aligned_starts(report, family)
    span = max(starts[number] + report.pictures[number].seconds for number in family)
    names = {number: one_line(report.pictures[number].file) for number in family[:MEMBERS]}
    strips = [(_strip(report, number, starts[number], span), name) for number, name in names.items()]
    pairs = [pair for pair in report.near if pair.first in family]
    how = "equal pixels"
    if pairs:
        weakest = min(pairs, key=lambda pair: pair.similarity)
        how = f"similarity {weakest.similarity:.2f}, {abs(weakest.offset):.1f} s apart"
        how += f", {weakest.overlap:.0f} s in common" + (" (the weakest pair)" if len(pairs) > 1 else "")
    across = report.across_genres(family)
    genres = ". TWO GENRES" if across else ""
    more = f" and {len(family) - MEMBERS} more" if len(family) > MEMBERS else ""
    caption = f"{' = '.join(names.values())}{more}: {how}{genres}"
    return Card(strips, caption, sounds.of(family[:MEMBERS]), across)


def _recordings(report: FolderReport, sounds: "_Sounds") -> list[Card]:
    """Recordings that occur more than once, those of two genres first."""
    families = sorted(report.recordings, key=lambda numbers: not report.across_genres(numbers))
    return [_recording(report, family, sounds) for family in families[:MOST]]


def _doubtful(report: FolderReport, sounds: "_Sounds") -> Iterator[Card]:
    for issue in report.label_issues[:MOST]:
        info = report.pictures[issue.index]
        file = one_line(info.file)
        caption = f"{file}: {issue.suggested}? ({issue.p_suggested:.2f}; {info.genre} {issue.p_given:.2f})"
        yield Card([(_strip(report, issue.index), file)], caption, sounds.of([issue.index]))


def _file_findings(report: FolderReport, sounds: "_Sounds") -> Iterator[tuple[str, list[Card]]]:
    """Findings about single files, with the pictures of those files."""
    numbers = {info.file: number for number, info in enumerate(report.pictures)}
    for finding in report.findings:
        if finding.kind in SHOWN_AS_PICTURES:
            cards = []
            for file in finding.files[:MOST]:
                info, name = report.pictures[numbers[file]], one_line(file)
                caption = f"{name}: {info.drawn}, {info.seconds:.1f} s, {info.silence:.0%} silent"
                cards.append(Card([(_strip(report, numbers[file]), name)], caption, sounds.of([numbers[file]])))
            shown = f" ({len(cards)} shown)" if len(cards) < len(finding.files) else ""
            yield finding.message + shown, cards


def _line(finding: Finding) -> str:
    """A finding in a line, with the names that no other part of the page has."""
    if finding.kind not in NAMED_IN_LINE:
        return one_line(finding.message)
    more = f" and {len(finding.files) - NAMED} more" if len(finding.files) > NAMED else ""
    return one_line(f"{finding.message}: {', '.join(finding.files[:NAMED])}{more}")


def margins(infos: Sequence[PictureInfo]) -> str:
    """The most common margins of pictures that are drawn alike, in words."""
    counts = Counter(info.margin for info in infos).most_common()
    if counts == [((0, 0, 0, 0), len(infos))]:
        return "none"
    margin, count = counts[0]
    text = "left {}, top {}, right {}, bottom {}".format(*margin)
    return text if len(counts) == 1 else f"{text} ({count} of {len(infos)}; {len(counts) - 1} others)"


def genre_rows(report: FolderReport) -> list[list[Any]]:
    """Rows of the table of genres.

    Parameters
    ----------
    report : FolderReport

    Returns
    -------
    rows : list of list
        For each genre its name, pictures, tracks, unusable pictures, and its share of all tracks.
    """
    rows, tracks = [], defaultdict(set)
    for info in report.pictures:
        if not info.problem:
            tracks[info.genre].add(info.track)
    total = sum(map(len, tracks.values()))
    for genre in report.genres:
        problems = [info.problem for info in report.pictures if info.genre == genre]
        share = len(tracks[genre]) / max(1, total)
        rows.append([genre, len(problems), len(tracks[genre]), sum(map(bool, problems)), f"{share:.0%}"])
    return rows


def drawing_rows(report: FolderReport) -> list[list[Any]]:
    """Rows of the table of ways in which pictures are drawn.

    Parameters
    ----------
    report : FolderReport

    Returns
    -------
    rows : list of list
        For each way, the most common first: what it is, how many pictures, their margins, and their lengths in
        seconds.
    """
    kinds = defaultdict(list)
    for info in report.pictures:
        if not info.problem:
            kinds[info.drawn].append(info)
    rows = []
    for drawn, infos in sorted(kinds.items(), key=lambda kind: -len(kind[1])):
        lengths = np.array([info.seconds for info in infos])
        seconds = f"{lengths.min():.1f}" if np.ptp(lengths) < 0.05 else f"{lengths.min():.1f} to {lengths.max():.1f}"
        rows.append([drawn, len(infos), margins(infos), seconds])
    return rows


class _Sounds:
    """The recordings of pictures, as the page names them."""

    def __init__(self, report: FolderReport, page: Path, audio: str | Path | None):
        self.report, self.page = report, page
        self.recordings = find_recordings(audio) if audio else {}

    def of(self, numbers: Sequence[int]) -> list[tuple[str, str]]:
        """The address and the name of each picture's recording, where it is at hand."""
        files = [Path(self.report.root, self.report.pictures[number].file) for number in numbers]
        found = [(file, sound_of(file, self.recordings)) for file in files] if self.recordings else []
        return [(url_of(sound, self.page), one_line(file.name)) for file, sound in found if sound]


def write(path: str | Path, report: FolderReport, audio: str | Path | None = None) -> None:
    """Write the page.

    Parameters
    ----------
    path : str or Path
        HTML file.
    report : FolderReport
        Of a folder that still exists: its pictures are read again.
    audio : str or Path, optional
        Folder of the recordings that the pictures were drawn from: the page plays them.
    """
    sounds = _Sounds(report, Path(path), audio)
    findings = [(_line(finding), finding.kind == WORST) for finding in in_order(report.findings)]
    attention = [finding for finding in report.findings if finding.attention]
    unusable = [one_line(f"{info.file}: {info.problem}") for info in report.pictures if info.problem]
    headline = f"{plural(len(report.pictures), 'picture')}, {plural(len(report.genres), 'genre')}. "
    headline += f"{len(attention)} to look at before training." if attention else "Nothing needs attention."
    context = {
        "title": f"Health of {one_line(Path(report.root).resolve().name)}",
        "headline": headline,
        "note": "",
        "n_pictures": len(report.pictures),
        "n_equal": sum(len(numbers) - 1 for numbers in report.equal),
        "n_near": len(report.near),
        "n_across": sum(map(report.across_genres, report.recordings)),
        "findings": findings,
        "open": OPEN,
        "genre_rows": genre_rows(report),
        "drawing_rows": drawing_rows(report),
        "recordings": _recordings(report, sounds),
        "n_recordings": len(report.recordings),
        "doubtful": list(_doubtful(report, sounds)),
        "n_doubtful": len(report.label_issues),
        "unusable": unusable,
        "file_findings": list(_file_findings(report, sounds)),
    }
    html.write_page(path, "quality.html", context)
