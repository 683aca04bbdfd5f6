"""Draw all tracks of a folder: in parallel, resumable, with every failure listed."""

import itertools
import os
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from render import atomic, audio, feature_picture, figure, png, spectrogram, workers
from render.augment import change_audio, draw_change
from render.cli import plural, progress
from render.errors import MelvisionError, ParameterError
from render.formats import AUDIO_ENDINGS
from render.labels import LabelColumns, read_labels, write_groups
from render.passed_over import PassedOver
from render.segments import Segments
from render.settings import Settings
from render.tracks import Track, find_tracks, folder_notes

#: In the pictures folder: which tracks a table of labels puts into one group.
GROUPS = "groups.csv"


@dataclass(frozen=True)
class Result:
    """The outcome of one track.

    Attributes
    ----------
    track : Track
        The track.
    status : str
        ``"drawn"``, ``"fresh"`` (the picture is up to date) or ``"failed"``.
    message : str
        Why it failed, or a note about it; empty when there is neither.
    n_pictures : int
        How many pictures it has: one, or one a segment.
    """

    track: Track
    status: str
    message: str = ""
    n_pictures: int = 1

    def __str__(self) -> str:
        copy = f" (copy {self.track.copy})" if self.track.copy else ""
        return f"{self.track.path}{copy}: {self.message}"


def picture_path(track: Track, out: str | Path, segment: int | None = None) -> Path:
    """Return the path of the picture of `track`, or of a segment of it, under `out`: folders inside a genre are kept.

    Segments are named ``<track_id>_seg000.png`` and so on, copies ``<track_id>+aug1.png``: names by which
    `vision.splits.keys.track_key` knows that they are of one track.
    """
    part = "" if segment is None else f"_seg{segment:03}"
    copy = f"+aug{track.copy}" if track.copy else ""
    return Path(out, track.genre, track.folder, f"{track.track_id}{part}{copy}.png")


def one_of_each_format(tracks: Iterable[Track]) -> tuple[list[Track], list[str]]:
    """Leave one track of those in one folder that differ in their ending only, such as a.wav and a.mp3.

    Parameters
    ----------
    tracks : iterable of Track
        All tracks of a folder.

    Returns
    -------
    tracks : list of Track
        Those whose ending comes first in `formats.AUDIO_ENDINGS`, in their order.
    notes : list of str
        Which others were passed over.
    """
    tracks = list(tracks)
    order = {ending: number for number, ending in enumerate(AUDIO_ENDINGS)}
    formats: dict[tuple[str, str, str], list[Track]] = defaultdict(list)
    for track in tracks:
        formats[track.genre, track.folder, track.track_id].append(track)
    kept, notes = set(), []
    for same in formats.values():
        first, *others = sorted(same, key=lambda track: order[track.path.suffix.lower()])
        kept.add(first)
        if others and len({track.path.suffix.lower() for track in same}) == len(same):
            names = ", ".join(track.path.name for track in others)
            notes.append(f"{first.path}: is drawn, and the same track in other formats is not: {names}")
        else:  # names that differ in the case of their endings are for `find_collisions`
            kept.update(others)
    return [track for track in tracks if track in kept], notes


def find_collisions(tracks: Iterable[Track]) -> list[Result]:
    """Find tracks that would write the same picture.

    Names that differ only in case or Unicode form collide, too: macOS and Windows take them for the same.

    Parameters
    ----------
    tracks : iterable of Track
        All tracks of a folder.

    Returns
    -------
    results : list of Result
        A failure for each such track; none of them is drawn, so that none overwrites another.
    """
    by_target = defaultdict(list)
    for track in tracks:
        name = unicodedata.normalize("NFC", f"{track.genre}/{track.folder}/{track.track_id}").casefold()
        by_target[name].append(track)
    results = []
    for rivals in by_target.values():
        for track in rivals if len(rivals) > 1 else []:
            others = ", ".join(str(rival.path) for rival in rivals if rival is not track)
            picture = picture_path(track, "").as_posix()
            message = f"would write {picture}, and so would {others}; rename or remove one (neither was drawn)"
            results.append(Result(track, "failed", message))
    return results


