"""Reading uploads in processes that can be ended: a file may be made to take hours, all memory, or a crash."""

import contextlib
import os
import pickle
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from render.worker_process import Limits, TaskFailed, WorkerProcess
from vision.data.preprocess import UNUSABLE, NetworkInput, Preprocessor

#: What reading a file may take: an hour of 44.1 kHz stereo takes 5 s on a slow core.
CPU_SECONDS, WALL_SECONDS = 30.0, 60.0

#: Memory for a file, beside that of the libraries: an hour of 44.1 kHz stereo needs 1.3 GiB.
MEMORY_BYTES = 2 << 30

#: How names of folders of uploads begin.
PREFIX = "melvision-uploads-"

_LOCK = ".lock"


class ReadError(ValueError):
    """A file that could not be read, or not within the limits; the message is for the visitor."""


class ReaderFault(RuntimeError):
    """Reading stopped by a fault of ours; the message is for the log."""


def _bound_memory() -> None:
    """Let this process take `MEMORY_BYTES` more than it has now, with its libraries."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system has such limits
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


_bounded = False


def _read(preprocessor: Preprocessor, path: Path | None) -> NetworkInput | ReadError | None:
    """Read a file in a worker process; without one, only import what reading needs."""
    global _bounded
    if not _bounded:
        _bound_memory()
        _bounded = True
    try:
        return preprocessor.from_file(path) if path else None
    except MemoryError:
        return ReadError(f"takes more than {MEMORY_BYTES >> 30} GiB of memory to read")
    except UNUSABLE as error:
        message = str(error) or type(error).__name__
        return ReadError(message.replace(f"file:{path}", "the file").replace(str(path), "the file"))


class UploadReader:
    """Reads files in processes of their own. For use in several threads.

    Parameters
    ----------
    preprocessor : Preprocessor
        How.
    jobs : int
        The number of processes.
    """

    def __init__(self, preprocessor: Preprocessor, jobs: int):
        self._preprocessor = preprocessor
        # Until its libraries are imported a process needs more address space than a file may take.
        limits = Limits(CPU_SECONDS, WALL_SECONDS, 1 << 40)
        self._workers = [WorkerProcess(limits) for _ in range(jobs)]
        self._free: queue.SimpleQueue[WorkerProcess] = queue.SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)
        self._stopped = False

    def start(self) -> None:
        """Start the processes in the background: importing libraries takes them seconds."""
        for _ in self._workers:
            threading.Thread(target=self._call, args=[None], daemon=True).start()

    def read(self, path: Path, first_seconds: float | None = None) -> NetworkInput:
        """Read a file, or the first seconds of a recording.

        Raises
        ------
        ReadError
            When it cannot be read, or not within the limits.
        ReaderFault
            When something else went wrong.
        """
        result = self._call(path, first_seconds)
        if isinstance(result, TaskFailed) and result.retry:  # the system may have killed an idle process
            result = self._call(path, first_seconds)
        if isinstance(result, TaskFailed):
            if self._stopped:
                raise ReadError("was not read: the server is stopping")
            if result.reason.startswith("stopped by"):
                raise ReaderFault(result.reason)
            raise ReadError(result.reason)
        if isinstance(result, ReadError):
            raise result
        assert isinstance(result, NetworkInput)
        return result

    def _call(self, path: Path | None, first_seconds: float | None = None) -> object:
        preprocessor = self._preprocessor
        if first_seconds:
            preprocessor = Preprocessor(preprocessor.spec, first_seconds=first_seconds)
        worker = self._free.get()
        try:
            if self._stopped:
                return TaskFailed("the server is stopping")
            return worker.call(pickle.dumps((_read, (preprocessor, path))))
        finally:
            self._free.put(worker)

    def stop(self) -> None:
        """End the processes, whatever they do."""
        self._stopped = True
        for worker in self._workers:
            worker.kill()


@contextlib.contextmanager
def upload_folder() -> Iterator[Path]:
    """Make a temporary folder for uploads, for the length of a block.

    Those that killed servers have left are removed first: whose lock is free, its server is gone.

    Yields
    ------
    folder : Path
    """
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, Timeout):
            status = left.lstat()
            new = time.time() - status.st_mtime < 5  # between these two lines of its server
            if left.is_symlink() or new or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
                continue
            with FileLock(left / _LOCK, blocking=False):
                shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    with FileLock(folder / _LOCK, blocking=False):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
