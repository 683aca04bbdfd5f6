"""Call a function on many tasks in parallel, whatever happens to the processes that do it.

A worker is a child process that is given one task at a time. When it dies, hangs or runs out of memory
it is known over which task, nothing else is lost, and a new one takes its place. A pool (joblib's,
concurrent.futures') breaks as a whole and cannot tell who broke it.
"""

import contextlib
import os
import pickle
import queue
import re
import threading
import time

from render.child import LIMITS, Child, Lost, call_apart
from render.errors import MelvisionError

#: Starting a process takes as long as doing this many tasks.
WORTH_A_PROCESS = 8
#: How long a cluster's scheduler may take to answer, and then to have a worker.
ANSWER_SECONDS = 10
#: How long a cluster may be without any worker before the run is given up.
DESERTED_SECONDS = 60


def count_jobs(jobs, n_tasks):
    """How many processes to use: `jobs` (-1 is one a core), but no more than the tasks are worth."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores if jobs < 0 else jobs, n_tasks // WORTH_A_PROCESS))


def shard(items, text):
    """The part of `items` that one of several machines does, for batch systems without a scheduler.

    Parameters
    ----------
    items : list
        In the same order on every machine.
    text : str
        ``"i/n"``: the i-th of n parts, counted from 1.

    Returns
    -------
    part : list
        Every n-th item from the i-th on. The n parts are disjoint and together all of `items`.

    Raises
    ------
    MelvisionError
        When `text` is no such pair.
    """
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    i, n = map(int, found.groups()) if found else (0, 0)
    if not 1 <= i <= n:
        raise MelvisionError(f"--shard {text}: expected i/n with i from 1 to n, such as 2/5")
    return items[i - 1 :: n]


def run(function, tasks, jobs, *, scheduler=None, limits=LIMITS):
    """Yield (number, result) for each task, in the order in which they are done.

    Parameters
    ----------
    function : callable
        Importable by its name, so that other processes find it; not from a script.
    tasks : list of tuple
        Its arguments.
    jobs : int
        Processes on this machine. One, too, is a process apart from this one: it costs 0.1 s.
    scheduler : str, optional
        Address of a Dask scheduler, ``"tcp://host:port"``: its workers do the tasks instead. They need
        melvision installed and must see the files under the same paths (a shared file system).
    limits : Limits
        What each task may use.

    Yields
    ------
    number : int
        Position in `tasks`.
    result : object
        What the function returned, or `Lost`. A task over which a process died is tried a second time
        after all others, alone; one that ran into a time limit is not.

    Raises
    ------
    MelvisionError
        When the cluster does not answer or has lost all its workers.
    """
    if scheduler and tasks:
        results = _run_on_cluster(function, tasks, scheduler, limits)
    else:
        results = _run_here(function, tasks, jobs, limits)
    died = []
    with contextlib.closing(results):
        for number, result in results:
            if isinstance(result, Lost) and result.again:
                died.append(number)
            else:
                yield number, result
    for number in died:
        yield number, call_apart(function, tasks[number], limits)


def _run_here(function, tasks, jobs, limits):
    todo, done = queue.SimpleQueue(), queue.SimpleQueue()
    for number in range(len(tasks)):
        todo.put(number)

    def work(child):
        try:
            while not child.closed:
                number = todo.get_nowait()
                done.put((number, child.call(pickle.dumps((function, tasks[number])))))
        except queue.Empty:
            pass
        except BaseException as error:
            done.put((None, error))

    team = [Child(limits) for _ in range(min(jobs, len(tasks)))]
    try:
        for child in team:
            threading.Thread(target=work, args=[child], daemon=True).start()
        for _ in tasks:
            number, result = done.get()
            if number is None:
                raise result
            yield number, result
    finally:
        for child in team:
            child.dismiss()
        end = time.monotonic() + 1.5
        for child in team:
            child.wait(end)


#: A Dask worker's processes that wait for their next task.
_idle = []


def _run_on_worker(message, limits):
    try:
        child = _idle.pop()
    except IndexError:
        child = None
    if child is None or child.limits != limits:
        child = Child(limits)
    result = child.call(message)
    _idle.append(child)
    return [result]  # in a list: Dask gives errors as values, too


def _dismiss_idle():
    while _idle:
        _idle.pop().dismiss()


def _connect(scheduler):
    """A client of the scheduler, which has workers."""
    import asyncio
    import logging

    try:
        import distributed
    except ImportError:
        raise MelvisionError('--backend dask needs the distributed package: pip install -e ".[cluster]"') from None
    for name in "distributed", "distributed.client", "tornado.application":  # what matters is told in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)

    async def knock():
        # A client that fails to start takes 20 s to go away and is loud about it.
        keys = distributed.Security().get_connection_args("client")
        (await distributed.comm.connect(scheduler, timeout=ANSWER_SECONDS, **keys)).abort()

    try:
        asyncio.run(knock())
        client = distributed.Client(scheduler, timeout=ANSWER_SECONDS, set_as_default=False)
    except Exception as error:  # of many kinds, where something else listens at that address
        told = " ".join(str(error).split()) or type(error).__name__
        raise MelvisionError(f"--scheduler {scheduler}: no Dask scheduler answers ({told})") from None
    try:
        client.wait_for_workers(1, timeout=ANSWER_SECONDS)
    except OSError:
        client.close()
        raise MelvisionError(
            f"--scheduler {scheduler}: it has no workers; start some: dask worker {scheduler}"
        ) from None
    return client


def _run_on_cluster(function, tasks, scheduler, limits):
    # Not through joblib's Dask backend: it waits for ever once Dask has given a task up, as it does
    # when a fourth worker died while it held the task (joblib 1.6).
    client = _connect(scheduler)
    from distributed import KilledWorker, as_completed

    try:
        messages = [pickle.dumps((function, task)) for task in tasks]
        futures = client.map(_run_on_worker, messages, limits=limits, pure=False)
        numbers = {future.key: number for number, future in enumerate(futures)}
        results = as_completed(futures, loop=client.loop, with_results=True, raise_errors=False)
        del futures  # so that each is forgotten, by the workers too, once it is done
        seen = time.monotonic()
        while numbers:
            batch = results.next_batch(block=False)
            for future, result in batch:
                if not isinstance(result, list):
                    error = result[1] if isinstance(result, tuple) else "the connection was lost"
                    if not isinstance(error, KilledWorker):
                        raise MelvisionError(f"--scheduler {scheduler}: the cluster failed ({error}); run again")
                    result = [Lost("its Dask workers died", again=True)]
                yield numbers.pop(future.key), result[0]
            if batch or client.nthreads():
                seen = time.monotonic()
            elif time.monotonic() - seen > DESERTED_SECONDS:
                raise MelvisionError(f"--scheduler {scheduler}: has lost all its workers; run again for the rest")
            time.sleep(0.05)
        with contextlib.suppress(OSError):
            client.run(_dismiss_idle)
    finally:
        client.close()
