"""A watched folder: each file that is put into it is predicted once and recorded in a table."""

import csv
import io
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from render import atomic
from render.cli import one_line
from render.errors import MelvisionError
from render.passed_over import PassedOver
from vision.data.folders import walk
from vision.inference.output import cells
from vision.inference.predictor import Prediction, Predictor

#: Seconds between two listings. A file is taken for complete when its size and modification time are the same in both.
PAUSE = 1.0

#: Size in bytes and modification time in ns, by which a file is recognised.
FileState = tuple[int, int]


class PredictionTable:
    """Predictions in a CSV file that grows line by line; it also says which files have been predicted.

    Parameters
    ----------
    path : str or Path
        CSV file: created if it is missing, else continued. A last line that a crash cut off is removed.
    folder : Path
        The watched folder. The table holds names relative to it, so that both can be moved. None: names are as given.
    classes : sequence of str
        Genres of the columns.

    Raises
    ------
    MelvisionError
        When the file is another table.
    """

    def __init__(self, path: str | Path, folder: Path | None, classes: Sequence[str]):
        self._path, self._folder, self._classes = Path(path), folder, classes
        header = [one_line(name) for name in ["file", "bytes", "modified_ns", "predicted", *classes, "remark", "error"]]
        self._states: dict[str, FileState] = {}
        content = self._path.read_bytes() if self._path.exists() else b""
        complete = content[: content.rfind(b"\n") + 1]
        rows = list(csv.reader(complete.decode("utf-8", "surrogateescape").splitlines()))
        # An empty file and a header that was cut off are accepted.
        if rows[:1] != [header] and not _encode(header).startswith(content):
            raise MelvisionError(
                f"{path}: is not the table of a folder watched with this model's genres; "
                "choose another file for the table, or move it away"
            )
        for row in rows[1:]:
            if len(row) == len(header) and row[1].isdecimal() and row[2].lstrip("-").isdecimal():
                self._states[row[0]] = (int(row[1]), int(row[2]))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if len(complete) < len(content):
            with open(self._path, "r+b") as file:
                file.truncate(len(complete))
        if not complete:
            self._append(header)

    def _append(self, row):
        with atomic.naming(self._path), open(self._path, "ab") as file:
            file.write(_encode(row))

    def _name(self, path):
        return one_line(path.relative_to(self._folder).as_posix() if self._folder else str(path))

    def has(self, path: Path, state: FileState) -> bool:
        """Return whether a file was predicted in its present state."""
        return self._states.get(self._name(path)) == state

    def add(self, prediction: Prediction, state: FileState) -> None:
        """Append one prediction to the file."""
        name = self._name(prediction.path)
        self._append([name, *state, *cells(prediction, self._classes)])
        self._states[name] = state


def _encode(row):
    text = io.StringIO(newline="")
    csv.writer(text).writerow([one_line(cell) for cell in row])
    return text.getvalue().encode("utf-8", "surrogateescape")


def file_state(path: Path) -> FileState:
    """Return the size and the modification time of a file."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def list_files(folder: Path, passed: PassedOver | None = None) -> dict[Path, FileState]:
    """List the pictures and recordings in a folder, at any depth.

    Parameters
    ----------
    folder : Path
        Hidden files and those of unknown endings (``.part``, ``.crdownload``) are skipped, and empty ones: browsers
        create such a file where a download will be.
    passed : PassedOver, optional
        Takes the folders that could not be read.

    Returns
    -------
    states : dict of Path to (int, int)
        From `file_state`.

    Raises
    ------
    MelvisionError
        When there is no such folder.
    """
    if not folder.is_dir():
        raise MelvisionError(f"{folder}: there is no such folder; expected one to watch")
    states = {}
    try:
        for path in walk(folder, passed=passed):
            try:
                state = file_state(path)
            except OSError:  # deleted since it was listed, or a broken link
                continue
            if state[0] and path.is_file():
                states[path] = state
    except OSError:  # a sub-folder was deleted meanwhile; the next listing is complete
        pass
    return states


def watch(
    predictor: Predictor,
    folder: Path,
    table: PredictionTable,
    *,
    pause: float = PAUSE,
    on_problem: Callable[[str], None] | None = None,
) -> Iterator[Prediction]:
    """Predict each file that is in a folder or is put into it, once. Does not end.

    A file that is replaced under its name is predicted again. One that cannot be used is reported once.

    Parameters
    ----------
    predictor : Predictor
        The model.
    folder : Path
        The folder to watch.
    table : PredictionTable
        Each prediction is added to it before it is yielded.
    pause : float, in seconds
        Between two listings.
    on_problem : callable, optional
        Takes a line for each folder that cannot be read, once.

    Yields
    ------
    prediction : Prediction
        In the order in which files are complete.
    """
    before: dict[Path, FileState] = {}
    reported: set[str] = set()
    while True:
        passed = PassedOver()
        states = list_files(folder, passed)
        for line in passed.failures():
            if on_problem and line not in reported:
                on_problem(line)
            reported.add(line)
        ready = [path for path, state in states.items() if before.get(path) == state and not table.has(path, state)]
        before = states
        for path in ready:
            prediction = predictor.predict(path)
            assert isinstance(prediction, Prediction)  # one file, one prediction
            try:
                if file_state(path) != states[path]:
                    continue  # it was not complete after all: predicted again when it is
            except OSError:
                continue  # deleted
            table.add(prediction, states[path])
            yield prediction
        time.sleep(pause)
