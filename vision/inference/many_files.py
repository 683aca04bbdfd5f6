"""Predicting very many files: in several processes or on a cluster, and going on after a kill."""

import contextlib
import csv
import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from render import atomic, workers
from render.cli import one_line
from render.errors import MelvisionError
from render.worker_process import Limits, TaskFailed
from vision.inference.predictor import Prediction, Predictor
from vision.inference.watch import PredictionTable, file_state
from vision.models import run_files

#: Files that a process predicts at a time: their windows share batches.
FILES_PER_TASK = 16

#: What such a task may use. The libraries and their memory maps take 4 GiB of address space.
LIMITS = Limits(cpu_seconds=600.0, wall_seconds=1800.0, memory_bytes=16 << 30)

#: A GPU's driver reserves far more address space than there is memory.
GPU_LIMITS = replace(LIMITS, memory_bytes=1 << 47)


@functools.lru_cache(maxsize=1)
def _predictor(run: str, device: str) -> Predictor:
    """The model, loaded once a process."""
    return Predictor(run, device)


def _predict_files(run: str, device: str, paths: list[str], embed: str | None) -> list[Prediction]:
    """Predict some files, in a worker process."""
    predictions = list(_predictor(run, device).predict_each(paths, embed=embed))
    for prediction in predictions:
        prediction._origin = None  # the whole model would be sent back
    return predictions


def predict_parallel(
    predictor: Predictor,
    run: str | Path,
    files: Sequence[Path],
    *,
    jobs: int = -1,
    scheduler: str | None = None,
    embed: str | None = None,
) -> Iterator[Prediction]:
    """As `Predictor.predict_each`, in several processes: a file that crashes or hangs one costs itself only.

    Parameters
    ----------
    predictor : Predictor
        The model.
    run : str or Path
        Where it was read from: the processes read it again.
    files : sequence of Path
        Pictures and recordings.
    jobs, scheduler
        As of `render.workers.run`. The workers of a cluster must see the run and the files under the same paths.
    embed : str, optional
        As of `Predictor.predict_each`.

    Yields
    ------
    prediction : Prediction
        As soon as it is done, in any order.

    Raises
    ------
    MelvisionError
        When the cluster does not answer or has lost all its workers.
    """
    workers.check_jobs(jobs)
    device = str(predictor.device)
    limits = LIMITS if device == "cpu" else GPU_LIMITS
    where = str(Path(run).resolve())
    # For a cluster, which knows no working directory of ours.
    paths = [str(path.absolute()) for path in files]

    def predict(parts: list[list[int]]) -> Iterator[tuple[int, Prediction | TaskFailed]]:
        tasks = [(where, device, [paths[number] for number in part], embed) for part in parts]
        # Such a task is worth a process of its own.
        cores = workers.count_jobs(jobs, len(tasks) * workers.TASKS_PER_START)
        for place, result in workers.run(_predict_files, tasks, cores, scheduler=scheduler, limits=limits):
            done = [result] * len(parts[place]) if isinstance(result, TaskFailed) else result
            yield from zip(parts[place], done, strict=True)

    parts = [list(range(at, min(len(files), at + FILES_PER_TASK))) for at in range(0, len(files), FILES_PER_TASK)]
    alone = []
    for number, result in predict(parts):
        if isinstance(result, TaskFailed):  # by one of the files: which one?
            alone.append([number])
        else:
            yield _completed(result, files[number], predictor)
    for number, result in predict(alone):
        if isinstance(result, TaskFailed):
            result = Prediction(None, predictor.classes, error=result.reason)
        yield _completed(result, files[number], predictor)


def _completed(prediction: Prediction, path: Path, predictor: Predictor) -> Prediction:
    prediction.path, prediction._origin = path, (predictor, path, None)
    return prediction


class UnfinishedTable:
    """The rows of a CSV table of predictions as they come: whoever is stopped goes on from there.

    They are in a file beside the table whose name ends in ``.unfinished`` and a hash of the model and of how it is
    asked: another one begins anew. A file that failed, or has changed since, is predicted again.

    Parameters
    ----------
    path : str or Path
        The table that `finish` writes.
    run : str or Path
        The model.
    classes : sequence of str
        Genres.
    how : str
        What else the answers depend on.

    Attributes
    ----------
    before : dict of str to np.ndarray
        The probabilities, rounded to four decimals, of the files that were predicted before.

    Raises
    ------
    MelvisionError
        When another process writes the same table, or `path` is a folder.
    """

    def __init__(self, path: str | Path, run: str | Path, classes: Sequence[str], how: str = ""):
        digest = hashlib.blake2b(how.encode("utf-8", "surrogateescape"), digest_size=6)
        models = run_files.seed_files(run, run_files.MODEL) if Path(run).is_dir() else [Path(run)]
        for model in models or [Path(run) / run_files.MODEL]:
            digest.update(model.read_bytes())
        self._path, self._classes = Path(path), list(classes)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.is_dir():
            raise MelvisionError(f"{path}: is a folder; expected a file to write the table to")
        self._lock = FileLock(f"{path}.lock")
        with open(self._lock.lock_file, "ab"):
            pass  # filelock takes a folder that cannot be written for a lock that is held
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise MelvisionError(
                f"{path}: is being written by another process; wait until it is done, or name another file"
            ) from None
        self._unfinished = Path(f"{path}.unfinished-{digest.hexdigest()}")
        self._table = PredictionTable(self._unfinished, None, classes)
        self.before = {}
        for row in self._rows():
            with contextlib.suppress(ValueError):  # damaged: predicted again
                p = np.array(row[4 : 4 + len(classes)], dtype=float)
                if row[3] and np.isfinite(p).all():
                    self.before[row[0]] = p

    def _rows(self) -> Iterator[list[str]]:
        """Name, size, time and cells of each file, as they were added."""
        with open(self._unfinished, encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file)
            header = next(rows)
            yield from (row for row in rows if len(row) == len(header))

    def prediction(self, path: Path) -> Prediction | None:
        """What was said of a file before; None where it is to be predicted."""
        p = self.before.get(one_line(str(path)))
        try:
            known = p is not None and self._table.has(path, file_state(path))
        except OSError:
            known = False
        return Prediction(path, self._classes, p) if known else None

    def add(self, prediction: Prediction) -> None:
        """Write the row of one more file."""
        assert prediction.path is not None
        try:
            state = file_state(prediction.path)
        except OSError:
            state = (0, 0)
        self._table.add(prediction, state)

    def finish(self, files: Sequence[Path]) -> None:
        """Write the table, in the order of `files`, and remove the unfinished one."""
        latest = {row[0]: row[3:] for row in self._rows()}
        rows = ([path, *latest[one_line(str(path))]] for path in files)
        atomic.write_csv(self._path, ["file", "predicted", *self._classes, "remark", "error"], rows)
        self._unfinished.unlink()
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()
