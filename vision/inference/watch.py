"""A folder that is watched: what is dropped in is predicted once, and remembered in a table."""

import csv
import io
import time
from pathlib import Path

from render.cli import one_line
from render.errors import MelvisionError
from vision.data.folders import walk
from vision.inference.output import cells

#: Seconds between two looks. A file is taken for complete when size and time of change stayed the same meanwhile.
PAUSE = 1.0


class Table:
    """Predictions in a CSV file that grows line by line, and what was predicted already.

    Parameters
    ----------
    path : str or Path
        Made where it is missing; else continued. A last line that a crash cut off is taken out.
    folder : Path
        What is watched. The table holds names relative to it, so that both can be moved.
    classes : list of str
        Genres of the columns.

    Raises
    ------
    MelvisionError
        When the file is another table.
    """

    def __init__(self, path, folder, classes):
        self._path, self._folder, self._classes = Path(path), folder, classes
        header = [one_line(name) for name in ["file", "bytes", "modified_ns", "predicted", *classes, "error"]]
        self._done = {}
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        rows = list(csv.reader(whole.decode("utf-8", "surrogateescape").splitlines()))
        if rows[:1] != [header] and not _line(header).startswith(content):  # nothing, or a header cut off, is good
            raise MelvisionError(
                f"{path}: is not the table of a folder watched with this model's genres; "
                "choose another with --csv, or move it away"
            )
        for row in rows[1:]:
            if len(row) == len(header) and row[1].isdecimal() and row[2].lstrip("-").isdecimal():
                self._done[row[0]] = (int(row[1]), int(row[2]))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if len(whole) < len(content):
            with open(self._path, "r+b") as file:
                file.truncate(len(whole))
        if not whole:
            self._append(header)

    def _append(self, row):
        with open(self._path, "ab") as file:
            file.write(_line(row))

    def _name(self, path):
        return one_line(path.relative_to(self._folder).as_posix())

    def knows(self, path, state):
        """Tell whether a file was predicted as it is now, by its `state`."""
        return self._done.get(self._name(path)) == state

    def add(self, prediction, state):
        """Write one prediction down, at once."""
        name = self._name(prediction.path)
        self._append([name, *state, *cells(prediction, self._classes)])
        self._done[name] = state


def _line(row):
    text = io.StringIO(newline="")
    csv.writer(text).writerow([one_line(cell) for cell in row])
    return text.getvalue().encode("utf-8", "surrogateescape")


def state_of(path):
    """Size and time of change, by which a file is known again: two integers (bytes, ns)."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def look(folder):
    """Find what lies in a folder, at any depth.

    Parameters
    ----------
    folder : Path
        Hidden files and those of no known ending (``.part``, ``.crdownload``) are passed over, and empty ones:
        browsers put such where a download will be.

    Returns
    -------
    states : dict of Path to (int, int)
        From `state_of`.

    Raises
    ------
    MelvisionError
        When there is no such folder.
    """
    if not folder.is_dir():
        raise MelvisionError(f"{folder}: there is no such folder; expected one to watch")
    states = {}
    try:
        for path in walk(folder):
            try:
                state = state_of(path)
            except OSError:  # gone since it was listed, or a link to nowhere
                continue
            if state[0] and path.is_file():
                states[path] = state
    except OSError:  # a folder that went away meanwhile; the next look sees the rest
        pass
    return states


def watch(predictor, folder, table, *, pause=PAUSE):
    """Predict what is in a folder and what is dropped in, for ever, each file once.

    A file that is replaced under its name is predicted again. One that cannot be used is told once.

    Parameters
    ----------
    predictor : Predictor
        The model.
    folder : Path
        What to watch.
    table : Table
        What was done; each prediction is in it before it is told.
    pause : float, in seconds
        Between two looks.

    Yields
    ------
    prediction : Prediction
        In the order in which files are complete.
    """
    before = {}
    while True:
        now = look(folder)
        ready = [path for path, state in now.items() if before.get(path) == state and not table.knows(path, state)]
        before = now
        for path in ready:
            prediction = predictor.predict(path)
            try:
                if state_of(path) != now[path]:
                    continue  # it was not complete after all: again when it is
            except OSError:
                continue  # gone
            table.add(prediction, now[path])
            yield prediction
        time.sleep(pause)
