"""Writing files so that nobody ever sees half of one."""

import contextlib
import os
import secrets
import time
from pathlib import Path

#: Temporary neighbours are named with this; they are hidden, so no scan takes one for a result.
PREFIX = ".melvision-"


@contextlib.contextmanager
def replacing(path, mode="wb", **kwargs):
    """Open a temporary file beside `path` that takes its place when the block ends well.

    An error, a full disk or a kill inside the block leaves whatever stood at `path` as it was.
    Missing folders are made.

    Parameters
    ----------
    path : str or Path
        The file to write or replace.
    mode : str
        As for `open`: ``"wb"`` or ``"w"``.
    **kwargs
        Passed to `open`, such as ``encoding``.

    Yields
    ------
    file object
        Open for writing.

    Raises
    ------
    OSError
        When the folder cannot be written or the disk is full; `path` is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f"{PREFIX}{secrets.token_hex(8)}.part"
    try:
        # Mode 0o666 less the user's umask, as for any new file: mkstemp's 0o600 would make
        # pictures in a shared folder unreadable to others.
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with open(descriptor, mode, **kwargs) as file:
            yield file
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def clear_leftovers(folder, older_than=3600.0):
    """Delete the temporary files that killed runs left in `folder`.

    Parameters
    ----------
    folder : Path
        Looked at without its sub-folders.
    older_than : float, in seconds
        Younger ones may belong to a run that is still going.
    """
    for part in Path(folder).glob(f"{PREFIX}*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > older_than:
                part.unlink()
