"""Put a music library in order by predicted genres: genre folders, playlists, tags. All of it can be taken back.

Nothing is overwritten. Each step is written into a log before it is done, so that a log tells how to undo whatever a
full disk or a kill has interrupted; the same command goes on where it stopped.
"""

import hashlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from render import atomic
from render.errors import MelvisionError
from render.labels import folder_name
from vision.inference.predictor import Prediction

#: How files get into genre folders.
WAYS = ("copy", "link", "move")

#: The folder and playlist of files that the model is unsure of.
UNSURE = "unsure"


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes
    ----------
    action : str
        One of `WAYS`, ``"tag"`` or ``"playlist"``.
    file : str
        The file that it is about; of a playlist its own.
    target : str
        Where a file goes; empty for tags and playlists.
    genre : str
        The genre that is predicted, or `UNSURE`.
    text : str
        What a playlist holds.
    """

    action: str
    file: str
    target: str = ""
    genre: str = ""
    text: str = ""

    def __str__(self) -> str:
        where = f" -> {self.target}" if self.target else f": genre {self.genre}" if self.action == "tag" else ""
        return f"{self.action} {self.file}{where}"


def genre_of(prediction: Prediction, min_probability: float = 0.0) -> str:
    """Return the genre that a file is put under; `UNSURE` where the model is, or below a probability."""
    is_sure = not prediction.unsure and (prediction.probability or 0) >= min_probability
    return prediction.genre or UNSURE if is_sure else UNSURE


def plan(
    predictions: Sequence[Prediction],
    *,
    sort_into: str | Path | None = None,
    way: str = "copy",
    playlists: str | Path | None = None,
    tags: bool = False,
    min_probability: float = 0.0,
) -> list[Step]:
    """Decide what to do, without doing it.

    Parameters
    ----------
    predictions : list of Prediction
        Of files, without errors.
    sort_into : str or Path, optional
        The folder that gets a folder for each genre.
    way : str
        One of `WAYS`.
    playlists : str or Path, optional
        The folder that gets a playlist of each genre.
    tags : bool
        Write genres into the files; not where the model is unsure.
    min_probability : float
        Below it the model counts as unsure.

    Returns
    -------
    steps : list of Step
        Tags first, which then go along with the files. What is done already is not among them.
    """
    genres = [(Path(str(one.path)).absolute(), genre_of(one, min_probability)) for one in predictions]
    steps = [Step("tag", str(path), genre=genre) for path, genre in genres if tags and genre != UNSURE]
    places = {path: path for path, _ in genres}
    if sort_into is not None:
        taken: set[Path] = set()
        for path, genre in genres:
            folder = Path(sort_into).absolute() / folder_name(genre)
            target = _free(folder / path.name, path, taken)
            taken.add(target)
            places[path] = target
            if target != path and not _is_there(path, target, way):
                steps.append(Step(way, str(path), str(target), genre))
    if playlists is not None:
        of_genre: dict[str, list[Path]] = defaultdict(list)
        for path, genre in genres:
            of_genre[genre].append(places[path])
        for genre, paths in sorted(of_genre.items()):
            file = Path(playlists).absolute() / f"{folder_name(genre)}.m3u8"
            lines = ["#EXTM3U", f"#PLAYLIST:{genre}", *(_relative(path, file.parent) for path in sorted(paths))]
            text = "\n".join(lines) + "\n"
            if not file.is_file() or file.read_text("utf-8", "surrogateescape") != text:
                steps.append(Step("playlist", str(file), genre=genre, text=text))
    return steps


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another drive of Windows
        return str(path)


def _free(target: Path, source: Path, taken: set[Path]) -> Path:
    """The first of ``name``, ``name (2)`` and so on that is free, or holds this very file."""
    number, place = 1, target
    while place in taken or (os.path.lexists(place) and place != source and not _same(source, place)):
        number += 1
        place = target.with_name(f"{target.stem} ({number}){target.suffix}")
    return place


def _is_there(source: Path, target: Path, way: str) -> bool:
    """Whether a file is where it should go already; one that is to be moved is not while it is here, too."""
    return way != "move" and os.path.lexists(target) and _same(source, target)


def _same(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes."""
    try:
        return os.path.samefile(one, other) or (
            one.stat().st_size == other.stat().st_size and _hash(one) == _hash(other)
        )
    except OSError:
        return False


