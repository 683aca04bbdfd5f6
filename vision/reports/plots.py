"""Plots of a run, as PNG files.

Only matplotlib's `Figure` is used, never pyplot: no backend is chosen, no setting is changed, and a figure is
freed with the last reference to it. matplotlib is imported with the first figure, because that takes long.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from render import atomic
from render.cli import one_line
from vision.inference import timeline
from vision.reports.metrics import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Characters of a file's name, of up to four bytes, that its plots and tables keep: with an ending and a number more,
#: it may be too long for the disk, which takes 255 bytes.
MAX_NAME = 56

#: Colours of Okabe and Ito, which colour-blind people can tell apart; the line styles serve prints in grey.
TRAIN, DEV, WHOLE = ("#0072B2", "-"), ("#D55E00", "--"), ("#117733", "-.")

#: Colours and lines of the experts that are fitted once.
FITTED: dict[str, tuple[str, Any]] = {"texture": ("#CC79A7", ":"), "musicnn": ("#E69F00", (0, (5, 1, 1, 1, 1, 1)))}

#: The same authors' colours and styles in turn, for any number of curves: the first 28 differ.
COLOURS, STYLES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"), ("-", "--", "-.", ":")

#: A confusion matrix of more genres than so many shows the most confused: it would take gigabytes.
MOST_SHOWN_GENRES = 40

#: A timeline shows so many genres, or all that it predicts somewhere, and the others in one row.
TIMELINE_GENRES = 5

#: A stretch of a timeline gets its name from this share of the width on: a shorter one has no room for it.
NAMED_STRETCH = 0.09


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure.

    Parameters
    ----------
    width, height : float, in inches
        At 120 dots an inch.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure, atomically: as PNG, SVG or PDF by the ending of its name."""
    # Names may be of any script, and the font covers few: a missing glyph is drawn as a box, without a warning. On a
    # busy machine matplotlib also warns of a legend that took long to place.
    with warnings.catch_warnings(), atomic.replacing(path) as file:
        warnings.filterwarnings("ignore", message="Glyph .* missing from font|Creating legend with loc")
        figure.savefig(file, format=Path(path).suffix[1:] or "png")


def plain_text(text: str, longest: int = 30) -> str:
    """Make any text safe to draw with matplotlib.

    Parameters
    ----------
    text : str
        A file name or a genre; may hold line breaks, dollar signs and undecodable bytes.
    longest : int
        Characters to keep; what is longer ends in an ellipsis.

    Returns
    -------
    text : str
        One line of valid Unicode in which no dollar sign starts a formula.
    """
    text = one_line(text.encode(errors="replace").decode())
    text = text if len(text) <= longest else text[: longest - 3] + "..."
    return text.replace("$", r"\$")


def plot_history(path: str | Path, history: Sequence[Mapping[str, Any]], quantity: str, kept: int) -> None:
    """Plot accuracy or loss over the epochs: the network alone on train and dev, and the whole model on dev.

    Both curves of the network are of clean pictures and the same windows. Runs of earlier versions have another curve
    of train: of the epoch itself, with dropout and augmentation.

    Parameters
    ----------
    path : str or Path
        PNG to write.
    history : list of dict
        Rows of ``history.csv``.
    quantity : str
        ``"accuracy"`` or ``"loss"``.
    kept : int
        The kept epoch, marked by a line.
    """
    figure = new_figure(6.4, 4)
    axes = figure.add_subplot()
    alone = any(f"network_dev_{quantity}" in row for row in history)
    whole = any(row.get(f"dev_{quantity}") != row.get(f"network_dev_{quantity}") for row in history)
    curves: list[tuple[str, tuple[str, Any], str]]
    if alone:
        curves = [
            (f"network_train_{quantity}", TRAIN, "network, train"),
            (f"network_dev_{quantity}", DEV, "network, dev"),
        ]
        # What is not trained by epochs is a flat line.
        curves += [(f"{name}_dev_{quantity}", style, f"{name}, dev") for name, style in FITTED.items()]
        curves += [(f"dev_{quantity}", WHOLE, "all experts, dev")] if whole else []
    else:
        curves = [
            (f"train_{quantity}", TRAIN, "train (with dropout and augmentation)"),
            (f"dev_{quantity}", DEV, "dev"),
        ]
    for name, (colour, style), label in curves:
        points = [(row["epoch"], row[name]) for row in history if name in row]
        if points:
            marker = "o" if len(points) < 3 else None
            axes.plot(*zip(*points, strict=True), linestyle=style, color=colour, label=label, marker=marker)
    _label_epochs(axes, quantity)
    _label_lines(axes)
    axes.axvline(kept, color="0.5", linewidth=1, linestyle=":")
    axes.annotate(f"kept: epoch {kept}", (kept, 1.01), xycoords=("data", "axes fraction"), fontsize=8, ha="center")
    save_figure(figure, path)


