"""What a run folder tells people: plots, a text report, a page, predictions."""

import base64
import csv
import html
import io
import json
from pathlib import Path

import numpy as np

from render import atomic
from vision import metrics

# Okabe and Ito's colours: told apart by colour-blind people, and in print by their line styles.
TRAIN, DEV = ("#0072B2", "-"), ("#D55E00", "--")


def _figure(width, height):
    # The object interface: pyplot keeps every figure alive until it is told otherwise.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _save(figure, path):
    with atomic.replacing(path) as file:
        figure.savefig(file, format="png")


def plot_history(path, history, what, kept):
    """Draw accuracy or loss of train and dev over the epochs.

    Parameters
    ----------
    path : Path
        PNG to write.
    history : list of dict
        Rows of ``history.csv``.
    what : str
        ``"accuracy"`` or ``"loss"``.
    kept : int
        The kept epoch, marked.
    """
    figure = _figure(6.4, 4)
    axes = figure.add_subplot()
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(history) < 3 else None
    for split, (colour, style) in (("train", TRAIN), ("dev", DEV)):
        label = "train (while learning, dropout on)" if split == "train" else "dev"
        values = [row[f"{split}_{what}"] for row in history]
        axes.plot(epochs, values, style, color=colour, label=label, marker=marker)
    axes.axvline(kept, color="0.5", linewidth=1, linestyle=":", label=f"kept: epoch {kept}")
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy" if what == "accuracy" else "loss (cross entropy)")
    if what == "accuracy":
        axes.set_ylim(0, 1.02)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def plot_confusion(path, counts, classes, title):
    """Draw a confusion matrix: rows are true genres, colour the share of the row, numbers the counts.

    Parameters
    ----------
    path : Path
        PNG to write.
    counts : np.ndarray, shape (n_classes, n_classes), int
        From `metrics.confusion`.
    classes : list of str
        Genres.
    title : str
        Above the matrix.
    """
    n = len(classes)
    side = max(4.0, 0.5 * n + 2)
    figure = _figure(side + 1, side)
    axes = figure.add_subplot()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if n <= 40:
        for row, column in np.ndindex(n, n):
            if counts[row, column]:
                colour = "white" if share[row, column] > 0.5 else "black"
                axes.text(column, row, counts[row, column], ha="center", va="center", color=colour, fontsize=9)
    # Dollars would start a formula.
    names = [name.encode(errors="replace").decode().replace("$", r"\$") for name in classes]
    axes.set_xticks(range(n), names, rotation=45, ha="right")
    axes.set_yticks(range(n), names)
    axes.set_xlabel("predicted genre")
    axes.set_ylabel("true genre")
    axes.set_title(title)
    figure.colorbar(image, label="share of the true genre", shrink=0.8)
    _save(figure, path)


def _score_line(split, scores, kept):
    low, high = scores["interval"]
    line = (
        f"{split:8} accuracy {scores['accuracy']:.3f} (95 % {low:.3f} to {high:.3f}, n = {scores['n']})  "
        f"macro F1 {scores['macro_f1']:.3f}  top 3 {scores['top3']:.3f}"
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


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>melvision: {title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 46rem; padding: 1rem; color: #222; }}
img {{ max-width: 100%; height: auto; }}
pre {{ overflow-x: auto; background: #f5f5f5; padding: .7rem; font-size: .8rem; }}
.big {{ font-size: 1.4rem; }} .note {{ border-left: .3rem solid #D55E00; padding-left: .7rem; }}
</style></head><body>
<h1>{title}</h1>
{note}
<p class="big">{headline}</p>
{sections}
</body></html>
"""


def write_page(path, title, headline, sections, note=""):
    """Write a self-contained page.

    Parameters
    ----------
    path : Path
        HTML file to write.
    title, headline, note : str
        Plain text.
    sections : dict of str to list
        For each heading, in order: paths of PNG pictures, to be shown, and strings, as they are.
    """
    parts = []
    for heading, contents in sections.items():
        parts.append(f"<h2>{html.escape(heading)}</h2>")
        for content in contents:
            if isinstance(content, Path):
                alt = content.stem.replace("_", " ")
                parts.append(f'<img alt="{alt}" src="{_embed(content)}">')
            else:
                parts.append(f"<pre>{html.escape(content)}</pre>")
    note = f'<p class="note">{html.escape(note)}</p>' if note else ""
    title, headline = html.escape(title), html.escape(headline)
    write_text(path, PAGE.format(title=title, note=note, headline=headline, sections="\n".join(parts)))


def _embed(path):
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def write_predictions(path, sets, classes):
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
    write_text(path, text.getvalue())


def write_text(path, text):
    """Write text, whole or not at all."""
    with atomic.replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)


def write_run(out, *, classes, scores, history, about, judged, sets):
    """Write all reports of a training run into its folder.

    Parameters
    ----------
    out : Path
        The run folder.
    classes : list of str
        Genres.
    scores : dict
        What ``metrics.json`` holds.
    history : list of dict
        Rows of ``history.csv``.
    about : dict
        Settings and versions.
    judged : str
        ``"test"``, or ``"dev"`` where there is no test.
    sets : dict of str to tuple
        As for `write_predictions`.
    """
    _, y, probabilities = sets[judged]
    kept = scores["kept_epoch"]
    note = about["config"]["note"]
    table = metrics.per_genre(y, probabilities, classes)
    text = text_report(scores, table, classes, judged, note=note, kept=kept)
    write_text(out / "evaluation_report.txt", text)
    for what in ("accuracy", "loss"):
        plot_history(out / f"{what}_plot.png", history, what, kept)
    title = f"{judged} tracks, epoch {kept}"
    plot_confusion(out / "confusion_matrix.png", metrics.confusion(y, probabilities), classes, title)
    write_predictions(out / "predictions.csv", sets, classes)
    low, high = scores[judged]["interval"]
    headline = (
        f"{scores[judged]['accuracy']:.1%} of {scores[judged]['n']} {judged} tracks right "
        f"(95 % interval {low:.1%} to {high:.1%}; guessing one of {len(classes)} genres: {1 / len(classes):.0%})"
    )
    if judged == "dev":
        headline += ". Optimistic: the same tracks chose the epoch, and there was no test folder"
    sections = {
        "Where it fails": [out / "confusion_matrix.png"],
        "Scores": [text],
        "How it learned": [out / "accuracy_plot.png", out / "loss_plot.png"],
        "What it depends on": [json.dumps(about, indent=1)],
    }
    write_page(out / "report.html", out.resolve().name, headline, sections, note)
