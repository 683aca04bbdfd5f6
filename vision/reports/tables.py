"""Scores as text, and the tables of predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from render import atomic
from vision.data.csv_files import read_csv
from vision.reports import metrics
from vision.splits.keys import picture_key

#: The last column of ``predictions.csv`` before those of the genres, and all of them.
PREDICTED = "predicted"
PREDICTION_COLUMNS = ("split", "file", "genre", "track", "track_predicted", PREDICTED)

#: Stands for a score that a genre without tracks does not have.
NO_SCORE = "-"


class SplitPredictions(NamedTuple):
    """Predictions for the pictures of one split.

    Attributes
    ----------
    paths : list of str, length n
        The pictures.
    y : np.ndarray, shape (n,), int
        True labels.
    probabilities : np.ndarray, shape (n, n_classes)
        Of each genre.
    tracks : list of int, length n
        For each picture, the position of the first picture of its track.
    """

    paths: Sequence[str]
    y: np.ndarray
    probabilities: np.ndarray
    tracks: Sequence[int]

    def score(self) -> dict[str, Any]:
        """Scores by track; see `metrics.score`."""
        return metrics.score(self.y, self.probabilities, self.tracks)

    def by_track(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels and mean probabilities of the tracks, and their first pictures; see `metrics.by_track`."""
        return metrics.by_track(self.y, self.probabilities, self.tracks)


def summary_line(name: str, summary: Mapping[str, Any]) -> str:
    """Format `metrics.mean_and_interval` as a line of text."""
    if summary["std"] is None:
        return f"{name}: {summary['mean']:.3f}"
    low, high = summary["interval"]
    values = ", ".join(f"{value:.3f}" for value in summary["values"])
    mean = f"{summary['mean']:.3f} +- {summary['std']:.3f}"
    return f"{name}: {mean} (95 % interval of the mean: {low:.3f} to {high:.3f}): {values}"


def accuracy_text(scores: Mapping[str, Any]) -> str:
    """Format an accuracy with its interval and the number of tracks, and of pieces where tracks have several."""
    low, high = scores["interval"]
    text = f"{scores['accuracy']:.3f} (95 % {low:.3f} to {high:.3f}, n = {scores['n']}"
    if "pieces" in scores:
        text += f" tracks; of their {scores['pieces']['n']} pieces {scores['pieces']['accuracy']:.3f}"
    return text + ")"


def tracks_right(scores: Mapping[str, Any], split: str) -> str:
    """Say in words how many tracks of a split were predicted right."""
    n, share = scores["n"], f"{scores['accuracy']:.1%}"
    text = f"{round(scores['accuracy'] * n)} of {n} {split} tracks right ({share}"
    if "pieces" in scores:
        text += f"; {scores['pieces']['n']} pieces, {scores['pieces']['accuracy']:.1%}"
    low, high = scores["interval"]
    text += f"; 95 % interval {low:.1%} to {high:.1%})"
    return text + few_text(scores)


def share_right(scores: Mapping[str, Any], split: str) -> str:
    """Say in few words how many tracks of a split were predicted right, and between which shares chance leaves it."""
    low, high = (f"{100 * end:.0f}" for end in scores["interval"])
    text = f"{100 * scores['accuracy']:.0f} % ({low} to {high} %) of {scores['n']} {split} tracks right"
    return text + few_text(scores)


def few_text(scores: Mapping[str, Any]) -> str:
    """What to say after the score of few tracks."""
    return ": too few tracks to tell how good it is" if scores["n"] < metrics.FEW_TRACKS else ""


def _score_line(split: str, scores: Mapping[str, Any], kept: int | None) -> str:
    line = (
        f"{split:8} accuracy {accuracy_text(scores)}  "
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
        lines.append(f"Kept epoch {kept}, which dev chose. dev_last is the last epoch, which was not selected on dev.")
    lines += [_score_line(name, entry, kept) for name, entry in scores.items() if isinstance(entry, dict)]
    for name, entry in scores.items():
        for expert, figures in entry.get("experts", {}).items() if isinstance(entry, dict) else ():
            alone = f"{expert} alone (weight {figures['weight']:.2g})"
            lines.append(f"{name:8} accuracy {accuracy_text(figures)}  {alone}")
    width = max(12, *(len(name) for name in classes))
    lines += ["", f"Per genre, on {split}:", f"{'':{width}} precision  recall  f1-score  support"]
    for name in [*classes, "macro avg", "weighted avg"]:
        precision, recall, f1 = genre_scores(table[name], 3)
        lines.append(f"{name:{width}} {precision:>9} {recall:>7} {f1:>9} {table[name]['support']:8.0f}")
    return "\n".join(lines) + "\n"


def genre_scores(row: Mapping[str, float], digits: int) -> list[str]:
    """Format precision, recall and F1 of a row of `metrics.per_genre`; a genre without tracks has none."""
    names = ("precision", "recall", "f1-score")
    return [f"{row[name]:.{digits}f}" if row["support"] else NO_SCORE for name in names]


def write_split_predictions(path: str | Path, splits: Mapping[str, SplitPredictions], classes: Sequence[str]) -> None:
    """Write ``predictions.csv``: a row a picture with its genre, the predicted one, and all probabilities.

    Its track has a name, the same for all its pieces, and a prediction, from the mean of their probabilities.

    Parameters
    ----------
    path : str or Path
        CSV file to write.
    splits : dict of str to SplitPredictions
        Predictions by split.
    classes : sequence of str
        Genres.
    """
    rows = []
    for split, predictions in splits.items():
        _, means, first = predictions.by_track()
        predicted = dict(zip(first.tolist(), means.argmax(axis=1).tolist(), strict=True))
        for file, label, p, track in zip(*predictions, strict=True):
            name = picture_key(classes[label], predictions.paths[track])
            about = [split, file, classes[label], name, classes[predicted[track]], classes[p.argmax()]]
            rows.append([*about, *(f"{value:.4f}" for value in p)])
    atomic.write_csv(path, [*PREDICTION_COLUMNS, *classes], rows)


def genre_columns(header: Sequence[str]) -> list[str]:
    """The genres of a ``predictions.csv``, from its first line; those of earlier versions have fewer columns."""
    header = list(header)
    known = [column for column in PREDICTION_COLUMNS if column in header]
    if known[:3] != list(PREDICTION_COLUMNS[:3]) or header[: len(known)] != known or known[-1] != PREDICTED:
        return []
    return header[len(known) :]


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
    classes = genre_columns(list(rows[0]))
    y = np.array([classes.index(row["genre"]) for row in rows])
    probabilities = np.array([[float(row[name]) for name in classes] for row in rows])
    first: dict[tuple[str, str], int] = {}
    # Of earlier versions, which did not know of pieces, each picture is a track.
    tracks = [first.setdefault((row["genre"], row.get("track", row["file"])), at) for at, row in enumerate(rows)]
    return SplitPredictions([row["file"] for row in rows], y, probabilities, tracks), classes
