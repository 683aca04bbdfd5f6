"""Faults of a picture folder, found before anyone trains on it, as plain data."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from joblib import Parallel, delayed

from render import atomic
from render.cli import plural
from render.formats import PICTURE_ENDINGS
from render.tracks import list_root
from vision.data.dataset import SpectrogramFolder
from vision.data.genres import similar_genres
from vision.data.orientation import STEEP, TURNED, is_turned
from vision.data.preprocess import Preprocessor, learn_input_spec
from vision.quality.near_duplicates import Pair, find_near_duplicates
from vision.quality.picture_info import PictureInfo, picture_info
from vision.splits.groups import artist_folders, connected_components
from vision.splits.keys import is_copy, possible_pieces
from vision.splits.tracks import FEW

if TYPE_CHECKING:
    from vision.quality.label_issues import LabelIssue

#: A picture is reported from this share of silence on, and below this share of the median length.
MUCH_SILENCE = SHORT = 0.5

#: Where this share of the pictures is drawn in one way, the others are reported; below, the folder is a mixture.
ALIKE = 0.9


@dataclass
class Finding:
    """One fault, or one thing to know.

    Attributes
    ----------
    kind : str
        One word, for programs.
    message : str
        What was found and what to do, in a sentence.
    files : list of str
        What it is about: files, or genre folders.
    attention : bool
        False where nothing needs to be done.
    """

    kind: str
    message: str
    files: list[str] = field(default_factory=list)
    attention: bool = True


#: The kind of finding that comes first: one recording under two genres has at least one wrong label.
WORST = "two labels"


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings: what is surely wrong first, then what needs attention, then notes."""
    return sorted(findings, key=lambda finding: (finding.kind != WORST, not finding.attention))


