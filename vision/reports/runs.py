"""What run folders tell of their runs: settings, scores, which tracks were right; and the page of all runs."""

import contextlib
import csv
import errno
import functools
import json
import math
import os
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from render.errors import MelvisionError
from vision.data.csv_files import read_csv
from vision.data.validate import read_json
from vision.models import run_files
from vision.reports import html, metrics
from vision.reports.tables import NO_SCORE, read_split_predictions
from vision.splits.keys import picture_key

#: A track of any run: its genre, in composed Unicode form, and its name; see `picture_key`.
Track = tuple[str, str]

#: The splits that a model is judged by, as ``metrics.json`` calls them, in words.
JUDGED = {"test": "test", "dev_last": "dev, last epoch"}

#: What damaged files make the functions below raise.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, csv.Error)

#: What to do about them.
_TODO = "expected it as training wrote it: restore it, train again, or leave this run out"

#: What is in the first lines of every page of ours.
_OUR_PAGE = "<title>melvision:"


@dataclass
class Run:
    """A finished training run, the runs of several seeds, or a cross-validation.

    Attributes
    ----------
    name : str
        The folder, as it was given.
    judged : str
        What it was scored on, in words.
    split : str
        The rows of ``predictions.csv`` that were scored.
    settings : dict
        What it was made with, by the names of `vision.TrainConfig`; ``seed`` is a list of several seeds.
    scores : dict
        ``accuracy``, its ``interval``, ``n``, ``macro_f1`` and ``loss``; see `metrics.score`. Of several seeds, those
        of the mean of their probabilities; of folds, of all held-out tracks together.
    spread : dict or None
        Accuracy over seeds or folds; see `metrics.mean_and_interval`.
    kept_epoch : int or None
        None where there is not a single model.
    finished : float, in seconds since 1970
        When its scores were written.
    """

    name: str
    judged: str
    split: str
    settings: dict[str, Any]
    scores: dict[str, Any]
    spread: dict[str, Any] | None
    kept_epoch: int | None
    finished: float

    @functools.cached_property
    def right(self) -> dict[Track, bool]:
        """Whether each scored track is predicted right, from ``predictions.csv``.

        Raises
        ------
        MelvisionError
            When the file is missing or damaged, or not that of these scores.
        """
        path = Path(self.name) / run_files.PREDICTIONS
        with _reading(path):
            rows = [row for row in read_csv(path) if row["split"] == self.split]
            if not rows:
                raise ValueError(f"no row of {self.split}")
            if any(None in row.values() for row in rows):
                raise ValueError("a row is cut short")
            if "track" not in rows[0]:
                return _right_of_earlier(path, self.split)
            right = {_track(row["genre"], row["track"]): row["track_predicted"] == row["genre"] for row in rows}
            n, n_right = self.scores["n"], round(self.scores["accuracy"] * self.scores["n"])
            if (len(right), sum(right.values())) != (n, n_right):
                raise ValueError(
                    f"{sum(right.values())} of {len(right)} tracks right, but {n_right} of {n} were scored"
                )
            return right

    @functools.cached_property
    def histories(self) -> list[list[dict[str, float]]]:
        """The rows of its ``history.csv`` files: one file, one a seed, or none; without the cells that are empty.

        Raises
        ------
        MelvisionError
            When one is damaged.
        """
        folder, histories = Path(self.name), []
        paths = run_files.seed_files(folder, run_files.HISTORY) or [folder / run_files.HISTORY]
        for path in filter(Path.exists, paths):
            with _reading(path):
                rows = [{name: float(cell) for name, cell in row.items() if cell} for row in read_csv(path)]
                if not all(math.isfinite(value) for row in rows for value in row.values()):
                    raise ValueError("a value is not finite")
                histories.append(sorted(rows, key=lambda row: row["epoch"]))
        return histories

    @property
    def epochs(self) -> int | None:
        """How many epochs it was trained for: the most of its models, or what was asked for where no file tells."""
        trained = [int(history[-1]["epoch"]) for history in self.histories if history]
        return max(trained, default=self.settings.get("epochs"))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises into a MelvisionError that names it."""
    try:
        yield
    except MelvisionError:
        raise
    except _DAMAGED as error:
        raise MelvisionError(f"{path}: missing or damaged ({_found(error)}); {_TODO}") from None


def _found(error: BaseException) -> str:
    """What was wrong with a damaged file, in words."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error) if isinstance(error, (ValueError, csv.Error)) else "it holds something else"


