"""Run tasks in a process of its own, which may die, hang or run out of memory without harm to others."""

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
from dataclasses import dataclass

#: One thread for each library in each process: there are as many processes as cores already.
THREADS = {f"{name}_NUM_THREADS": "1" for name in "OMP OPENBLAS MKL BLIS NUMEXPR NUMBA".split()}
#: What the process runs, after its parent's module search path.
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from render import child; child.serve()"


@dataclass(frozen=True)
class Limits:
    """What a task may use before its worker is killed.

    Attributes
    ----------
    cpu_seconds : float
        Processor time: where an endless loop ends. Drawing 2 hours of 44.1 kHz stereo takes 4 to 9 s.
    wall_seconds : float
        Time on the clock, which passes also while a slow disk, or one that is gone, is waited for.
    memory_bytes : int
        Address space of a process. Libraries take 0.3 GiB of it (with librosa 0.7), a track of 3 hours 1.
    """

    cpu_seconds: float = 300.0
    wall_seconds: float = 600.0
    memory_bytes: int = 4 << 30


LIMITS = Limits()


@dataclass(frozen=True)
class Lost:
    """What stands for the result of a task whose process did not live to give one.

    Attributes
    ----------
    reason : str
        What became of it, in one line.
    again : bool
        Whether a second try may do better: the kernel kills processes for what others ate, too.
    """

    reason: str
    again: bool = False


def serve():
    """Do what a worker does: tasks from stdin, results to stdout, until stdin ends."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a decoder prints must not come between the results
    limits, main = pickle.load(inbox)
    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system has such limits
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    todo, busy = queue.SimpleQueue(), threading.Event()

    def listen():
        with contextlib.suppress(Exception):
            while True:
                todo.put(pickle.load(inbox))
        # The parent has ended, in whatever way: so does this process, but for a second to tidy up.
        todo.put(None)
        if busy.is_set():
            _thread.interrupt_main()
        time.sleep(1)
        _end()

    threading.Thread(target=listen, daemon=True).start()
    try:
        while (message := todo.get()) is not None:
            busy.set()
            _limit_processor_time(limits.cpu_seconds)
            try:
                if main and b"__main__" in message:  # the parent is `python -m` of the function's own module
                    sys.modules["__main__"] = importlib.import_module(main)
                function, task = pickle.loads(message)
                answer = pickle.dumps(function(*task))
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                told = " ".join(f"{type(error).__name__}: {error}".split())
                answer = pickle.dumps(Lost(f"stopped by {told} ({where.filename}, line {where.lineno})"))
            _limit_processor_time(0)
            outbox.write(answer)
            outbox.flush()
            busy.clear()
    except BrokenPipeError:
        pass
    except KeyboardInterrupt:
        _end()  # a program that the task began would live on
    os._exit(0)


def _end():
    """End this process and every program that its task has begun."""
    os.killpg(0, signal.SIGKILL) if hasattr(os, "killpg") else os._exit(1)


def _limit_processor_time(seconds):
    """Have the kernel end this process; no Python code needs to run for that. 0 lifts the limit."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


class Child:
    """A process that does one task after another, and is replaced when it dies.

    Parameters
    ----------
    limits : Limits
        What each task may use.
    """

    def __init__(self, limits):
        self.limits = limits
        self.process = None
        self.late = self.closed = False

    def _start(self):
        # Not multiprocessing's: that runs the user's main module again, and it refuses to start
        # anything from within a Dask worker.
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(os.path.abspath, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | THREADS,
            start_new_session=True,  # Ctrl-C is for the parent; and ffmpeg is killed with its worker
        )
        self.late = False
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        pickle.dump((self.limits, spec and spec.name), self.process.stdin)

    def call(self, message):
        """Do one task, a pickled (function, arguments).

        Returns
        -------
        result : object
            What the function returned, or `Lost`.
        """
        timer = threading.Timer(self.limits.wall_seconds, self._kill, [True])
        timer.daemon = True
        try:
            if self.process is None:
                self._start()
            timer.start()
            pickle.dump(message, self.process.stdin)
            self.process.stdin.flush()
            return pickle.load(self.process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            self._kill()
            return self._blame()
        finally:
            timer.cancel()

    def _kill(self, late=False):
        self.late |= late
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()

    def _blame(self):
        """Say how the process ended; the next task gets a new one."""
        process, self.process, limits = self.process, None, self.limits
        code = process.wait()
        process.stdout.close()
        with contextlib.suppress(OSError):
            process.stdin.close()
        if self.late:
            return Lost(f"took over {limits.wall_seconds:g} s; given up")
        if code == -getattr(signal, "SIGPROF", 0):
            return Lost(f"took over {limits.cpu_seconds:g} s of processor time; given up")
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
        return Lost(f"kills the process that decodes it ({name})", again=True)

    def dismiss(self):
        """Tell the process to end, which it does within a second even if it is at work."""
        self.closed, process = True, self.process
        if process:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def wait(self, until=0.0):
        """Wait for it to end after `dismiss`, and help it along at `until` (of `time.monotonic`)."""
        process = self.process
        if process:
            try:
                process.wait(max(0.5, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._kill()
                process.wait()
            process.stdout.close()


def call_apart(function, task, limits=LIMITS):
    """Call a function in a process of its own, which may die, hang or run out of memory.

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
        What it returned, or `Lost` saying how the process ended.
    """
    child = Child(limits)
    try:
        return child.call(pickle.dumps((function, task)))
    finally:
        child.dismiss()
        child.wait()