def _label_lines(axes: Axes) -> None:
    """Write the name of each curve at its right end, in its colour, so that nobody has to look it up."""
    low, high = axes.get_ylim()
    least = 0.055 * (high - low)
    named = [(float(np.asarray(line.get_ydata())[-1]), line) for line in axes.lines]
    at = -np.inf
    places = []
    for y, _ in sorted(named, key=lambda curve: curve[0]):  # pushed up where two would overlap
        at = max(y, at + least)
        places.append(at)
    # What was pushed over the top goes down again, and the others with it.
    for number in range(len(places) - 1, -1, -1):
        limit = high if number == len(places) - 1 else places[number + 1] - least
        places[number] = min(places[number], limit)
    for (_, line), place in zip(sorted(named, key=lambda curve: curve[0]), places, strict=True):
        look: dict[str, Any] = {"color": line.get_color(), "fontsize": 8, "va": "center", "annotation_clip": False}
        axes.annotate(str(line.get_label()), (1.015, place), xycoords=("axes fraction", "data"), **look)


def plot_spread(path: str | Path, parts: Sequence[tuple[str, float, int]], interval: Sequence[float] | None) -> None:
    """Plot the accuracy of each fold, seed or expert as a dot with its 95 % interval (Wilson's).

    Parameters
    ----------
    path : str or Path
        PNG to write.
    parts : sequence of (str, float, int)
        Name, accuracy and number of tracks of each, from top to bottom.
    interval : (float, float), optional
        95 % interval of the mean of all, drawn as a band; their mean is a line where it is given.
    """
    figure = new_figure(6.4, 1.1 + 0.3 * len(parts))
    axes = figure.add_subplot()
    accuracies = np.array([accuracy for _, accuracy, _ in parts])
    ends = np.array([wilson_interval(round(accuracy * n), n) for _, accuracy, n in parts])
    rows = np.arange(len(parts))
    if interval is not None:
        axes.axvspan(*interval, color=TRAIN[0], alpha=0.13, linewidth=0, label="95 % interval of the mean")
        axes.axvline(accuracies.mean(), color=TRAIN[0], linewidth=1, label="mean")
    bars = np.clip([accuracies - ends[:, 0], ends[:, 1] - accuracies], 0, 1)
    axes.errorbar(accuracies, rows, xerr=bars, fmt="o", color=TRAIN[0], ecolor="0.6", elinewidth=1, label="95 %, each")
    for row, accuracy in enumerate(accuracies):
        axes.annotate(f"{accuracy:.3f}", (accuracy, row), (0, 5), textcoords="offset points", fontsize=7, ha="center")
    axes.set_yticks(rows, [plain_text(name) for name, _, _ in parts], fontsize=8)
    axes.set(xlim=(0, 1), ylim=(len(parts) - 0.4, -0.7))
    axes.set_xlabel("accuracy")
    axes.grid(alpha=0.3, axis="x")
    axes.spines[["top", "right", "left"]].set_visible(False)
    if interval is not None:
        figure.legend(loc="outside lower center", frameon=False, fontsize=8, ncols=3)
    save_figure(figure, path)


