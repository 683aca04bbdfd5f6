"""The tracks of a music folder: one folder a genre, audio files at any depth below it."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from render.errors import MelvisionError
from render.formats import AUDIO_ENDINGS, PICTURE_ENDINGS
from render.levels import wrong_level


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
    """

    genre: str
    track_id: str
    path: Path
    copy: int = 0


def walk(folder: str | Path, above: Iterable[str | Path] = ()) -> Iterator[Path]:
    """Yield every file under `folder`, in a stable order, except hidden files and links that lead in circles.

    Parameters
    ----------
    folder : str or Path
        Where to start.
    above : iterable of Path
        Folders above it, which a link must not lead back to either.
    """
    seen = {(status.st_dev, status.st_ino) for status in map(os.stat, above)}
    for here, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(here, name) for name in sorted(names) if not name.startswith("."))


def find_tracks(root: str | Path) -> tuple[list[Track], list[str], list[Path]]:
    """Find every audio file under the genre folders of `root`.

    Parameters
    ----------
    root : str or Path
        Holds one folder a genre; folders below a genre are searched too.

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
    tracks, empty, stray, pictures = [], [], [], 0
    for entry in sorted(root.iterdir()):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            if entry.suffix.lower() in AUDIO_ENDINGS:
                stray.append(entry)
            continue
        files = list(walk(entry, above=[root]))
        tracks_here = [Track(entry.name, path.stem, path) for path in files if path.suffix.lower() in AUDIO_ENDINGS]
        pictures += sum(path.suffix.lower() in PICTURE_ENDINGS for path in files)
        tracks += tracks_here
        if not tracks_here:
            empty.append(entry.name)
    if not tracks:
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
