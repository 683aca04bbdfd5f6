"""Scores as text, and the tables of predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from render import atomic
from vision.data.csv_files import read_csv

#: Columns of ``predictions.csv`` before those of the genres.
PREDICTION_COLUMNS = ("split", "file", "genre", "predicted")


class SplitPredictions(NamedTuple):
    """Predictions for the tracks of one split.

    Attributes
    ----------
    paths : list of str, length n
        The pictures.
    y : np.ndarray, shape (n,), int
        True labels.
    probabilities : np.ndarray, shape (n, n_classes)
        Of each genre.
    """

    paths: Sequence[str]
    y: np.ndarray
    probabilities: np.ndarray


def summary_line(name: str, summary: Mapping[str, Any]) -> str:
    """Format `metrics.mean_and_interval` as a line of text."""
    if summary["std"] is None:
        return f"{name}: {summary['mean']:.3f}"
    low, high = summary["interval"]
    values = ", ".join(f"{value:.3f}" for value in summary["values"])
    mean = f"{summary['mean']:.3f} +- {summary['std']:.3f}"
    return f"{name}: {mean} (95 % interval of the mean: {low:.3f} to {high:.3f}): {values}"


def _score_line(split: str, scores: Mapping[str, Any], kept: int | None) -> str:
    low, high = scores["interval"]
    line = (
        f"{split:8} accuracy {scores['accuracy']:.3f} (95 % {low:.3f} to {high:.3f}, n = {scores['n']})  "
        f"macro F1 {scores['macro_f1']:.3f}  top 3 {scores['top3']:.3f}  "
        f"calibration error {scores['calibration_error']:.3f}"
    )
    if kept and split == "dev":
        line += "  optimistic: dev chose the epoch"
    return line


def text_report(
    scores: Mapping[str, Any],
    table: Mapping[str, Mapping[str, float]],
    classes: Sequence[str],
    split: str,
    *,
    note: str = "",
    kept: int | None = None,
) -> str:
    """Format scores as text.

    Parameters
    ----------
    scores : dict
        `metrics.score` of each split that was scored; entries that are not dicts are ignored.
    table : dict
        `metrics.per_genre` of one split.
    classes : sequence of str
        Genres.
    split : str
        The split that `table` is of.
    note : str
        First line.
    kept : int, optional
        The epoch that a training run kept.

    Returns
    -------
    text : str
        Ends in a newline.
    """
    lines = [note, ""] if note else []
    if kept:
        lines.append(f"Kept epoch {kept}, the best on dev. dev_last is the last epoch, which was not selected on dev.")
    lines += [_score_line(name, entry, kept) for name, entry in scores.items() if isinstance(entry, dict)]
    for name, entry in scores.items():
        for expert, figures in entry.get("experts", {}).items() if isinstance(entry, dict) else ():
            low, high = figures["interval"]
            alone = f"{expert} alone (weight {figures['weight']:.2g})"
            lines.append(f"{name:8} accuracy {figures['accuracy']:.3f} (95 % {low:.3f} to {high:.3f})  {alone}")
    width = max(12, *(len(name) for name in classes))
    lines += ["", f"Per genre, on {split}:", f"{'':{width}} precision  recall  f1-score  support"]
    for name in [*classes, "macro avg", "weighted avg"]:
        row = table[name]
        lines.append(
            f"{name:{width}} {row['precision']:9.3f} {row['recall']:7.3f} {row['f1-score']:9.3f} {row['support']:8.0f}"
        )
    return "\n".join(lines) + "\n"


def write_split_predictions(path: str | Path, splits: Mapping[str, SplitPredictions], classes: Sequence[str]) -> None:
    """Write ``predictions.csv``: a row a track with its genre, the predicted one, and all probabilities.

    Parameters
    ----------
    path : str or Path
        CSV file to write.
    splits : dict of str to SplitPredictions
        Predictions by split.
    classes : sequence of str
        Genres.
    """
    rows = (
        [split, file, classes[label], classes[p.argmax()], *(f"{value:.4f}" for value in p)]
        for split, predictions in splits.items()
        for file, label, p in zip(*predictions, strict=True)
    )
    atomic.write_csv(path, [*PREDICTION_COLUMNS, *classes], rows)


def read_split_predictions(path: str | Path, split: str) -> tuple[SplitPredictions, list[str]]:
    """Read one split of a ``predictions.csv`` that `write_split_predictions` wrote.

    Parameters
    ----------
    path : str or Path
        CSV file.
    split : str
        The split to read; it must have a row.

    Returns
    -------
    predictions : SplitPredictions
        Probabilities are rounded to the four decimals in the file.
    classes : list of str
        Genres.
    """
    rows = [row for row in read_csv(path) if row["split"] == split]
    classes = list(rows[0])[len(PREDICTION_COLUMNS) :]
    y = np.array([classes.index(row["genre"]) for row in rows])
    probabilities = np.array([[float(row[name]) for name in classes] for row in rows])
    return SplitPredictions([row["file"] for row in rows], y, probabilities), classes
