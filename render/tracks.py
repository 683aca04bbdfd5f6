"""The tracks of a music folder: one folder a genre, audio files at any depth below it."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from render.errors import MelvisionError
from render.formats import AUDIO_ENDINGS, PICTURE_ENDINGS
from render.levels import wrong_level
from render.passed_over import PassedOver, is_cover, is_cover_folder, is_system_file, is_system_folder

DEAD_LINK = "is a link to what is not there"

#: The end of a name that is hardly a folder's.
_FILE = re.compile(r"\.[a-z][a-z0-9]{1,4}$", re.I)


@dataclass(frozen=True)
class Track:
    """One audio file of one genre.

    Attributes
    ----------
    genre : str
        Name of the folder under the root.
    track_id : str
        File name without its audio ending, such as ``blues.00000``.
    path : Path
        The file.
    copy : int
        0 for the track itself, else the number of an augmented copy.
    folder : str
        Folders between the genre's and the file, with forward slashes: ``Artist/Album``; empty where there are none.
    """

    genre: str
    track_id: str
    path: Path
    copy: int = 0
    folder: str = ""


def _is_media(name: str) -> bool:
    return name.lower().endswith(AUDIO_ENDINGS + PICTURE_ENDINGS)


def _is_dead_link(path: str) -> bool:
    """Whether a link leads nowhere and may be one to a folder; a dead link to a file is reported where it is read."""
    if _FILE.search(path) or not os.path.islink(path):
        return False
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:  # a link to itself, as walks that end take it
        pass
    return False


def _wanted(names: Iterable[str], is_system: Callable[[str], bool], passed: PassedOver) -> list[str]:
    """Sort names, without hidden ones and those of systems, which are counted."""
    names = sorted(names)
    passed.system.update(filter(is_system, names))
    return [name for name in names if not name.startswith(".") and not is_system(name)]


def _is_system_media(name: str) -> bool:
    return _is_media(name) and is_system_file(name)


def list_root(root: str | Path, passed: PassedOver | None = None) -> tuple[list[Path], list[Path]]:
    """Return the folders and the files in the folder of genres, sorted; hidden ones and those of systems are none.

    Parameters
    ----------
    root : str or Path
        The folder of genres.
    passed : PassedOver, optional
        Takes what was passed over.
    """
    passed = PassedOver() if passed is None else passed
    is_folder = {name: os.path.isdir(os.path.join(root, name)) for name in os.listdir(root)}
    folders = _wanted((name for name, folder in is_folder.items() if folder), is_system_folder, passed)
    files = _wanted((name for name, folder in is_folder.items() if not folder), _is_system_media, passed)
    passed.unreadable |= {Path(root, name): DEAD_LINK for name in files if _is_dead_link(os.path.join(root, name))}
    return [Path(root, name) for name in folders], [Path(root, name) for name in files]


def walk(folder: str | Path, above: Iterable[str | Path] = (), passed: PassedOver | None = None) -> Iterator[Path]:
    """Yield every file under `folder`, in a stable order, except hidden files and links that lead in circles.

    Folders of systems and tools are not entered, and cover art in folders that hold music is left out.

    Parameters
    ----------
    folder : str or Path
        Where to start.
    above : iterable of Path
        Folders above it, which a link must not lead back to either.
    passed : PassedOver, optional
        Takes what was passed over, and what could not be read.
    """
    passed = PassedOver() if passed is None else passed
    seen = {(status.st_dev, status.st_ino) for status in map(os.stat, above)}
    listing: list[tuple[str, list[str]]] = []

    def note_error(error: OSError) -> None:
        passed.unreadable[Path(error.filename)] = f"cannot be read ({error.strerror})"

    for here, folders, names in os.walk(folder, followlinks=True, onerror=note_error):
        try:
            status = os.stat(here)
        except OSError as error:
            note_error(error)
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = _wanted(folders, is_system_folder, passed)
        listing.append((here, _wanted(names, _is_system_media, passed)))
    # Whether a folder holds music, also in folders below it, is known only at the end.
    music = {here for here, names in listing if any(name.lower().endswith(AUDIO_ENDINGS) for name in names)}
    around = {str(path) for here in music for path in (Path(here), *Path(here).parents)}
    for here, names in listing:
        top, scans = Path(here), is_cover_folder(Path(here).name) and here != str(folder)
        may_have_covers = here in around or (scans and str(top.parent) in around)
        only_covers = scans and here not in around and str(top.parent) in music
        tracks = {PurePath(name).stem for name in names if name.lower().endswith(AUDIO_ENDINGS)}
        for name in names:
            path = top / name
            if may_have_covers and path.stem not in tracks and path.suffix.lower() in PICTURE_ENDINGS:
                if only_covers or is_cover(path):
                    passed.covers += 1
                    continue
            elif _is_dead_link(str(path)):
                passed.unreadable[path] = DEAD_LINK
            yield path


def find_tracks(root: str | Path, passed: PassedOver | None = None) -> tuple[list[Track], list[str], list[Path]]:
    """Find every audio file under the genre folders of `root`.

    Parameters
    ----------
    root : str or Path
        Holds one folder a genre; folders below a genre are searched too.
    passed : PassedOver, optional
        Takes what was passed over, and what could not be read.

    Returns
    -------
    tracks : list of Track
        Sorted by genre and path.
    empty : list of str
        Genre folders that hold no audio file.
    stray : list of Path
        Audio files in `root` itself, outside any genre.

    Raises
    ------
    MelvisionError
        When `root` is missing, is not a folder, holds no track, or is not the folder of genres but one above it;
        the message says what it holds instead.
    """
    root = Path(root)
    if not root.is_dir():
        problem = "is a file" if root.exists() else "no such folder"
        if root.suffix.lower() in PICTURE_ENDINGS:
            problem += " (a picture; python -m vision.predict reads those)"
        raise MelvisionError(f"{root}: {problem}; expected a folder of genre folders, genres/<genre>/<track>.wav")
    passed = PassedOver() if passed is None else passed
    tracks, empty, pictures = [], [], 0
    folders, files = list_root(root, passed)
    stray = [path for path in files if path.suffix.lower() in AUDIO_ENDINGS]
    for folder in folders:
        unreadable = len(passed.unreadable)
        files = list(walk(folder, above=[root], passed=passed))
        tracks_here = [
            Track(folder.name, path.stem, path, folder=path.parent.relative_to(folder).as_posix().removeprefix("."))
            for path in passed.keep(files, AUDIO_ENDINGS)
        ]
        pictures += sum(path.suffix.lower() in PICTURE_ENDINGS for path in files)
        tracks += tracks_here
        if not tracks_here and len(passed.unreadable) == unreadable:
            empty.append(folder.name)
    if not tracks:
        if passed.unreadable:
            raise MelvisionError(f"{root}: no audio file was found; {passed.failures()[0]}")
        if pictures:
            raise MelvisionError(
                f"{root}: holds {pictures} pictures and no audio. "
                f"To train on these pictures: python -m vision.split {root}, then python -m vision.train"
            )
        if stray:
            raise MelvisionError(
                f"{root}: holds {len(stray)} audio files but no genre folders; "
                f"expected one folder a genre, such as {root / 'blues' / stray[0].name}"
            )
        raise MelvisionError(
            f"{root}: holds no audio file; expected genres/<genre>/<track>.wav (or .au, .flac, .mp3 ...)"
        )
    files_of: dict[str, list[Path]] = {}
    for track in tracks:
        files_of.setdefault(track.genre, []).append(track.path)
    if level := wrong_level(root, files_of, "python -m render"):
        raise MelvisionError(f"{root}: {level}")
    return tracks, empty, stray


def folder_notes(root: str | Path, empty: list[str], stray: list[Path]) -> list[str]:
    """Return a line for each genre folder and file that `find_tracks` skipped.

    Parameters
    ----------
    root : str or Path
        The folder that was searched.
    empty, stray : list of str, list of Path
        As `find_tracks` returned them.
    """
    notes = [f"{Path(root) / genre}: no audio file in this genre folder" for genre in empty]
    return notes + [f"{path}: lies outside a genre folder; skipped" for path in stray]