def _label_epochs(axes: Axes, quantity: str, where: str = "") -> None:
    """Label the axes of curves over epochs; `quantity` as of `plot_history`."""
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"accuracy{where}" if quantity == "accuracy" else f"loss{where} (cross entropy)")
    if quantity == "accuracy":
        axes.set_ylim(0, 1.02)
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)


def plot_curves(path: str | Path, histories: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], column: str) -> None:
    """Plot one column of ``history.csv`` over the epochs, for several runs in one picture.

    Parameters
    ----------
    path : str or Path
        PNG to write.
    histories : dict of str to list of list of dict
        For each run, by its name, the rows of ``history.csv`` of each of its models. Rows without the column are left
        out.
    column : str
        ``"dev_accuracy"`` or ``"dev_loss"``.
    """
    figure = new_figure(7.4, 4.4)
    axes = figure.add_subplot()
    for number, (name, of_run) in enumerate(histories.items()):
        look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number % len(STYLES)]}
        label: str | None = plain_text(name, 50)
        for history in of_run:
            points = [(row["epoch"], row[column]) for row in history if column in row]
            if points:
                # A single point is no line.
                marker = "o" if len(points) < 3 else None
                axes.plot(*zip(*points, strict=True), label=label, marker=marker, linewidth=1.4, **look)
                label = None  # once a run
    _label_epochs(axes, column.removeprefix("dev_"), " on dev")
    figure.legend(loc="outside lower center", frameon=False, fontsize=8, ncols=2)
    save_figure(figure, path)


