"""One process at a time writes into a folder."""

import contextlib
import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from render import atomic
from render.errors import MelvisionError

#: The system's lock is on the first file; the second says who holds it. Both are hidden from those who list pictures.
LOCK, OWNER = ".lock", ".lock-owner"

#: Seconds of waiting for another process after which the user is told.
SILENT_WAIT = 2.0


@contextlib.contextmanager
def locked(folder: str | Path, doing: str, wait: float = 0.0) -> Iterator[None]:
    """Keep a folder to this process for the length of a block; it is made, and goes again if it stays empty.

    The lock is the operating system's (`filelock`), on this machine and on shared disks that support locks: it ends
    with its process, however that ends, so none is ever stale.

    Parameters
    ----------
    folder : str or Path
        Data folder or run folder.
    doing : str
        What the process does, for the message that others get, such as ``"training"``.
    wait : float
        Seconds to wait for another process that holds the folder.

    Raises
    ------
    MelvisionError
        When another process still holds it after the wait, or it cannot be written.
    """
    folder = Path(folder)
    try:
        lock = _acquire(folder, wait)
    except Timeout:
        raise MelvisionError(
            f"{folder}: in use by {_owner(folder)}; wait until it is done, or choose another folder"
        ) from None
    except OSError as error:
        raise MelvisionError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        owner = f"process {os.getpid()} on {socket.gethostname()}, which is {doing} since {since}"
        with atomic.naming(folder):
            (folder / OWNER).write_text(owner, "utf-8")
        yield
    finally:
        for name in (OWNER, LOCK):  # while it is held: afterwards they may be another process's
            with contextlib.suppress(OSError):
                (folder / name).unlink()
        lock.release()
        with contextlib.suppress(OSError):
            folder.rmdir()  # it fails, as it should, where there is anything in it


def _acquire(folder: Path, wait: float) -> FileLock:
    """Take the lock of a folder, or raise Timeout."""
    end, told = time.monotonic() + wait, wait <= SILENT_WAIT
    while True:
        lock = FileLock(folder / LOCK)
        try:
            folder.mkdir(parents=True, exist_ok=True)  # whoever held it may have removed it
            left = max(0.0, end - time.monotonic())
            lock.acquire(timeout=left if told else min(left, SILENT_WAIT))
        except Timeout:
            if told:
                raise
            told = True
            line = "note: %s: in use by %s; waiting for up to %.0f s"
            logging.getLogger(__name__).warning(line, folder, _owner(folder), end - time.monotonic())
            continue
        except (FileNotFoundError, FileExistsError):  # it was removed, or made, in between
            if time.monotonic() >= end or _is_no_folder(folder):
                raise
            time.sleep(0.01)
            continue
        if (folder / LOCK).exists():
            return lock
        lock.release()  # its file was removed between opening and locking it: others lock a new one


def _is_no_folder(path: Path) -> bool:
    """Whether there is something else in the place of a folder."""
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        return False


def _owner(folder: Path) -> str:
    try:
        return (folder / OWNER).read_text("utf-8", "replace")[:200] or "another process"
    except OSError:
        return "another process"


def require_unlocked(folder: str | Path) -> None:
    """Raise MelvisionError where another process holds a folder; what a dead one has left is removed."""
    if (Path(folder) / LOCK).exists():
        with locked(folder, "starting"):
            pass
