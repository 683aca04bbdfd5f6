"""Writing files atomically: a reader sees the old file or the new one, never half of one."""

import contextlib
import csv
import errno
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

#: Prefix of the temporary files. They are hidden, so no scan of a folder takes one for a result.
PREFIX = ".melvision-"

#: Error numbers of a disk without space, and of a user without any of it left.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def replacing(path: str | Path, mode: str = "wb", **kwargs: Any) -> Iterator[IO]:
    """Open a temporary file beside `path` that replaces it when the block ends without an error.

    An error, a full disk or a kill inside the block leaves `path` as it was. Missing folders are made.

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
        with naming(path), open(descriptor, mode, **kwargs) as file:
            yield file
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError) and error.filename == str(part):  # which nobody knows
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Name the file in the error of a full disk, which names none: for files that are written in place."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write a text file as UTF-8, with its line endings as they are.

    File names may hold bytes that are not valid UTF-8: they are written back as those bytes.

    Parameters
    ----------
    path : str or Path
        The file to write or replace.
    text : str
        All of its content.

    Raises
    ------
    OSError
        As `replacing`.
    """
    with replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)


def write_json(path: str | Path, value: Any, *, indent: int | None = 1) -> None:
    """Write a JSON file.

    Parameters
    ----------
    path : str or Path
        The file to write or replace.
    value : object
        What `json.dumps` takes.
    indent : int, optional
        Spaces a level; None puts everything on one line.

    Raises
    ------
    OSError
        As `replacing`.
    """
    write_text(path, json.dumps(value, indent=indent))


def write_csv(
    path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]], *, lineterminator: str = "\r\n"
) -> None:
    """Write a CSV table, encoded as `write_text` does.

    Parameters
    ----------
    path : str or Path
        The file to write or replace.
    header : sequence of str
        Names of the columns.
    rows : iterable of sequences
        Cells in the order of the header.
    lineterminator : str
        RFC 4180 and Python's `csv` end lines with ``"\\r\\n"``.

    Raises
    ------
    OSError
        As `replacing`.
    """
    with replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator=lineterminator)
        writer.writerow(header)
        writer.writerows(rows)


def clear_leftovers(folder: str | Path, older_than: float = 3600.0) -> None:
    """Delete the temporary files that killed runs left in `folder`, not in its sub-folders.

    Parameters
    ----------
    folder : str or Path
        Where to look.
    older_than : float, in seconds
        Younger ones may belong to a run that is still going.
    """
    for part in Path(folder).glob(f"{PREFIX}*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > older_than:
                part.unlink()