def _read_existing(target: Path) -> dict[str, Any] | None:
    """Return the text chunk of the picture at `target`, None if there is no file.

    Raises AudioError for a file that melvision did not write.
    """
    if not target.exists():
        return None
    try:
        with png.open_picture(target) as image:
            about = png.read_about(image)
    except png.PictureError:
        about = None
    if about is None:
        raise audio.AudioError(f"{target} exists and was not written by melvision; set force to replace it")
    return about


def _read_pictures(track: Track, out: str | Path, segments: Segments | None) -> list[dict[str, Any]]:
    """Return the text chunks of the pictures of a track, up to the first one that is missing."""
    found: list[dict[str, Any]] = []
    for number in itertools.count() if segments else (None,):
        about = _read_existing(picture_path(track, out, number))
        if about is None:
            break
        found.append(about)
        if about.get("segment", {}).get("last"):
            break
    return found


def _settings_of(settings: Settings, segments: Segments | None, number: int) -> Settings:
    """Return the settings that a picture of a track, or that of a segment, is made with."""
    if segments is None:
        return settings
    return replace(settings, offset=settings.offset + number * segments.step, duration=segments.seconds)


def _is_fresh(
    found: list[dict[str, Any]], source: dict[str, Any], settings: Settings, cmap: str, segments: Segments | None
) -> bool:
    """Return whether all pictures of a track are there and were made of this source with these settings."""
    if segments and not (found and found[-1].get("segment", {}).get("last")):
        return False
    for number, about in enumerate(found):
        made = _settings_of(settings, segments, number).to_dict() | {"cmap": cmap}
        if about["source"] != about["source"] | source or about != about | made:
            return False
        if segments and about["segment"] != about["segment"] | _cut(settings, segments):
            return False
    return bool(found)


def _cut(settings: Settings, segments: Segments) -> dict[str, Any]:
    """Return what the text chunk of a segment's picture says of how the track was cut."""
    return {"hop": segments.step, "start": settings.offset, "track_duration": settings.duration}


def _notes(found: Sequence[dict[str, Any]]) -> str:
    """Return what there is to say of the pictures of a track."""
    silent = sum(bool(about.get("silent")) for about in found)
    notes = ["is silent: it holds nothing above -80 dB below full scale"] if silent == len(found) > 0 else []
    notes += [f"{silent} of {len(found)} segments are silent"] if 0 < silent < len(found) else []
    return "; ".join(notes + list(dict.fromkeys(note for about in found for note in about.get("notes", []))))


def check_fresh(
    track: Track, out: str | Path, settings: Settings, cmap: str, segments: Segments | None = None
) -> Result | None:
    """Check whether a track's picture is up to date, without reading the audio.

    A picture has the modification time of its audio file, so it is up to date if settings, size and time are equal.
    Where only the time differs, `draw` compares the contents.

    Parameters
    ----------
    track, out, settings, cmap, segments
        As for `draw`.

    Returns
    -------
    result : Result or None
        ``"fresh"``, or ``"failed"`` for a file that melvision did not write; None when the track has to be drawn.
    """
    try:
        found, status = _read_pictures(track, out, segments), track.path.stat()
        source = {"name": track.path.name, "size": status.st_size}
        targets = [picture_path(track, out, number if segments else None) for number in range(len(found))]
        same = all(target.stat().st_mtime_ns == status.st_mtime_ns for target in targets)
        if same and _is_fresh(found, source, settings, cmap, segments):
            return Result(track, "fresh", _notes(found), len(found))
    except audio.AudioError as error:
        return Result(track, "failed", str(error))
    except OSError:
        pass  # missing or unreadable: `draw` reports it
    return None


