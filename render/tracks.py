"""Find the tracks of a music folder: one folder a genre, audio files at any depth below it."""

import os
from dataclasses import dataclass
from pathlib import Path

from render.audio import AUDIO_ENDINGS
from render.errors import MelvisionError

PICTURE_ENDINGS = frozenset(".png .jpg .jpeg .bmp .webp .gif .tif .tiff".split())


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
        Where it lies.
    copy : int
        0 for the track itself, else the number of an augmented copy.
    """

    genre: str
    track_id: str
    path: Path
    copy: int = 0


def walk(folder, above=()):
    """Yield every file under `folder`, in a stable order, without hidden ones and links that lead back.

    Parameters
    ----------
    folder : str or Path
        Where to begin.
    above : iterable of Path
        Folders that a link must not lead back to either.
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


def find_tracks(root):
    """Every audio file under the genre folders of `root`.

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
        Audio files that lie in `root` itself, outside any genre.

    Raises
    ------
    MelvisionError
        When `root` is missing, no folder, or holds no track; the message says what was found.
    """
    root = Path(root)
    if not root.is_dir():
        found = "it is a file" if root.exists() else "there is no such folder"
        if root.suffix.lower() in PICTURE_ENDINGS:
            found += " (a picture; vision.predict takes those)"
        raise MelvisionError(f"{root}: {found}; expected a folder of genre folders, genres/<genre>/<track>.wav")
    tracks, empty, stray, pictures = [], [], [], 0
    for entry in sorted(root.iterdir()):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            if entry.suffix.lower() in AUDIO_ENDINGS:
                stray.append(entry)
            continue
        files = list(walk(entry, above=[root]))
        found = [Track(entry.name, path.stem, path) for path in files if path.suffix.lower() in AUDIO_ENDINGS]
        pictures += sum(path.suffix.lower() in PICTURE_ENDINGS for path in files)
        tracks += found
        if not found:
            empty.append(entry.name)
    if not tracks:
        if pictures:
            raise MelvisionError(
                f"{root}: holds {pictures} pictures and no audio; render draws pictures from audio. "
                f"To train on these pictures: python -m vision.split {root}, then python -m vision.train"
            )
        if stray:
            raise MelvisionError(
                f"{root}: {len(stray)} audio files lie in it, but no genre folders; "
                f"expected one folder a genre, such as {root / 'blues' / stray[0].name}"
            )
        raise MelvisionError(
            f"{root}: no audio file in it; expected genres/<genre>/<track>.wav (or .au, .flac, .mp3 ...)"
        )
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
