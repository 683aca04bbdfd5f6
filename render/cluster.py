"""Call a function on many tasks on a Dask cluster; see `render.workers`."""

import contextlib
import pickle
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from render.errors import MelvisionError
from render.worker_process import Limits, Results, TaskFailed, WorkerProcess

if TYPE_CHECKING:
    from distributed import Client

#: Seconds that a scheduler may take to answer, and then to have a worker.
ANSWER_SECONDS = 10
#: Seconds that a cluster may be without any worker before the run fails.
DESERTED_SECONDS = 60

#: In a Dask worker: its processes that wait for their next task.
_idle: list[WorkerProcess] = []


def _run_on_worker(message: bytes, limits: Limits) -> list:
    """Run one pickled task in a process of its own, so that it cannot take the Dask worker with it."""
    try:
        worker = _idle.pop()
    except IndexError:
        worker = None
    if worker is None or worker.limits != limits:
        worker = WorkerProcess(limits)
    result = worker.call(message)
    _idle.append(worker)
    return [result]  # in a list, because Dask returns errors as values too


def _close_idle() -> None:
    while _idle:
        _idle.pop().close()


def _connect(scheduler: str) -> "Client":
    """Return a client of the scheduler, once it has workers."""
    import asyncio
    import logging

    try:
        import distributed
    except ImportError:
        raise MelvisionError('a Dask cluster needs the distributed package: pip install -e ".[cluster]"') from None
    # What matters of their messages becomes one line of ours.
    for name in "distributed", "distributed.client", "tornado.application":
        logging.getLogger(name).setLevel(logging.CRITICAL)

    async def probe() -> None:
        # A client that fails to start takes 20 s to close and logs much.
        keys = distributed.Security().get_connection_args("client")
        (await distributed.comm.connect(scheduler, timeout=ANSWER_SECONDS, **keys)).abort()

    try:
        asyncio.run(probe())
        client = distributed.Client(scheduler, timeout=ANSWER_SECONDS, set_as_default=False)
    except Exception as error:  # of many kinds, where another program listens at that address
        text = " ".join(str(error).split()) or type(error).__name__
        raise MelvisionError(f"scheduler {scheduler}: no Dask scheduler answers ({text})") from None
    try:
        client.wait_for_workers(1, timeout=ANSWER_SECONDS)
    except OSError:
        client.close()
        raise MelvisionError(f"scheduler {scheduler}: has no workers; start some: dask worker {scheduler}") from None
    return client


def run_on_cluster(function: Callable, tasks: Sequence[tuple], scheduler: str, limits: Limits) -> Results:
    """Yield (number, result) of each task as soon as it is done, as `render.workers.run` does.

    Raises
    ------
    MelvisionError
        When the cluster does not answer, fails, or has lost all its workers.
    """
    # Not through joblib's Dask backend: it waits for ever once Dask has given a task up, as it does
    # when a fourth worker died while it held the task (joblib 1.6).
    client = _connect(scheduler)
    from distributed import KilledWorker, as_completed

    try:
        messages = [pickle.dumps((function, task)) for task in tasks]
        futures = client.map(_run_on_worker, messages, limits=limits, pure=False)
        numbers = {future.key: number for number, future in enumerate(futures)}
        completed = as_completed(futures, loop=client.loop, with_results=True, raise_errors=False)
        del futures  # so that each is released, by the workers too, once it is done
        last_seen = time.monotonic()
        while numbers:
            batch = completed.next_batch(block=False)
            for future, result in batch:
                if not isinstance(result, list):
                    error = result[1] if isinstance(result, tuple) else "the connection was lost"
                    if not isinstance(error, KilledWorker):
                        raise MelvisionError(f"scheduler {scheduler}: the cluster failed ({error}); run again")
                    result = [TaskFailed("crashed its Dask workers", retry=True)]
                yield numbers.pop(future.key), result[0]
            if batch or client.nthreads():
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > DESERTED_SECONDS:
                raise MelvisionError(f"scheduler {scheduler}: has lost all its workers; run again for the rest")
            time.sleep(0.05)
        with contextlib.suppress(OSError):
            client.run(_close_idle)
    finally:
        client.close()
