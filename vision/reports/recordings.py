"""The recordings that pictures were drawn from, for pages that play them."""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from render.errors import MelvisionError
from render.formats import AUDIO_ENDINGS
from render.tracks import walk


def find_recordings(folder: str | Path) -> dict[tuple[str, ...], Path]:
    """List the recordings under a folder, by (folder, name without ending), and by (name,) where that is one alone."""
    folder = Path(folder)
    if not folder.is_dir():
        raise MelvisionError(f"--audio {folder}: there is no such folder")
    found: dict[tuple[str, ...], Path] = {}
    for path in walk(folder):
        if path.suffix.lower() in AUDIO_ENDINGS:
            found[path.parent.name, path.stem] = path
            found[(path.stem,)] = Path() if (path.stem,) in found else path
    return {key: path for key, path in found.items() if path != Path()}


def sound_of(path: Path, recordings: Mapping[tuple[str, ...], Path]) -> Path | None:
    """Return the recording that can be played for a file: itself, or the one that a picture was drawn from."""
    if path.suffix.lower() in AUDIO_ENDINGS:
        return path
    return recordings.get((path.parent.name, path.stem)) or recordings.get((path.stem,))


def url_of(path: Path, page: Path) -> str:
    """The address of a file as a page in another folder names it."""
    try:
        return quote(Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix())
    except ValueError:  # on another drive of Windows
        return path.resolve().as_uri()
