"""One worker process: it runs one task at a time, and may crash, hang or run out of memory without harm to others."""

import _thread
import contextlib
import importlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from render import cli

#: What `workers.run` yields: the number of each task and its result.
Results = Generator[tuple[int, Any], None, None]

#: One thread for each library in each process: there are as many processes as cores already.
THREADS = {f"{name}_NUM_THREADS": "1" for name in "OMP OPENBLAS MKL BLIS NUMEXPR NUMBA".split()}
#: What the process runs; its arguments are the module search path of its parent.
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from render import worker_process; worker_process.serve()"


@dataclass(frozen=True)
class Limits:
    """What a task may use before its worker is killed.

    Attributes
    ----------
    cpu_seconds : float
        CPU time: ends endless loops. Drawing 2 hours of 44.1 kHz stereo takes 4 to 9 s.
    wall_seconds : float
        Elapsed time: ends a wait for a disk that is slow or gone.
    memory_bytes : int
        Address space of a process. Libraries take 0.3 GiB of it (with librosa 0.7), a track of 3 hours 1 GiB.
    """

    cpu_seconds: float = 300.0
    wall_seconds: float = 600.0
    memory_bytes: int = 4 << 30


LIMITS = Limits()


@dataclass(frozen=True)
class TaskFailed:
    """Stands for the result of a task that raised an exception or whose worker was killed.

    Attributes
    ----------
    reason : str
        What happened, in one line.
    retry : bool
        Whether a second try may succeed: the kernel may have killed the worker for memory that others used.
    """

    reason: str
    retry: bool = False


def serve() -> None:
    """Run in the worker: read tasks from stdin and write results to stdout, until stdin ends."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a decoder prints must not come between the results
    cli.ignore_pillow_warnings()
    limits, main = pickle.load(inbox)
    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system has such limits
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    messages: queue.SimpleQueue = queue.SimpleQueue()
    busy = threading.Event()

    def read_messages() -> None:
        with contextlib.suppress(Exception):
            while True:
                messages.put(pickle.load(inbox))
        # The parent has ended or closed our stdin: end too, within a second.
        messages.put(None)
        if busy.is_set():
            _thread.interrupt_main()
        time.sleep(1)
        _kill_own_group()

    threading.Thread(target=read_messages, daemon=True).start()
    try:
        while (message := messages.get()) is not None:
            busy.set()
            result = _run_message(message, limits, main)
            outbox.write(result)
            outbox.flush()
            busy.clear()
    except BrokenPipeError:
        pass
    except KeyboardInterrupt:
        _kill_own_group()  # os._exit would leave a program that the task started
    os._exit(0)


def _run_message(message: bytes, limits: Limits, main: str | None) -> bytes:
    """Run one pickled task within the CPU limit; returns its pickled result or `TaskFailed`."""
    _limit_cpu_time(limits.cpu_seconds)
    try:
        if main and b"__main__" in message:  # the function is of the module that the parent runs with `python -m`
            sys.modules["__main__"] = importlib.import_module(main)
        function, task = pickle.loads(message)
        result = pickle.dumps(function(*task))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(f"{type(error).__name__}: {error}".split())
        result = pickle.dumps(TaskFailed(f"stopped by {text} ({where.filename}, line {where.lineno})"))
    _limit_cpu_time(0)
    return result


def _kill_own_group() -> None:
    """End this process and every program that its task has started."""
    os.killpg(0, signal.SIGKILL) if hasattr(os, "killpg") else os._exit(1)


def _limit_cpu_time(seconds: float) -> None:
    """Have the kernel end this process after `seconds`; no Python code has to run for that. 0 lifts the limit."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


class WorkerProcess:
    """A process that runs one task after another and is started anew when it dies.

    Parameters
    ----------
    limits : Limits
        What each task may use.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.process: Any = None  # a subprocess.Popen with pipes to and from it
        self.timed_out = self.closed = False

    def _start(self) -> Any:
        # Not multiprocessing: it runs the user's main module again, and refuses to start a process from
        # within a Dask worker, which is daemonic.
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(os.path.abspath, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | THREADS,
            start_new_session=True,  # Ctrl-C is for the parent; and ffmpeg is killed with its worker
        )
        self.timed_out = False
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        pickle.dump((self.limits, spec and spec.name), self.process.stdin)
        return self.process

    def call(self, message: bytes) -> Any:
        """Run one task.

        Parameters
        ----------
        message : bytes
            The pickled pair of a function and the tuple of its arguments.

        Returns
        -------
        result : object
            What the function returned, or `TaskFailed`.
        """
        timer = threading.Timer(self.limits.wall_seconds, self._kill, [True])
        timer.daemon = True
        try:
            process = self.process or self._start()
            timer.start()
            pickle.dump(message, process.stdin)
            process.stdin.flush()
            return pickle.load(process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            self._kill()
            return self._failure()
        finally:
            timer.cancel()

    def _kill(self, timed_out: bool = False) -> None:
        self.timed_out |= timed_out
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()

    def _failure(self) -> TaskFailed:
        """Say how the process ended, and forget it: the next task starts another."""
        process, self.process, limits = self.process, None, self.limits
        code = process.wait()
        process.stdout.close()
        with contextlib.suppress(OSError):
            process.stdin.close()
        if self.timed_out:
            return TaskFailed(f"took over {limits.wall_seconds:g} s; stopped")
        if code == -getattr(signal, "SIGPROF", 0):
            return TaskFailed(f"took over {limits.cpu_seconds:g} s of CPU time; stopped")
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
        return TaskFailed(f"crashed the worker while decoding it ({name})", retry=True)

    def kill(self) -> None:
        """End the process at once, and every program that its task has started; `call` returns `TaskFailed`."""
        if self.process:
            self._kill()

    def close(self) -> None:
        """Tell the process to end, which it does within a second even in the middle of a task."""
        self.closed, process = True, self.process
        if process:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def wait(self, until: float = 0.0) -> None:
        """Wait for the process to end after `close`, and kill it at `until`, a time of `time.monotonic`."""
        process = self.process
        if process:
            try:
                process.wait(max(0.5, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._kill()
                process.wait()
            process.stdout.close()


def call_in_process(function: Callable, task: tuple, limits: Limits = LIMITS) -> Any:
    """Call a function in a process of its own, which may crash, hang or run out of memory.

    Parameters
    ----------
    function : callable
        Importable by its name; not from a script.
    task : tuple
        Its arguments.
    limits : Limits
        What it may use.

    Returns
    -------
    result : object
        What it returned, or `TaskFailed` saying how the process ended.
    """
    worker = WorkerProcess(limits)
    try:
        return worker.call(pickle.dumps((function, task)))
    finally:
        worker.close()
        worker.wait()