def plot_reliability(path: str | Path, curve: Mapping[str, Any]) -> None:
    """Plot accuracy against predicted probability, with 95 % intervals (Wilson's).

    Parameters
    ----------
    path : str or Path
        PNG to write.
    curve : dict
        From `metrics.reliability`.
    """
    figure = new_figure(5, 4.4)
    axes = figure.add_subplot()
    confidence, accuracy, n = curve["confidence"], np.array(curve["accuracy"]), curve["n"]
    correct = [round(share * count) for share, count in zip(accuracy, n, strict=True)]
    low, high = np.array([wilson_interval(k, count) for k, count in zip(correct, n, strict=True)]).T
    # Clipped: rounding can put the end of an interval on the wrong side of an accuracy of 0 or 1.
    bars = np.clip([accuracy - low, high - accuracy], 0, 1)
    axes.plot([0, 1], [0, 1], ":", color="0.5", label="perfect calibration")
    axes.errorbar(confidence, accuracy, bars, fmt="o-", color=TRAIN[0], capsize=3, label="model, 95 % interval")
    for x, y, count in zip(confidence, accuracy, n, strict=True):
        # Below right of the point, or above the axis, whose labels it would cover.
        axes.annotate(str(count), (x, y), (6, 4 if y < 0.05 else -12), textcoords="offset points", fontsize=8)
    axes.set(xlim=(0, 1.03), ylim=(-0.02, 1.03))
    axes.set_xlabel("predicted probability")
    axes.set_ylabel("accuracy")
    axes.set_title(f"Calibration error {curve['error']:.3f} (numbers: tracks a bin)", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def plot_confusion(path: str | Path, counts: np.ndarray, classes: Sequence[str], title: str) -> None:
    """Plot a confusion matrix: colours are shares of the row, numbers are counts.

    Of more than `MOST_SHOWN_GENRES`, it shows those that are most often taken for another or another for them.

    Parameters
    ----------
    path : str or Path
        PNG to write.
    counts : np.ndarray, shape (n_classes, n_classes), int
        From `metrics.confusion`: a row a true genre.
    classes : sequence of str
        Genres.
    title : str
        Above the matrix.
    """
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(classes) > MOST_SHOWN_GENRES:
        wrong = counts - np.diag(np.diag(counts))
        shown = np.sort(np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[:MOST_SHOWN_GENRES])
        title = f"{title}: the {MOST_SHOWN_GENRES} most confused of {len(classes)} genres"
        counts, share = counts[np.ix_(shown, shown)], share[np.ix_(shown, shown)]
        classes = [classes[label] for label in shown]
    n = len(classes)
    side = max(4.0, 0.5 * n + 2)
    figure = new_figure(side + 1, side)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(n, n):
        if counts[row, column]:
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
    names = [plain_text(name) for name in classes]
    axes.set_xticks(range(n), names, rotation=45, ha="right")
    axes.set_yticks(range(n), names)
    axes.set_xlabel("predicted genre")
    axes.set_ylabel("true genre")
    axes.set_title(plain_text(title, 100))
    figure.colorbar(image, label="share of the true genre", shrink=0.8)
    save_figure(figure, path)


def _time_ticks(start: float, end: float) -> tuple[np.ndarray, list[str]]:
    """At most eleven ticks at round times, in seconds, and their labels."""
    span = end - start
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
    step = next((step for step in steps if span / step <= 10), span / 10)
    ticks = np.arange(np.ceil(start / step), end / step + 1e-6) * step
    return ticks, [timeline.clock(tick, 0 if step >= 1 else 1, hours=bool(end >= 3600)) for tick in ticks]


def plot_timeline(
    path: str | Path, times: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], title: str
) -> None:
    """Plot the probabilities of genres over time, a row a genre, and the predicted one of each part as a line.

    Parameters
    ----------
    path : str or Path
        PNG to write.
    times : np.ndarray, shape (n, 2), in seconds
        Start and end of each window; from `timeline.timeline`.
    probabilities : np.ndarray, shape (n, n_classes)
        Of each window.
    classes : sequence of str
        Genres. Those that are predicted somewhere and the likeliest overall have a row each, the others one together.
    title : str
        Above the plot.
    """
    segments, edges = timeline.segments(times, probabilities), timeline.edges(times)
    labels = {label for _, _, label, _ in segments}
    order = sorted(range(len(classes)), key=lambda k: (k not in labels, -probabilities[:, k].mean()))
    order, others = order[: max(TIMELINE_GENRES, len(labels))], order[max(TIMELINE_GENRES, len(labels)) :]
    order.sort(key=lambda k: -probabilities[:, k].mean())
    rows, names = [probabilities[:, k] for k in order], [plain_text(classes[k]) for k in order]
    if others:
        rows.append(probabilities[:, others].sum(axis=1))
        names.append(f"{len(others)} others")
    figure = new_figure(9, 1.7 + 0.33 * len(rows))
    axes = figure.add_subplot()
    row_edges = np.arange(len(rows) + 1) - 0.5
    mesh = axes.pcolormesh(edges, row_edges, np.array(rows), cmap="Blues", vmin=0, vmax=1)
    line: dict[str, Any] = {"color": DEV[0], "linewidth": 2.5}
    for start, end, label, p in segments:
        row = order.index(label)
        axes.plot([start, end], [row + 0.36, row + 0.36], solid_capstyle="butt", **line)
        if end - start >= NAMED_STRETCH * (edges[-1] - edges[0]):
            text = plain_text(classes[label], 18)
            colour = "white" if p > 0.55 else "black"
            axes.text((start + end) / 2, row - 0.08, text, ha="center", va="center", color=colour, fontsize=8)
    axes.plot([], [], label="predicted genre", **line)
    for boundary in row_edges[1:-1]:
        axes.axhline(boundary, color="0.85", linewidth=0.6)
    axes.set_yticks(range(len(rows)), names)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xticks(*_time_ticks(edges[0], edges[-1]))
    axes.set_xlabel("time (hours:minutes:seconds)" if edges[-1] >= 3600 else "time (minutes:seconds)")
    axes.set_title(plain_text(title, 60), fontsize=10, loc="left")
    figure.legend(loc="outside lower right", frameon=False, fontsize=8)
    figure.colorbar(mesh, label="probability", aspect=12)
    save_figure(figure, path)
