"""All tracks of a folder to pictures: in parallel, resumable, with every failure listed."""

import dataclasses
import os
import stat
import unicodedata
from collections import defaultdict
from pathlib import Path

import numpy as np

from render import atomic, audio, augment, figure, png, spectrogram, stack, workers
from render.cli import progress
from render.errors import MelvisionError
from render.tracks import Track, find_tracks, folder_notes


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of one track.

    Attributes
    ----------
    track : Track
        The track.
    status : str
        ``"drawn"``, ``"fresh"`` (nothing to do) or ``"failed"``.
    message : str
        Why it failed, or what is odd about it; empty when all is well.
    """

    track: Track
    status: str
    message: str = ""

    def __str__(self) -> str:
        copy = f" (copy {self.track.copy})" if self.track.copy else ""
        return f"{self.track.path}{copy}: {self.message}"


def picture_path(track, out):
    """Where the picture of `track` goes under `out`; copies are named ``<track_id>+aug1.png`` and so on."""
    copy = f"+aug{track.copy}" if track.copy else ""
    return Path(out) / track.genre / f"{track.track_id}{copy}.png"


def find_collisions(tracks):
    """Failures for the tracks that would write one and the same picture.

    Names that differ in case or Unicode form only collide too: on macOS and Windows they are one.

    Returns
    -------
    results : list of Result
        One for each such track; none of them is drawn, so that neither is silently lost.
    """
    by_target = defaultdict(list)
    for track in tracks:
        name = unicodedata.normalize("NFC", f"{track.genre}/{track.track_id}").casefold()
        by_target[name].append(track)
    results = []
    for rivals in by_target.values():
        for track in rivals if len(rivals) > 1 else []:
            others = ", ".join(str(rival.path) for rival in rivals if rival is not track)
            picture = f"{track.genre}/{track.track_id}.png"
            message = f"would write {picture}, and so would {others}; rename or remove one (neither was drawn)"
            results.append(Result(track, "failed", message))
    return results


def _look(target):
    """What the picture at `target` says of itself; None where there is no file.

    Raises AudioError where a file stands that is not ours.
    """
    if not target.exists():
        return None
    try:
        with png.open_picture(target) as image:
            about = png.read_about(image)
    except png.PictureError:
        about = None
    if about is None:
        raise audio.AudioError(f"{target} was not written by melvision and is left alone; --force replaces it")
    return about


def _same_settings(about, settings, cmap):
    return about.get("cmap") == cmap and all(about.get(name) == value for name, value in settings.to_dict().items())


def _silence(about):
    return "is silent: drawn at the lowest level throughout" if about.get("silent") else ""


def check_fresh(track, out, settings, cmap):
    """Tell whether a track's picture is there and up to date, without reading the audio.

    A picture carries the modification time of its source, so equal settings, size and time mean
    that there is nothing to do. `draw` compares contents where only the time differs.

    Returns
    -------
    result : Result or None
        ``"fresh"``, or ``"failed"`` where a picture stands that is not ours; None when there is work.
    """
    target = picture_path(track, out)
    try:
        about = _look(target)
        if about is None or not _same_settings(about, settings, cmap):
            return None
        status = track.path.stat()
        same = about["source"] == about["source"] | {"name": track.path.name, "size": status.st_size}
        if same and target.stat().st_mtime_ns == status.st_mtime_ns:
            return Result(track, "fresh", _silence(about))
    except audio.AudioError as error:
        return Result(track, "failed", str(error))
    except OSError:
        pass  # vanished or unreadable: drawing it will say so
    return None


def compute(path, settings, change=None):
    """Decode one file and compute what its picture shows.

    Mel pictures are computed piece by piece; features and changed audio need the whole track in memory.

    Parameters
    ----------
    path : Path
        Audio.
    settings : Settings
        How.
    change : dict, optional
        From `augment.draw_change`.

    Returns
    -------
    values : np.ndarray, shape (n_rows, n_frames), float32
        Row 0 is the lowest.
    silent : bool
        Whether there is nothing to hear.

    Raises
    ------
    audio.AudioError, ValueError
        When it cannot be decoded or holds nothing to draw; the message says why, without the path.
    """
    pieces = audio.decode(path, sr=settings.sr, offset=settings.offset, duration=settings.duration)
    if change:
        y = np.concatenate(list(pieces))
        pieces = [augment.change_audio(y, sr=settings.sr, **change)]
    return compute_pieces(pieces, settings)


def compute_pieces(pieces, settings):
    """Compute what a picture shows of audio that is decoded already.

    `pieces` are consecutive pieces (n,) of the signal at ``settings.sr``, float32; for the rest see `compute`.
    """
    if settings.kind == "features":
        y = np.concatenate(list(pieces))
        return stack.feature_stack(y, settings), not y.any()
    S, _ = spectrogram.mel_power(pieces, settings)
    silent = S.max() <= spectrogram.AMIN
    return spectrogram.power_to_db(S, ref=settings.ref, top_db=settings.top_db, overwrite=True), silent


@np.errstate(all="ignore")  # what is not finite is refused with a line of its own
def draw(track, out, settings, cmap, colours, force=False):
    """Draw one track, unless its content and settings are those of the picture that is there.

    Parameters
    ----------
    track : Track
        What to draw.
    out : str or Path
        Pictures folder.
    settings : spectrogram.Settings
        How.
    cmap, colours : str, np.ndarray
        A colormap's name and its `png.palette`.
    force : bool
        Draw in any case, and replace a picture that melvision did not write.

    Returns
    -------
    result : Result
        ``"failed"`` rather than an exception for whatever is wrong with this one track.
    """
    target = picture_path(track, out)
    kept = ""
    try:
        before = None if force else _look(target)
        kept = " (its earlier picture is kept)" if before else ""
        status = track.path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise audio.AudioError("is no file but a pipe, folder or device")  # reading a pipe may never end
        source = {"name": track.path.name, "size": status.st_size, "hash": audio.content_hash(track.path)}
        times = (status.st_atime_ns, status.st_mtime_ns)
        if before and before["source"] == source and _same_settings(before, settings, cmap):
            os.utime(target, ns=times)
            return Result(track, "fresh", _silence(before))
        about = png.describe(settings, source, cmap)
        if track.copy:
            about["augment"] = augment.draw_change(track.track_id, track.copy)
        values, silent = compute(track.path, settings, about.get("augment"))
        if silent:
            about["silent"] = True
        after = track.path.stat()
        if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
            raise audio.AudioError("changed while it was read; run again once it is written")
        if settings.style == "figure":
            title = f"{track.track_id} ({track.genre})" + (f", copy {track.copy}" if track.copy else "")
            figure.save(target, values, about, settings, title)
        else:
            png.write(target, values, about, colours=colours)
        os.utime(target, ns=times)
        return Result(track, "drawn", _silence(about))
    except (audio.AudioError, ValueError) as error:
        return Result(track, "failed", f"{error}{kept}")
    except MemoryError:
        return Result(track, "failed", f"needs more memory than there is; draw a part of it with --duration{kept}")
    except OSError as error:
        return Result(track, "failed", f"{error.strerror or error}: {error.filename or target}{kept}")


def draw_folder(genres, out, settings, *, cmap="magma", jobs=-1, force=False, copies=0, shard=None, scheduler=None):
    """Draw every track under `genres` into `out`.

    Parameters
    ----------
    genres, out : str or Path
        Audio folder with one folder a genre; pictures folder.
    settings : spectrogram.Settings
        How.
    cmap : str
        Colormap of the pictures.
    jobs : int
        Processes; -1 is one a core.
    force : bool
        Draw everything anew and replace pictures that melvision did not write.
    copies : int
        Augmented copies to draw of each track besides.
    shard : str, optional
        ``"i/n"``: draw only this part of the tracks, as `workers.shard` chooses it.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers draw in place of this machine; see `workers.run`.

    Returns
    -------
    results : list of Result
        One a track of the shard, in the order of the tracks.
    notes : list of str
        What was passed over: empty genre folders, audio outside a genre.

    Raises
    ------
    MelvisionError
        When there is nothing to draw, `out` cannot be written, or the cluster does not answer.
    """
    try:
        colours = png.palette(cmap)
    except ValueError as error:
        raise MelvisionError(error) from None
    if scheduler:  # its workers have working directories of their own
        genres, out = Path(genres).absolute(), Path(out).absolute()
    tracks, empty, stray = find_tracks(genres)
    notes = folder_notes(genres, empty, stray)
    try:
        for genre in sorted({track.genre for track in tracks}):
            (Path(out) / genre).mkdir(parents=True, exist_ok=True)
            atomic.clear_leftovers(Path(out) / genre)
    except OSError as error:
        raise MelvisionError(f"{out}: cannot be written ({error.strerror}); choose another folder with -o") from None
    # Rivals of one picture may lie in two shards, so these are looked for before the tracks are shared out.
    collisions = {result.track: result for result in find_collisions(tracks)}
    if shard:
        tracks = workers.shard(tracks, shard)
    results = {track: collisions[track] for track in tracks if track in collisions}
    wanted = [dataclasses.replace(track, copy=copy) for track in tracks for copy in range(copies + 1)]
    wanted = [track for track in wanted if track in results or dataclasses.replace(track, copy=0) not in results]
    tasks = []
    for track in wanted:
        if track in results:
            continue
        fresh = None if force else check_fresh(track, out, settings, cmap)
        if fresh:
            results[track] = fresh
        else:
            tasks.append((track, out, settings, cmap, colours, force))
    done = workers.run(draw, tasks, workers.count_jobs(jobs, len(tasks)), scheduler=scheduler)
    for number, result in progress(done, total=len(tasks), desc="render", unit="track"):
        track = tasks[number][0]
        lost = isinstance(result, workers.Lost)
        results[track] = Result(track, "failed", result.reason) if lost else result
    return [results[track] for track in wanted], notes
