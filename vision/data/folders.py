"""Files to read: genre folders, folders of pictures and audio, and patterns."""

import glob
import os
from pathlib import Path

from render import tracks
from render.errors import MelvisionError
from render.formats import AUDIO_ENDINGS, PICTURE_ENDINGS


def what_instead(root):
    """Tell what to do with a folder that lacks pictures in genre folders, in half a sentence."""
    for _, _, names in os.walk(root):
        if any(name.lower().endswith(AUDIO_ENDINGS) for name in names):
            return f"it holds audio. Draw pictures of it first: python -m render {root}"
    return "expected <genre>/<track>.png"


ENDINGS = frozenset(PICTURE_ENDINGS + AUDIO_ENDINGS)


def walk(folder):
    """Yield pictures and audio under a folder, in a stable order; hidden and other files are passed over."""
    return (path for path in tracks.walk(folder) if path.suffix.lower() in ENDINGS)


def find_files(paths):
    """Pictures and audio among files, folders and patterns.

    Parameters
    ----------
    paths : iterable of str or Path
        Files are taken whatever their ending; folders are searched to the bottom, and hidden and other
        files in them passed over. What does not exist and holds ``*``, ``?`` or ``[`` is a pattern, as of
        `glob`, where ``**`` stands for folders at any depth: Windows' shell leaves patterns to programs.

    Returns
    -------
    files : list of Path
        In the order of `paths`; what a path or pattern finds again is there once.

    Raises
    ------
    MelvisionError
        When a path is missing, or a folder or pattern gives nothing to predict on.
    """
    files = {}
    for path in map(Path, paths):
        if path.is_dir():
            found = list(walk(path))
            if not found:
                raise MelvisionError(f"{path}: no picture and no audio in it")
        elif os.path.lexists(path):
            found = [path]
        elif glob.has_magic(str(path)):
            found = _match(str(path))
        else:
            raise MelvisionError(f"{path}: there is no such file or folder")
        files |= dict.fromkeys(found)
    return list(files)


def _match(pattern):
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    found = []
    for path in matches:
        if path.is_dir():
            # With ** every folder below is a match of its own.
            found += walk(path) if "**" not in pattern else []
        elif path.suffix.lower() in ENDINGS:
            found.append(path)
    if not found:
        others = f"; of what it matches ({len(matches)}), nothing is a picture or audio" if matches else ""
        raise MelvisionError(f"{pattern}: no file matches this pattern{others}")
    return found