def compute(
    path: str | Path, settings: Settings, change: dict[str, float] | None = None, notes: list[str] | None = None
) -> tuple[np.ndarray, bool]:
    """Decode one file and compute the values of its picture.

    Mel pictures are computed piece by piece; features and augmented copies need the whole track in memory.

    Parameters
    ----------
    path : str or Path
        Audio file.
    settings : Settings
        How the picture is made.
    change : dict, optional
        From `augment.draw_change`.
    notes : list of str, optional
        Gets what `audio.decode` has to say about the file.

    Returns
    -------
    values : np.ndarray, shape (n_rows, n_frames), float32
        Row 0 is the lowest.
    silent : bool
        Whether the track holds no sound: it never exceeds `audio.SILENT_PEAK`, or no band has any power.

    Raises
    ------
    AudioError
        When it cannot be decoded or drawn; the message says why, without the path.
    """
    return compute_pieces(_decode(path, settings, change, notes), settings)


def _decode(
    path: str | Path, settings: Settings, change: dict[str, float] | None, notes: list[str] | None
) -> Iterable[np.ndarray]:
    """Decode the part of a file that is drawn, changed as an augmented copy is; arguments as of `compute`."""
    pieces: Iterable[np.ndarray] = audio.decode(
        path, sr=settings.sr, offset=settings.offset, duration=settings.duration, notes=notes,
        highest=settings.fmax or settings.sr / 2,
    )  # fmt: skip
    if not change:
        return pieces
    y = np.concatenate(list(pieces))
    return [change_audio(y, sr=settings.sr, **change)]