def _track(genre: str, name: str) -> Track:
    return unicodedata.normalize("NFC", genre), unicodedata.normalize("NFC", name)


def _right_of_earlier(path: Path, split: str) -> dict[Track, bool]:
    """As `Run.right`, from a file of an earlier version, which does not say which track a picture is of."""
    predictions, classes = read_split_predictions(path, split)
    if not np.isfinite(predictions.probabilities).all():
        raise ValueError("a probability that is no number")
    labels = (classes[label] for label in predictions.y)
    keys = [_track(genre, picture_key(genre, file)) for genre, file in zip(labels, predictions.paths, strict=True)]
    numbers: dict[Track, int] = {}
    tracks = [numbers.setdefault(key, number) for number, key in enumerate(keys)]
    y, probabilities, first = predictions._replace(tracks=tracks).by_track()
    return {keys[number]: bool(good) for number, good in zip(first, probabilities.argmax(axis=1) == y, strict=True)}


def read_run(folder: str | Path) -> Run:
    """Read the settings and scores of a finished run.

    Parameters
    ----------
    folder : str or Path
        Run folder of ``vision.train``, also of several seeds, or a folder of ``vision.crossval``.

    Returns
    -------
    run : Run

    Raises
    ------
    MelvisionError
        When there is no run, it is not finished, or its files are damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "there is no such folder"
        raise MelvisionError(f"{folder}: {found}; expected a run folder, such as {run_files.RUNS}/standard-001")
    path = _scores_file(folder)
    if path is None:
        raise MelvisionError(f"{folder}: {_why_no_scores(folder)}")
    run = (_read_several if path.name == run_files.SUMMARY else _read_one)(folder)
    run.finished = path.stat().st_mtime
    with _reading(path if path.name == run_files.SUMMARY else folder / run_files.CONFIG):
        # A name may hold bytes that are no text, but no page can hold what JSON allows beyond that.
        json.dumps(run.settings, ensure_ascii=False).encode("utf-8", "surrogateescape")
        return run


def _scores_file(folder: Path) -> Path | None:
    """The file that marks a folder as that of a finished run."""
    paths = (folder / run_files.SUMMARY, folder / run_files.METRICS)
    return next((path for path in paths if path.is_file()), None)


def _why_no_scores(folder: Path) -> str:
    """Why a folder without scores has none, and what to do."""
    if (folder / run_files.SEEDS).exists() or (folder / run_files.CONFIG).exists():
        return f"is not finished (there are no scores yet); continue it with: python -m vision.train --resume {folder}"
    if any(folder.glob("fold-*")):
        return "is not finished (there are no scores yet); give the command of vision.crossval again to continue it"
    inside = sorted(path.parent for path in folder.glob(f"*/{run_files.METRICS}"))
    example = f"; name the runs in it, such as {inside[0]}" if inside else ""
    expected = f"expected {run_files.METRICS} of vision.train or {run_files.SUMMARY} of vision.crossval"
    return f"there is no run in this folder; {expected}{example}"


def _read_one(folder: Path) -> Run:
    """A run of ``vision.train`` from its ``metrics.json``."""
    path = folder / run_files.METRICS
    content: dict[str, Any] = dict(read_json(path, run_files.MetricsFile, _TODO))
    if "like" in content:
        like = os.path.normpath(folder / content["like"])
        raise MelvisionError(f"{folder}: is a final model, trained on all its tracks: no score is its own; see {like}")
    with _reading(path):
        split = "test" if "test" in content else "dev_last"
        scores, kept = dict(content[split]), content["kept_epoch"]
    settings = run_files.current_names(run_files.read_config_file(folder)["config"])
    return Run(str(folder), JUDGED[split], split, settings, scores, None, kept, 0.0)


def _read_several(folder: Path) -> Run:
    """Several seeds, or a cross-validation, from its ``summary.json``."""
    path = folder / run_files.SUMMARY
    content: dict[str, Any] = dict(read_json(path, run_files.SummaryFile, _TODO))
    with _reading(path):
        about = content["about"]
        settings = run_files.current_names(about["config"])
        if "seeds" in about:
            settings["seed"] = about["seeds"]
            judged = f"{JUDGED[content['judged']]}, {len(about['seeds'])} seeds together"
            values = content[content["judged"]]["values"]
        else:
            settings |= {name: about[name] for name in ("folds", "repeats", "fold_seed", "groups") if name in about}
            judged, values = f"held out in {about['folds']} folds", content["accuracy"]["values"]
    spread = metrics.mean_and_interval(values)
    return Run(str(folder), judged, "held out", settings, dict(content["pooled"]), spread, None, 0.0)


def interval_text(scores: dict[str, Any]) -> str:
    """Format the interval of an accuracy, as a cell of a table."""
    low, high = scores["interval"]
    return f"{low:.3f} to {high:.3f}"


def write_index(folder: str | Path) -> Path:
    """Write ``index.html``: all finished runs in a folder, the newest first.

    What cannot be read is named on the page.

    Parameters
    ----------
    folder : str or Path
        Folder of run folders.

    Returns
    -------
    page : Path

    Raises
    ------
    OSError
        When the page cannot be written, or there is a page of another program in its place.
    """
    folder = Path(folder)
    page = folder / run_files.INDEX
    if page.exists() and _OUR_PAGE not in page.read_text("utf-8", "replace")[:1000]:
        raise FileExistsError(errno.EEXIST, "it is not a page of melvision", str(page))
    rows, unreadable = [], []
    for path in sorted(folder.iterdir()):
        try:
            if path.is_dir() and _scores_file(path):
                rows.append(_index_row(path))
        except (OSError, ValueError, OverflowError) as error:  # a MelvisionError, or a date that is none
            unreadable.append(f"{path.name} could not be read: {error}")
    rows.sort(key=lambda row: -row["finished"])
    searches = [best.parent for best in sorted(folder.glob(f"*/{run_files.BEST}"))]
    context = {
        "title": folder.resolve().name,
        "headline": f"{len(rows)} finished run{'s' * (len(rows) != 1)}, the newest first.",
        "note": "",
        "rows": rows,
        "searches": [(search.name, _link(search)) for search in searches],
        "unreadable": unreadable,
    }
    html.write_page(page, "index.html", context)
    return page


def _index_row(path: Path) -> dict[str, Any]:
    """What the page of all runs shows of one."""
    run = read_run(path)
    model = [str(run.settings[name]) for name in ("recipe", "model") if run.settings.get(name)]
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.finished))
    scores = [run.judged, run.scores["n"], f"{run.scores['accuracy']:.3f}", interval_text(run.scores)]
    cells = [date, ", ".join(model) or NO_SCORE, *scores, run.settings.get("note") or ""]
    return {"name": path.name, "link": _link(path), "finished": run.finished, "cells": cells}


def _link(run: Path) -> str:
    """The address of a run's page from the folder of runs; empty where there is none."""
    # Quoted as a path: whatever the folder's name is, the link leads into it and nowhere else.
    return f"{quote(os.fsencode(run.name))}/{run_files.PAGE}" if (run / run_files.PAGE).is_file() else ""


def refresh_index(run: str | Path) -> str:
    """Write the page of all runs anew after a run, where these are in a folder of the usual name, ``runs``.

    It never fails: a page that cannot be written is no reason to lose a run.

    Parameters
    ----------
    run : str or Path
        The run folder.

    Returns
    -------
    line : str
        A line for the user, which begins with ``note: `` where the page could not be written; empty where the run is
        in another folder.
    """
    folder = Path(os.path.abspath(run)).parent  # as it is called, also where it is a link
    if folder.name != run_files.RUNS:
        return ""
    try:
        return f"all runs: {write_index(folder)}"
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        return f"note: {folder / run_files.INDEX}: could not be written ({why})"
