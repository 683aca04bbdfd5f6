"""Plots of a run, as PNG files."""

import warnings

import numpy as np

from render import atomic
from render.cli import one_line
from vision.inference import timeline

# Okabe and Ito's colours: told apart by colour-blind people, and in print by their line styles.
TRAIN, DEV = ("#0072B2", "-"), ("#D55E00", "--")


def _figure(width, height):
    # The object interface: pyplot keeps every figure alive until it is told otherwise.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _save(figure, path):
    # Names may be of any script; the font has a few. A box stands for what it lacks.
    with warnings.catch_warnings(), atomic.replacing(path) as file:
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
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


def plot_reliability(path, found):
    """Draw how often the model is right when it is so sure, with 95 % intervals (Wilson's).

    Parameters
    ----------
    path : Path
        PNG to write.
    found : dict
        From `metrics.reliability`.
    """
    from scipy.stats import binomtest

    figure = _figure(5, 4.4)
    axes = figure.add_subplot()
    confidence, accuracy, n = found["confidence"], np.array(found["accuracy"]), found["n"]
    right = [round(share * count) for share, count in zip(accuracy, n, strict=True)]
    intervals = [binomtest(k, count).proportion_ci(method="wilson") for k, count in zip(right, n, strict=True)]
    reach = [[share - i.low for share, i in zip(accuracy, intervals, strict=True)]]
    reach += [[i.high - share for share, i in zip(accuracy, intervals, strict=True)]]
    axes.plot([0, 1], [0, 1], ":", color="0.5", label="as sure as it is right")
    axes.errorbar(confidence, accuracy, np.clip(reach, 0, 1), fmt="o-", color=TRAIN[0], capsize=3, label="the model")
    for x, y, count in zip(confidence, accuracy, n, strict=True):
        axes.annotate(count, (x, y), (6, -12), textcoords="offset points", fontsize=8)
    axes.set(xlim=(0, 1.03), ylim=(-0.02, 1.03))
    axes.set_xlabel("probability of the likeliest genre")
    axes.set_ylabel("share of tracks that are right")
    axes.set_title(f"Calibration error {found['error']:.3f} (numbers: tracks)", fontsize=10)
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


def plot_timeline(path, times, probabilities, classes, title):
    """Draw the genres over time: a row a genre, the darker the likelier, and a line along each stretch of one.

    Parameters
    ----------
    path : Path
        PNG to write.
    times, probabilities : np.ndarray, shapes (n, 2) and (n, n_classes)
        From `timeline.timeline`.
    classes : list of str
        Genres. Of more than 20, those of the stretches and the next likeliest are shown.
    title : str
        Above the plot.
    """
    stretches, edges = timeline.segments(times, probabilities), timeline.edges(times)
    chosen = {label for _, _, label, _ in stretches}
    order = sorted(range(len(classes)), key=lambda k: (k not in chosen, -probabilities[:, k].max()))
    order = order[: max(20, len(chosen))]
    order.sort(key=lambda k: -probabilities[:, k].mean())
    figure = _figure(9, 1.7 + 0.27 * len(order))
    axes = figure.add_subplot()
    at = np.arange(len(order) + 1) - 0.5
    mesh = axes.pcolormesh(edges, at, probabilities[:, order].T, cmap="Blues", vmin=0, vmax=1)
    for start, end, label, _ in stretches:
        row = order.index(label)
        axes.plot([start, end], [row, row], color=DEV[0], linewidth=2.5, solid_capstyle="butt")
    axes.plot([], [], color=DEV[0], linewidth=2.5, label="genre of the stretch")
    for boundary in at[1:-1]:
        axes.axhline(boundary, color="0.85", linewidth=0.6)
    axes.set_yticks(range(len(order)), [_plain(classes[label]) for label in order])
    axes.set(xlim=(edges[0], edges[-1]), ylim=(len(order) - 0.5, -0.5))
    span = edges[-1] - edges[0]
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
    step = next((step for step in steps if span / step <= 10), span / 10)
    ticks = np.arange(np.ceil(edges[0] / step), edges[-1] / step + 1e-6) * step
    hours = bool(edges[-1] >= 3600)
    axes.set_xticks(ticks, [timeline.clock(tick, 0 if step >= 1 else 1, hours=hours) for tick in ticks])
    axes.set_xlabel("time (hours:minutes:seconds)" if hours else "time (minutes:seconds)")
    hidden = f", {len(order)} of {len(classes)} genres" if len(order) < len(classes) else ""
    axes.set_title(_plain(title, 60) + hidden, fontsize=10, loc="left")
    figure.legend(loc="outside lower right", frameon=False, fontsize=8)
    figure.colorbar(mesh, label="probability", aspect=12)
    _save(figure, path)


def _plain(name, longest=30):
    """A name that matplotlib can draw: no formula, no byte that is no text, one line that has room."""
    name = one_line(name.encode(errors="replace").decode())
    name = name if len(name) <= longest else name[: longest - 3] + "..."
    return name.replace("$", r"\$")