def compute_pieces(pieces: Iterable[np.ndarray], settings: Settings) -> tuple[np.ndarray, bool]:
    """Compute the values of the picture of decoded audio.

    Parameters
    ----------
    pieces : iterable of np.ndarray, shape (n,), float32
        Consecutive pieces of the signal at ``settings.sr``.
    settings : Settings
        How the picture is made.

    Returns
    -------
    values, silent : np.ndarray, bool
        As `compute`.

    Raises
    ------
    AudioError
        As `compute`.
    """
    peak = 0.0

    def measure(pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        nonlocal peak
        for y in pieces:
            peak = max(peak, audio.peak(y))
            yield y

    if settings.kind == "features":
        y = np.concatenate(list(measure(pieces)))
        return feature_picture.feature_values(y, settings), peak <= audio.SILENT_PEAK
    S, _ = spectrogram.mel_power(measure(pieces), settings)
    silent = peak <= audio.SILENT_PEAK or bool(S.max() <= spectrogram.AMIN)
    return spectrogram.power_to_db(S, ref=settings.ref, top_db=settings.top_db, overwrite=True), silent


@np.errstate(all="ignore")  # values that are not finite are reported as a failure of the track
def draw(
    track: Track,
    out: str | Path,
    settings: Settings,
    cmap: str,
    colours: np.ndarray,
    force: bool = False,
    segments: Segments | None = None,
) -> Result:
    """Draw one track, unless its picture exists and was drawn from the same content with the same settings.

    Parameters
    ----------
    track : Track
        The audio file.
    out : str or Path
        Pictures folder.
    settings : Settings
        How the picture is made.
    cmap, colours : str, np.ndarray
        The name of a colormap and its `png.palette`.
    force : bool
        Draw in any case, and replace a picture that melvision did not write.
    segments : Segments, optional
        Draw a picture of each segment instead of one of the track.

    Returns
    -------
    result : Result
        Whatever is wrong with this one track is a ``"failed"`` result and not an exception.
    """
    target = picture_path(track, out, 0 if segments else None)
    kept = ""
    try:
        before = [] if force else _read_pictures(track, out, segments)
        kept = " (its earlier picture is kept)" if before else ""
        status = track.path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise audio.AudioError("is not a file but a pipe, folder or device")  # reading a pipe may never end
        source = {"name": track.path.name, "size": status.st_size, "hash": audio.content_hash(track.path)}
        times = (status.st_atime_ns, status.st_mtime_ns)
        if _is_fresh(before, source, settings, cmap, segments):
            for number in range(len(before)):
                os.utime(picture_path(track, out, number if segments else None), ns=times)
            return Result(track, "fresh", _notes(before), len(before))
        change = draw_change(track.track_id, track.copy) if track.copy else None
        notes: list[str] = []
        drawn: list[dict[str, Any]] = []
        for number, values, silent, last in _compute_pictures(track.path, settings, change, notes, segments):
            target = picture_path(track, out, number if segments else None)
            if segments and not force:
                _read_existing(target)  # one that was not written by melvision stays
            about = png.describe(_settings_of(settings, segments, number), source, cmap)
            if segments:
                about["segment"] = _cut(settings, segments) | {"number": number, "last": last}
            about |= {"augment": change} if change else {}
            about |= {"silent": True} if silent else {}
            about |= {"notes": list(notes)} if notes else {}
            after = track.path.stat()
            if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                raise audio.AudioError("changed while it was read; run again once it is written")
            if settings.style == "figure":
                part = f", segment {number}" if segments else ""
                title = f"{track.track_id} ({track.genre}){part}" + (f", copy {track.copy}" if track.copy else "")
                figure.save(target, values, about, settings, title)
            else:
                png.write(target, values, about, colours=colours)
            os.utime(target, ns=times)
            drawn.append(about)
            kept = ""
        # Those of an earlier run with shorter segments would be taken for more of the track.
        for number in itertools.count(len(drawn)) if segments else ():
            target = picture_path(track, out, number)
            if _read_existing(target) is None:
                break
            target.unlink()
        return Result(track, "drawn", _notes(drawn), len(drawn))
    except (audio.AudioError, ValueError) as error:
        return Result(track, "failed", f"{error}{kept}")
    except MemoryError:
        return Result(track, "failed", f"needs more memory than there is; set duration to draw a part of it{kept}")
    except OSError as error:
        return Result(track, "failed", f"{error.strerror or error}: {error.filename or target}{kept}")


def _compute_pictures(
    path: Path, settings: Settings, change: dict[str, float] | None, notes: list[str], segments: Segments | None
) -> Iterator[tuple[int, np.ndarray, bool, bool]]:
    """Yield the number of each picture of a track, its values, whether it is silent, and whether it is the last."""
    if segments is None:
        yield 0, *compute(path, settings, change, notes), True
        return
    cut = segments.cut(_decode(path, settings, change, notes), settings.sr)
    y, number = next(cut), 0
    for following in itertools.chain(cut, [None]):
        yield number, *compute_pieces([y], settings), following is None
        if following is not None:
            y, number = following, number + 1


def _list_tracks(
    genres: str | Path, labels: str | Path | None, columns: LabelColumns | None, passed: PassedOver
) -> tuple[list[Track], dict[str, str], list[str]]:
    """The tracks of genre folders, or of a table of labels; the groups that it names; and notes."""
    if labels is None:
        tracks, empty, stray = find_tracks(genres, passed)
        groups, notes = {}, folder_notes(genres, empty, stray)
    else:
        labelled = read_labels(labels, genres, columns, passed)
        tracks, groups, notes = labelled.tracks, labelled.groups, labelled.notes
    tracks, formats = one_of_each_format(tracks)
    return tracks, groups, notes + passed.notes(genres) + formats


def _prepare_folders(tracks: Sequence[Track], out: str | Path, groups: Mapping[str, str]) -> list[str]:
    """Make the folders of the pictures, without what killed runs left, and write the groups; returns notes."""
    try:
        for folder in sorted({picture_path(track, out).parent for track in tracks}):
            folder.mkdir(parents=True, exist_ok=True)
            atomic.clear_leftovers(folder)
        if not groups:
            return []
        write_groups(Path(out) / GROUPS, groups)
    except OSError as error:
        raise MelvisionError(f"{out}: cannot be written ({error.strerror}); choose another folder") from None
    return [f"{Path(out) / GROUPS}: the groups of {plural(len(groups), 'track')}, for vision.split --groups"]


def draw_folder(
    genres: str | Path,
    out: str | Path,
    settings: Settings,
    *,
    cmap: str = "magma",
    jobs: int = -1,
    force: bool = False,
    augment: int = 0,
    segments: Segments | None = None,
    shard: str | None = None,
    scheduler: str | None = None,
    labels: str | Path | None = None,
    columns: LabelColumns | None = None,
) -> tuple[list[Result], list[str]]:
    """Draw every track under `genres` into `out`.

    Parameters
    ----------
    genres, out : str or Path
        Audio folder with one folder a genre; pictures folder.
    settings : Settings
        How the pictures are made.
    cmap : str
        Name of their colormap.
    jobs : int
        Number of processes; -1 is one a core.
    force : bool
        Draw everything again and replace pictures that melvision did not write.
    augment : int
        Augmented copies to draw of each track in addition.
    segments : Segments, optional
        Draw a picture of each segment of a track instead of one of the track.
    shard : str, optional
        ``"i/n"``: draw only this part of the tracks; see `workers.shard`.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers draw instead of this machine; see `workers.run`.
    labels : str or Path, optional
        A table that says of what genre each track is, in place of folders; see `labels.read_labels`. The groups that it
        names go into `GROUPS` in the pictures folder.
    columns : LabelColumns, optional
        Which of the table's columns hold what.

    Returns
    -------
    results : list of Result
        One a track of the shard, in the order of the tracks; then a failure for each folder that cannot be read.
    notes : list of str
        Genre folders without audio, audio files outside a genre, and what was passed over.

    Raises
    ------
    MelvisionError
        When a parameter is out of range, there is nothing to draw, `out` cannot be written, or the cluster does
        not answer.
    """
    colours = png.palette(cmap)
    workers.check_jobs(jobs)
    if not 0 <= augment <= 1000:
        raise ParameterError("augment", augment, "from 0 to 1000 copies a track")
    if scheduler:  # its workers have working directories of their own
        genres, out = Path(genres).absolute(), Path(out).absolute()
    passed = PassedOver()
    tracks, groups, notes = _list_tracks(genres, labels, columns, passed)
    notes += _prepare_folders(tracks, out, groups)
    # Tracks that would write the same picture may be in two shards, so find them before taking this shard's part.
    collisions = {result.track: result for result in find_collisions(tracks)}
    if shard:
        tracks = list(workers.shard(tracks, shard))
    results = {track: collisions[track] for track in tracks if track in collisions}
    to_report = [replace(track, copy=copy) for track in tracks for copy in range(augment + 1)]
    to_report = [track for track in to_report if track in results or replace(track, copy=0) not in results]
    tasks = []
    for track in to_report:
        if track in results:
            continue
        fresh = None if force else check_fresh(track, out, settings, cmap, segments)
        if fresh:
            results[track] = fresh
        else:
            tasks.append((track, out, settings, cmap, colours, force, segments))
    compiled = settings.kind == "features" or augment > 0  # by librosa
    jobs = workers.count_jobs(jobs, len(tasks))
    done = workers.run(draw, tasks, jobs, scheduler=scheduler, first_alone=compiled)
    for number, result in progress(done, total=len(tasks), desc="render", unit="track"):
        track = tasks[number][0]
        failed = isinstance(result, workers.TaskFailed)
        results[track] = Result(track, "failed", result.reason) if failed else result
    unreadable = [Result(Track("", "", path), "failed", reason) for path, reason in passed.unreadable.items()]
    return [results[track] for track in to_report] + unreadable, notes
