"""Call a function on many tasks in parallel, whatever happens to the processes that do it."""

import multiprocessing
import os
from dataclasses import dataclass

#: Tasks handed to the pool at a time, for each worker: what one broken pool can leave undone.
CHUNK = 32
#: Limits of the child process that retries a task whose worker died.
RETRY_SECONDS = 600
RETRY_BYTES = 4 << 30
#: Starting a process takes as long as doing this many tasks.
WORTH_A_PROCESS = 8


@dataclass(frozen=True)
class Lost:
    """What stands for the result of a task whose process did not live to give one.

    Attributes
    ----------
    reason : str
        What became of it.
    """

    reason: str


def _child(connection, function, task):
    """Run one task under a memory limit, in a process of its own."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (RETRY_BYTES, RETRY_BYTES))
    except (ImportError, ValueError, OSError):
        pass  # no such limit on this system: the time limit remains
    connection.send(function(*task))


def call_apart(function, task):
    """Call a function in a child process that may die, hang or run out of memory on its own.

    Parameters
    ----------
    function : callable
        Importable by its name.
    task : tuple
        Its arguments.

    Returns
    -------
    result : object
        What it returned, or `Lost` saying how the child ended.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, function, task), daemon=True)
    process.start()
    sender.close()
    try:
        if receiver.poll(RETRY_SECONDS):
            return receiver.recv()
        return Lost(f"took over {RETRY_SECONDS} s to decode; given up")
    except EOFError:
        process.join()
        return Lost(f"kills the process that decodes it (exit code {process.exitcode})")
    finally:
        process.kill()
        process.join()
        receiver.close()


def count_jobs(jobs, n_tasks):
    """How many processes to use: `jobs` (-1 is one a core), but no more than the tasks are worth."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores if jobs < 0 else jobs, n_tasks // WORTH_A_PROCESS))


def run(function, tasks, jobs):
    """Yield (number, result) for each task, in the order in which they are done.

    Parameters
    ----------
    function : callable
        Importable by its name, so that other processes find it.
    tasks : list of tuple
        Its arguments.
    jobs : int
        Processes; 1 calls it right here.

    Yields
    ------
    number : int
        Position in `tasks`.
    result : object
        What the function returned, or `Lost`.
    """
    if jobs == 1:
        yield from ((number, function(*task)) for number, task in enumerate(tasks))
        return
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import BrokenProcessPool

    for start in range(0, len(tasks), CHUNK * jobs):
        left = dict(enumerate(tasks[start : start + CHUNK * jobs], start))
        try:
            # One thread a worker: the workers are as many as the cores already.
            with parallel_config(backend="loky", n_jobs=jobs, inner_max_num_threads=1):
                calls = [delayed(_numbered)(number, function, task) for number, task in left.items()]
                for number, result in Parallel(return_as="generator_unordered")(calls):
                    del left[number]
                    yield number, result
        except BrokenProcessPool:  # a worker was killed; nobody knows over which task
            yield from ((number, call_apart(function, task)) for number, task in left.items())


def _numbered(number, function, task):
    return number, function(*task)