def _hash(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def apply(steps: Iterable[Step], log: str | Path) -> Iterator[tuple[Step, str]]:
    """Do steps, one after the other; one that fails costs itself only.

    Parameters
    ----------
    steps : iterable of Step
        From `plan`.
    log : str or Path
        File that each step is added to before it is done.

    Yields
    ------
    step : Step
    problem : str
        Why it was not done; empty where it was.
    """
    Path(log).absolute().parent.mkdir(parents=True, exist_ok=True)
    _drop_unfinished_line(Path(log))
    with open(log, "a", encoding="utf-8", errors="surrogateescape") as file:
        for step in steps:
            yield step, _problem_of(step, partial(_do, step, file))


def _problem_of(step: Step, act: Callable[[], None]) -> str:
    """Do or take back a step; returns why that could not be, empty where it could."""
    try:
        act()
    except MelvisionError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or step.file}: {error.strerror or error}"
    return ""


def _drop_unfinished_line(log: Path) -> None:
    """Cut off what a kill left of a line: its step was not done, and the next one must not be written behind it."""
    if log.is_file() and (text := log.read_bytes()) and not text.endswith(b"\n"):
        os.truncate(log, text.rfind(b"\n") + 1)


def _do(step: Step, log: TextIO) -> None:
    if step.action == "tag":
        before = read_tag(step.file)
        if before != [step.genre]:
            _write_log(log, step, before=before)
            write_tag(step.file, [step.genre])
        return
    if step.action == "playlist":
        path = Path(step.file)
        text = path.read_text("utf-8", "surrogateescape") if path.is_file() else None
        _write_log(log, step, before=text, made=_missing_folders(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, step.text)
        return
    source, target = Path(step.file), Path(step.target)
    if os.path.lexists(target):
        if step.action != "move" or not _same(source, target):
            raise MelvisionError(f"{target}: is there already; nothing is overwritten")
    else:
        _write_log(log, step, made=_missing_folders(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        _put(source, target, by_link=step.action != "copy")
    if step.action == "move":
        source.unlink()


def _missing_folders(path: Path) -> list[str]:
    """The folders above a file that are not there yet, the innermost first."""
    return [str(folder) for folder in path.parents if not os.path.lexists(folder)]


def _put(source: Path, target: Path, by_link: bool) -> None:
    """Make a file appear at another place, whole or not at all, where nothing is yet."""
    if by_link:
        with suppress(OSError):  # another device, or a system without links
            os.link(source, target)
            return
    part = target.with_name(f"{atomic.PREFIX}{os.getpid()}.part")
    try:
        with open(source, "rb") as content, open(part, "wb") as copy:
            shutil.copyfileobj(content, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        shutil.copystat(source, part)
        if os.path.lexists(target):
            raise MelvisionError(f"{target}: is there already; nothing is overwritten")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _write_log(log: TextIO, step: Step, **more: Any) -> None:
    log.write(json.dumps(asdict(replace(step, text="")) | more) + "\n")
    log.flush()
    os.fsync(log.fileno())


def undo(log: str | Path) -> Iterator[tuple[Step, str]]:
    """Take back what `apply` has done, the last step first; what was changed since stays, and is said.

    Parameters
    ----------
    log : str or Path
        Its log.

    Yields
    ------
    step, problem
        As of `apply`.

    Raises
    ------
    MelvisionError
        When the log cannot be read.
    """
    try:
        lines = Path(log).read_text("utf-8", "surrogateescape").splitlines()
    except OSError as error:
        raise MelvisionError(f"{log}: cannot be read ({error.strerror}); expected a log of vision.organise") from None
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            step = Step(**{name: str(entry[name]) for name in ("action", "file", "target", "genre")})
            if step.action not in (*WAYS, "tag", "playlist") or not isinstance(entry.get("made", []), list):
                raise ValueError(step.action)
            entry["made"] = [str(folder) for folder in entry.get("made", [])]
            entries.append((step, entry))
        except (ValueError, KeyError, TypeError):
            if number == len(lines):  # a kill while it was written: its step was not done
                continue
            raise MelvisionError(f"{log}, line {number}: is no step; expected a log of vision.organise") from None
    for step, entry in reversed(entries):
        yield step, _problem_of(step, partial(_take_back, step, entry))


def _take_back(step: Step, entry: dict[str, Any]) -> None:
    file, target = Path(step.file), Path(step.target)
    if step.action == "tag":
        if file.is_file() and read_tag(step.file) == [step.genre]:
            write_tag(step.file, [str(value) for value in entry.get("before") or []])
        elif file.is_file() and read_tag(step.file) != (entry.get("before") or []):
            raise MelvisionError(f"{file}: its genre was changed since; left as it is")
    elif step.action == "playlist":
        if entry.get("before") is not None:
            atomic.write_text(file, str(entry["before"]))
        else:
            file.unlink(missing_ok=True)
    elif os.path.lexists(target):
        if step.action == "move" and not os.path.lexists(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            _put(target, file, by_link=True)
        elif not _same(file, target):
            raise MelvisionError(f"{target}: is not the same as {file} any more; left as it is")
        target.unlink()
    for folder in entry["made"]:
        with suppress(OSError):  # holds other files
            os.rmdir(folder)


def _open_tags(path: str | Path) -> Any:
    try:
        import mutagen
    except ImportError:
        raise MelvisionError('tags need mutagen: pip install -e ".[library]"') from None
    try:
        tags = mutagen.File(path, easy=True)
    except Exception as error:  # mutagen's parsers raise many kinds on damaged files
        raise MelvisionError(f"{path}: its tags cannot be read ({str(error).splitlines()[0] or type(error)})") from None
    if tags is None or not hasattr(tags, "save"):
        raise MelvisionError(f"{path}: is of a format without tags that can be written")
    return tags


def _id3_of(tags: Any) -> Any:
    """The ID3 tags of WAV and AIFF, which mutagen does not make easy; None of others."""
    return tags.tags if type(tags.tags).__name__ in ("ID3", "_WaveID3", "_IFFID3") else None


def _key_of(tags: Any) -> str:
    return "WM/Genre" if type(tags).__name__ == "ASF" else "genre"


def read_tag(path: str | Path) -> list[str]:
    """Return the genres in a file's tags."""
    tags = _open_tags(path)
    if tags.tags is None:
        return []
    if (id3 := _id3_of(tags)) is not None:
        return [genre for frame in id3.getall("TCON") for genre in frame.genres]
    return [str(value) for value in tags.get(_key_of(tags)) or []]


def _set_genres(tags: Any, genres: Sequence[str]) -> None:
    if tags.tags is None:
        tags.add_tags()
    if (id3 := _id3_of(tags)) is not None:
        from mutagen.id3 import TCON

        id3.delall("TCON")
        if genres:
            id3.add(TCON(encoding=3, text=list(genres)))
    elif genres:
        tags[_key_of(tags)] = list(genres)
    elif _key_of(tags) in tags:
        del tags[_key_of(tags)]


def write_tag(path: str | Path, genres: Sequence[str]) -> None:
    """Write genres into a file's tags, in a copy that then replaces it; without genres the tag goes.

    Raises
    ------
    MelvisionError
        When the file is read-only, or of a format without such tags.
    """
    path = Path(path)
    if not os.access(path, os.W_OK):
        raise MelvisionError(f"{path}: is read-only; left as it is")
    part = path.with_name(f"{atomic.PREFIX}{os.getpid()}{path.suffix}")
    try:
        shutil.copy2(path, part)
        tags = _open_tags(part)
        try:
            _set_genres(tags, genres)
            tags.save()
        except Exception as error:  # as above
            raise MelvisionError(f"{path}: its tags cannot be written ({error or type(error).__name__})") from None
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
