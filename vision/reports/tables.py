"""Scores as text, and CSV files."""

import csv
import io

from render import atomic
from vision.reports import html


def write_csv(path, names, rows):
    """Write a list of dicts as CSV, whole or not at all."""
    with atomic.replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _score_line(split, scores, kept):
    low, high = scores["interval"]
    line = (
        f"{split:8} accuracy {scores['accuracy']:.3f} (95 % {low:.3f} to {high:.3f}, n = {scores['n']})  "
        f"macro F1 {scores['macro_f1']:.3f}  top 3 {scores['top3']:.3f}  "
        f"calibration error {scores['calibration_error']:.3f}"
    )
    if kept and split == "dev":
        line += "  optimistic: dev chose the epoch"
    return line


def text_report(scores, table, classes, judged, *, note="", kept=None):
    """The report as text.

    Parameters
    ----------
    scores : dict
        `metrics.score` of each set that was scored; other entries are passed over.
    table : dict
        `metrics.per_genre` of the judged set.
    classes : list of str
        Genres.
    judged : str
        Which set the table is of.
    note : str
        Put on top.
    kept : int, optional
        The epoch that a training run kept.

    Returns
    -------
    text : str
        Ends in a newline.
    """
    lines = [note, ""] if note else []
    if kept:
        lines.append(f"Kept epoch {kept}, the best on dev; dev_last is the last epoch, which nothing was chosen by.")
    lines += [_score_line(split, found, kept) for split, found in scores.items() if isinstance(found, dict)]
    width = max(12, *(len(name) for name in classes))
    lines += ["", f"Per genre, on {judged}:", f"{'':{width}} precision  recall  f1-score  support"]
    for name in [*classes, "macro avg", "weighted avg"]:
        row = table[name]
        lines.append(
            f"{name:{width}} {row['precision']:9.3f} {row['recall']:7.3f} {row['f1-score']:9.3f} {row['support']:8.0f}"
        )
    return "\n".join(lines) + "\n"


def write_split_predictions(path, sets, classes):
    """Write ``predictions.csv``: a line a track with its genre, the predicted one, and all probabilities.

    Parameters
    ----------
    path : Path
        CSV to write.
    sets : dict of str to tuple
        For each split: paths, labels (n,), probabilities (n, n_classes).
    classes : list of str
        Genres.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["split", "file", "genre", "predicted", *classes])
    for split, (paths, y, probabilities) in sets.items():
        for file, label, p in zip(paths, y, probabilities, strict=True):
            writer.writerow([split, file, classes[label], classes[p.argmax()], *(f"{value:.4f}" for value in p)])
    html.write_text(path, text.getvalue())
