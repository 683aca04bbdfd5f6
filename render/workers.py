"""Call a function on many tasks in parallel; a task that crashes its worker, hangs or eats all memory fails alone.

Each worker process is given one task at a time over pipes of its own. When it dies, the task it had is known, nothing
else is lost, and another process takes its place. A pool whose workers share a queue (joblib's,
`concurrent.futures`', pebble's) breaks as a whole when a worker dies between two tasks.
"""

import contextlib
import os
import pickle
import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from render.errors import ParameterError
from render.worker_process import LIMITS, Limits, Results, TaskFailed, WorkerProcess, call_in_process

Item = TypeVar("Item")

#: Starting a process takes as long as about this many tasks.
TASKS_PER_START = 8


def check_jobs(jobs: int) -> None:
    """Raise ParameterError when `jobs` is neither a number of processes nor -1 for one a core."""
    if jobs == 0 or jobs < -1:
        raise ParameterError("jobs", jobs, "a number of processes, or -1 for one a core")


def count_jobs(jobs: int, n_tasks: int) -> int:
    """Return how many processes to use.

    Parameters
    ----------
    jobs : int
        The most to use; -1 is one a core.
    n_tasks : int
        Few tasks do not pay for starting many processes.

    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores if jobs < 0 else jobs, n_tasks // TASKS_PER_START))


def shard(items: Sequence[Item], part: str) -> Sequence[Item]:
    """Return the items that one of several machines processes, for batch systems without a scheduler.

    Parameters
    ----------
    items : sequence
        In the same order on every machine.
    part : str
        ``"i/n"``: the i-th of n parts, counted from 1.

    Returns
    -------
    items : sequence
        Every n-th item from the i-th on. The n parts are disjoint and together all items.

    Raises
    ------
    ParameterError
        When `part` is no such pair.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", part)
    i, n = map(int, match.groups()) if match else (0, 0)
    if not 1 <= i <= n:
        raise ParameterError("shard", part, "i/n with i from 1 to n, such as 2/5")
    return items[i - 1 :: n]


def run(
    function: Callable,
    tasks: Sequence[tuple],
    jobs: int,
    *,
    scheduler: str | None = None,
    limits: Limits = LIMITS,
    first_alone: bool = False,
) -> Results:
    """Yield (number, result) of each task as soon as it is done.

    Parameters
    ----------
    function : callable
        Importable by its name, so that other processes find it; not from a script.
    tasks : sequence of tuple
        Its arguments.
    jobs : int
        Processes on this machine. A single one, too, is apart from this process: starting it costs 0.1 s.
    scheduler : str, optional
        Address of a Dask scheduler, ``"tcp://host:port"``: its workers run the tasks instead. They need
        melvision installed and must see the files under the same paths (a shared file system).
    limits : Limits
        What each task may use.
    first_alone : bool
        Do the first task before the others. librosa's compiled functions are stored on first use, and numba mixes up
        what several processes store at a time: whoever reads that later crashes. Not on a cluster.

    Yields
    ------
    number : int
        Position in `tasks`.
    result : object
        What the function returned, or `TaskFailed`. A task that crashed its worker is tried a second time
        after all others, alone; one that ran into a time limit is not.

    Raises
    ------
    MelvisionError
        When the cluster does not answer or has lost all its workers.
    """
    if scheduler and tasks:
        from render.cluster import run_on_cluster

        results = run_on_cluster(function, tasks, scheduler, limits)
    else:
        results = _run_here(function, tasks, jobs, limits, first_alone=first_alone)
    crashed = []
    with contextlib.closing(results):
        for number, result in results:
            if isinstance(result, TaskFailed) and result.retry:
                crashed.append(number)
            else:
                yield number, result
    for number in crashed:
        yield number, call_in_process(function, tasks[number], limits)


def _run_here(
    function: Callable, tasks: Sequence[tuple], jobs: int, limits: Limits, *, first_alone: bool = False
) -> Results:
    numbers: queue.SimpleQueue = queue.SimpleQueue()
    results: queue.SimpleQueue = queue.SimpleQueue()
    n_alone = 1 if first_alone and jobs > 1 and tasks else 0
    if n_alone:
        yield 0, call_in_process(function, tasks[0], limits)
    for number in range(n_alone, len(tasks)):
        numbers.put(number)

    def feed(worker: WorkerProcess) -> None:
        try:
            while not worker.closed:
                number = numbers.get_nowait()
                results.put((number, worker.call(pickle.dumps((function, tasks[number])))))
        except queue.Empty:
            pass
        except BaseException as error:
            results.put((None, error))

    workers = [WorkerProcess(limits) for _ in range(min(jobs, len(tasks) - n_alone))]
    try:
        for worker in workers:
            threading.Thread(target=feed, args=[worker], daemon=True).start()
        for _ in tasks[n_alone:]:
            number, result = results.get()
            if number is None:
                raise result
            yield number, result
    finally:
        for worker in workers:
            worker.close()
        end = time.monotonic() + 1.5
        for worker in workers:
            worker.wait(end)