@dataclass
class FolderReport:
    """Everything that is known of a picture folder.

    Attributes
    ----------
    root : str
        The folder.
    genres : list of str
        Its genre folders.
    pictures : list of PictureInfo
        One a file; the lists below hold indices into it.
    equal : list of list of int
        Pictures that are equal pixel by pixel.
    near : list of Pair
        Pictures of one recording that are not equal. Of equal ones only the first was compared.
    recordings : list of list of int
        The connected components of `equal` and `near`: what must be in one split.
    findings : list of Finding
    label_issues : list of LabelIssue
        The most doubtful label first; empty until `vision.quality.label_issues` fills it in.
    """

    root: str
    genres: list[str]
    pictures: list[PictureInfo]
    equal: list[list[int]]
    near: list[Pair]
    recordings: list[list[int]]
    findings: list[Finding] = field(default_factory=list)
    label_issues: "list[LabelIssue]" = field(default_factory=list)

    def across_genres(self, indices: Iterable[int]) -> bool:
        """Return whether pictures lie in different genre folders."""
        return len({self.pictures[index].genre for index in indices}) > 1

    def near_pairs(self) -> list[dict[str, Any]]:
        """Return `near` as JSON-able dicts: files, whether they lie across genres, similarity, offset and overlap."""
        return [
            {
                "files": [self.pictures[pair.first].file, self.pictures[pair.second].file],
                "across": self.across_genres((pair.first, pair.second)),
                "similarity": round(pair.similarity, 3),
                "offset": pair.offset,
                "overlap": pair.overlap,
            }
            for pair in self.near
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON-able dict."""
        infos = [
            {name: value for name, value in vars(info).items() if name not in ("fingerprint", "pixels", "pieces")}
            for info in self.pictures
        ]
        issues = []
        for issue in self.label_issues:
            info = self.pictures[issue.index]
            values = {name: value for name, value in asdict(issue).items() if name != "index"}
            issues.append({"file": info.file, "genre": info.genre} | values)
        return {
            "images": self.root,
            "attention": any(finding.attention for finding in self.findings),
            "genres": {genre: sum(info.genre == genre for info in self.pictures) for genre in self.genres},
            "findings": [asdict(finding) for finding in self.findings],
            "equal": [[self.pictures[index].file for index in indices] for indices in self.equal],
            "near": self.near_pairs(),
            "label_issues": issues,
            "pictures": infos,
        }


def _balance(genres: Sequence[str], pictures: Sequence[PictureInfo]) -> Iterator[Finding]:
    """Report genres without pictures, with too few, or with many more or fewer than the others."""
    tracks: dict[str, set] = {genre: set() for genre in genres}
    for info in pictures:
        if not info.problem and not is_copy(info.file):
            tracks[info.genre].add(info.track)
    counts = {genre: len(members) for genre, members in tracks.items()}
    median = float(np.median([count for count in counts.values() if count] or [0]))
    labels = {genre: f"{genre} ({count})" for genre, count in counts.items()}
    empty = [genre for genre, count in counts.items() if count == 0]
    if empty:
        message = f"{plural(len(empty), 'genre folder')} without a usable picture: add pictures or remove the folder"
        yield Finding("empty", message, empty)
    few = [labels[genre] for genre, count in counts.items() if 0 < count < 3]
    if few:
        yield Finding(
            "few", f"{plural(len(few), 'genre')} with fewer than the three tracks that vision.split needs", few
        )
    small = [labels[genre] for genre, count in counts.items() if 3 <= count < FEW]
    if small:
        message = f"{plural(len(small), 'genre')} of fewer than {FEW} tracks: a score of so few says little of it"
        yield Finding("small", message, small, attention=False)
    uneven = [labels[genre] for genre, n in counts.items() if n >= 3 and not median / 2 <= n <= median * 2]
    if uneven:
        message = (
            f"{plural(len(uneven), 'genre')} with less than half or more than twice the median of {median:g} tracks: "
        )
        message += "balance the counts, or train with --class-weights and judge by macro F1"
        yield Finding("unbalanced", message, uneven)


def _folder_findings(folder: SpectrogramFolder) -> Iterator[Finding]:
    """Report folders that cannot be read, and what was passed over."""
    failures = folder.passed.failures()
    if failures:
        yield Finding(
            "unreadable", f"{plural(len(failures), 'folder')} cannot be read: what is in it is missing", failures
        )
    for note in similar_genres(folder.root, folder.classes):
        yield Finding("similar genres", note)
    for note in artist_folders(folder.root, [(folder.classes[label], path) for path, label in folder.samples]):
        yield Finding("folders inside genres", note, attention=False)
    for note in folder.passed.notes(folder.root):
        yield Finding("passed over", note, attention=False)


def _unusual_pictures(pictures: Sequence[PictureInfo]) -> Iterator[Finding]:
    """Report files that cannot be used, and pictures that are blank, silent, short or of a size of their own."""
    bad = [info.file for info in pictures if info.problem]
    if bad:
        yield Finding("unusable", f"{plural(len(bad), 'file')} cannot be used: repair or remove", bad)
    usable = [info for info in pictures if not info.problem]
    blank = [info.file for info in usable if info.blank]
    if blank:
        message = f"{plural(len(blank), 'picture')} of one colour: a silent track, or nothing was drawn"
        yield Finding("blank", message, blank)
    silent = [info.file for info in usable if not info.blank and info.silence >= MUCH_SILENCE]
    if silent:
        yield Finding("silent", f"{plural(len(silent), 'picture')} silent for at least half of the time", silent)
    median = float(np.median([info.seconds for info in usable] or [0]))
    short = [info.file for info in usable if info.seconds < median * SHORT]
    if short:
        yield Finding("short", f"{plural(len(short), 'picture')} shorter than half the median of {median:.1f} s", short)
    changed = [info for info in usable if info.changed]
    if changed:
        message = (
            f"{plural(len(changed), 'picture')} drawn by melvision and changed since ({changed[0].changed}): taken "
        )
        message += f"for {changed[0].seconds:g} s each, as other programs' pictures; render them again"
        yield Finding("changed", message, [info.file for info in changed])
    usual = float(np.median([info.tilt for info in usable] or [0]))
    turned = [info.file for info in usable if is_turned(info.tilt, usual, upright=info.upright)]
    if turned:
        is_are = plural(len(turned), "picture is", "pictures are")
        yield Finding("turned", f"{is_are} loud where most are quiet: {TURNED}?", turned, attention=False)
    if usual <= -STEEP:
        message = "most pictures are louder in high bands than in low ones, which music is not: "
        yield Finding("turned", f"{message}{TURNED}?", attention=False)
    alone = [info.file for info in usable if info.own_edges]
    if alone:
        message = f"{plural(len(alone), 'picture')} of a size that no other has: the margin was estimated from it alone"
        yield Finding("alone", message, alone, attention=False)


def _drawing_styles(genres: Sequence[str], pictures: Sequence[PictureInfo]) -> Iterator[Finding]:
    """Report pictures drawn in another way than the rest, which is worst where it depends on the genre."""
    usable = [info for info in pictures if not info.problem]
    styles = Counter(info.drawn for info in usable).most_common()
    if len(styles) < 2:
        return
    common, count = styles[0]
    odd = [info.file for info in usable if info.drawn != common]
    if count >= ALIKE * len(usable):
        message = f"{plural(len(odd), 'picture')} not drawn like the other {count} ({common})"
        yield Finding("odd", message, odd)
    else:
        message = (
            f"drawn in {len(styles)} ways: colormaps and sizes are made alike for the model, frequency axes cannot be"
        )
        yield Finding("mixed", message, attention=False)
    for genre in genres:
        own = [info.drawn for info in usable if info.genre == genre]
        others = [info.drawn for info in usable if info.genre != genre]
        if len(own) < 3 or not others:
            continue
        for style, _ in styles:
            share, elsewhere = own.count(style) / len(own), others.count(style) / len(others)
            if share - elsewhere > 0.5:
                message = (
                    f"{genre}: {share:.0%} drawn as {style}, of the other genres {elsewhere:.0%}: a model will learn "
                )
                yield Finding("confounded", message + "how they are drawn and not the music; draw all in one way")


def _repetitions(report: FolderReport) -> Iterator[Finding]:
    """Report equal pictures, near-duplicates, and recordings in more than one genre."""
    pictures = report.pictures
    if report.equal:
        across = sum(report.across_genres(indices) for indices in report.equal)
        n = sum(len(indices) * (len(indices) - 1) // 2 for indices in report.equal)
        files = [pictures[index].file for indices in report.equal for index in indices]
        message = f"{plural(n, 'pair')} of equal pictures, {across} across genres; vision.split keeps them together"
        yield Finding("equal", message, files)
    if report.near:
        pairs = [(pair.first, pair.second) for pair in report.near]
        files = [pictures[index].file for index in dict.fromkeys(index for pair in pairs for index in pair)]
        across = sum(map(report.across_genres, pairs))
        message = f"{plural(len(pairs), 'more pair')} of the same recording, {across} across genres"
        yield Finding("near", message + "; write them with --groups and give the file to vision.split", files)
    mixed = [indices for indices in report.recordings if report.across_genres(indices)]
    if mixed:
        files = [pictures[index].file for indices in mixed for index in indices]
        message = f"{plural(len(mixed), 'recording')} in more than one genre: at most one label is right"
        yield Finding(WORST, message, files)


def _read_pictures(
    folder: SpectrogramFolder, track_seconds: float, jobs: int, progress: Callable[..., Iterable] | None
) -> list[PictureInfo]:
    paths = [path for path, _ in folder.samples]
    infos = [
        PictureInfo(Path(path).relative_to(folder.root).as_posix(), folder.classes[label])
        for path, label in folder.samples
    ]
    preprocessor = Preprocessor(learn_input_spec(paths, track_seconds=track_seconds))
    calls = Parallel(n_jobs=jobs, prefer="threads", return_as="generator")(
        delayed(picture_info)(path, info, preprocessor) for path, info in zip(paths, infos, strict=True)
    )
    return list(progress(calls, total=len(paths), desc="inspect", unit="picture") if progress else calls)


def _find_repetitions(
    pictures: Sequence[PictureInfo], progress: Callable[..., Iterable] | None
) -> tuple[list[list[int]], list[Pair], list[list[int]]]:
    """Return `FolderReport.equal`, `near` and `recordings`."""
    shown = [index for index, info in enumerate(pictures) if not info.problem and not info.blank]
    by_pixels = defaultdict(list)
    for index in shown:
        by_pixels[pictures[index].pixels].append(index)
    equal = [indices for indices in by_pixels.values() if len(indices) > 1]
    first = [indices[0] for indices in by_pixels.values()]
    fingerprints = [cast(np.ndarray, pictures[index].fingerprint) for index in first]
    near = [
        replace(pair, first=first[pair.first], second=first[pair.second])
        for pair in find_near_duplicates(fingerprints, progress=progress)
    ]
    # That pieces and copies of one track are alike is expected.
    near = [pair for pair in near if pictures[pair.first].track != pictures[pair.second].track]
    entries: list[tuple[Hashable, int]] = [(pictures[index].pixels, index) for index in shown]
    entries += [(pair, index) for pair in near for index in (pair.first, pair.second)]
    components = connected_components([index for _, index in entries], [label for label, _ in entries])
    members = defaultdict(set)
    for component, (_, index) in zip(components, entries, strict=True):
        members[component].add(index)
    return equal, near, [sorted(indices) for indices in members.values() if len(indices) > 1]


def inspect_folder(
    root: str | Path,
    *,
    track_seconds: float = 30.0,
    pieces: bool = False,
    jobs: int = -1,
    progress: Callable[..., Iterable] | None = None,
) -> FolderReport:
    """Inspect a folder of genre folders: balance, how pictures were drawn, unusable files, repeated recordings.

    Parameters
    ----------
    root : str or Path
        One folder a genre.
    track_seconds : float
        Length of track that pictures without melvision's text chunk are taken to span.
    pieces : bool
        Whether names that differ in a number at their end only are pieces of one track.
    jobs : int
        Decoding threads; -1 is one a core.
    progress : callable, optional
        Wraps what is iterated over, as `render.cli.progress` does, to show the progress.

    Returns
    -------
    report : FolderReport

    Raises
    ------
    MelvisionError
        When there is no folder, or no picture in it.

    See Also
    --------
    vision.quality.label_issues.judge_labels : find doubtful labels with a model's predictions.
    """
    folder = SpectrogramFolder(root)
    pictures = _read_pictures(folder, track_seconds, jobs, progress)
    for info in pictures:
        info.pieces = pieces
    report = FolderReport(str(root), folder.classes, pictures, *_find_repetitions(pictures, progress))
    report.findings += _folder_findings(folder)
    if not pieces:
        for note in possible_pieces(root, [(info.genre, info.file) for info in pictures]):
            report.findings.append(Finding("pieces", note, attention=False))
    report.findings += _unusual_pictures(pictures)
    report.findings += _balance(folder.classes, pictures)
    report.findings += _drawing_styles(folder.classes, pictures)
    report.findings += _repetitions(report)
    stray = [path.name for path in list_root(root)[1] if path.suffix.lower() in PICTURE_ENDINGS]
    if stray:
        message = f"{plural(len(stray), 'picture')} outside a genre folder: not used"
        report.findings.append(Finding("stray", message, stray, attention=False))
    return report


def write_groups(path: str | Path, report: FolderReport) -> None:
    """Write which tracks are one recording, as `vision.splits.groups.read_groups` reads it.

    Parameters
    ----------
    path : str or Path
        CSV file to write.
    report : FolderReport
        From `inspect_folder`.
    """
    rows = []
    for recording in report.recordings:
        tracks = {}
        for info in (report.pictures[index] for index in recording):
            # A line break would end the row; `read_groups` takes it for a space.
            name = Path(info.file.replace("\\", "/")).name
            tracks[info.track] = re.sub(r"\s+", " ", f"{info.genre}/{name}")
        if len(tracks) > 1:
            names = list(tracks.values())
            rows += [(name, f"recording of {names[0]}") for name in names]
    atomic.write_csv(path, ["track", "group"], rows, lineterminator="\n")
