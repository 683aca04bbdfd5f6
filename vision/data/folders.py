"""Files to read: genre folders, folders of pictures and audio, and patterns."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from render import tracks
from render.errors import MelvisionError
from render.formats import AUDIO_ENDINGS, PICTURE_ENDINGS
from render.passed_over import PassedOver, is_system_folder


def what_instead(root: str | Path) -> str:
    """Say what to do with a folder that has no pictures in genre folders: the second half of an error message."""
    audio = any(path.suffix.lower() in AUDIO_ENDINGS for path in tracks.walk(root)) if Path(root).is_dir() else False
    if audio:
        try:
            tracks.find_tracks(root)
        except MelvisionError as error:  # render would refuse it, too: say why, and do not send anyone there
            return f"it holds audio, but not as python -m render expects it: {error}"
        return f"it holds audio. Draw pictures of it first: python -m render {root}"
    stray = _stray_pictures(root)
    if stray:
        example = Path(root) / "blues" / stray[0]
        return f"it holds {len(stray)} pictures but no genre folders; expected one folder a genre, such as {example}"
    return "expected <genre>/<track>.png"


def _stray_pictures(root: str | Path) -> list[str]:
    if not Path(root).is_dir():
        return []
    return sorted(name for name in os.listdir(root) if name.lower().endswith(PICTURE_ENDINGS) and name[0] != ".")


ENDINGS = frozenset(PICTURE_ENDINGS + AUDIO_ENDINGS)


def walk(folder: str | Path, passed: PassedOver | None = None) -> Iterator[Path]:
    """Yield pictures and audio under a folder, in a stable order; hidden and other files are passed over.

    Parameters
    ----------
    folder : str or Path
        Where to start.
    passed : PassedOver, optional
        Takes what `render.tracks.walk` passed over.
    """
    passed = PassedOver() if passed is None else passed
    return passed.keep(tracks.walk(folder, passed=passed), ENDINGS)


def find_files(paths: Iterable[str | Path], passed: PassedOver | None = None) -> list[Path]:
    """List the pictures and audio files among files, folders and patterns.

    Parameters
    ----------
    paths : iterable of str or Path
        Files are taken whatever their ending; folders are searched to the bottom, and hidden and other
        files in them passed over. What does not exist and holds ``*``, ``?`` or ``[`` is a pattern, as of
        `glob`, where ``**`` stands for folders at any depth: Windows' shell leaves patterns to programs.
    passed : PassedOver, optional
        Takes what was passed over in folders, and what could not be read.

    Returns
    -------
    files : list of Path
        In the order of `paths`, without repetitions.

    Raises
    ------
    MelvisionError
        When a path is missing, or a folder or pattern gives nothing to predict on.
    """
    passed = PassedOver() if passed is None else passed
    files: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            matches = list(walk(path, passed))
            if not matches:
                why = "; ".join([*passed.failures(), *passed.notes(path)])
                raise MelvisionError(f"{path}: no picture and no audio in it" + (f"; {why}" if why else ""))
        elif os.path.lexists(path):
            matches = [path]
        elif glob.has_magic(str(path)):
            matches = _match(str(path), passed)
        else:
            raise MelvisionError(f"{path}: there is no such file or folder")
        files |= dict.fromkeys(matches)
    return list(files)


def _match(pattern: str, passed: PassedOver) -> list[Path]:
    literal = sum(is_system_folder(part) for part in Path(pattern).parts)
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    # A folder of a system that the pattern itself names is meant.
    kept = [match for match in matches if sum(map(is_system_folder, match.parts)) <= literal]
    outside = {part for match in set(matches) - set(kept) for part in match.parts if is_system_folder(part)}
    passed.system.update(outside)
    matches = kept
    files: list[Path] = []
    for path in matches:
        if path.is_dir():
            # With ** every folder below is a match of its own.
            files += walk(path, passed) if "**" not in pattern else []
        elif path.suffix.lower() in ENDINGS:
            files.append(path)
    if not files:
        others = f"; of what it matches ({len(matches)}), nothing is a picture or audio" if matches else ""
        raise MelvisionError(f"{pattern}: no file matches this pattern{others}")
    return files
