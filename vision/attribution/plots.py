"""Plots of what a prediction is based on: one plot a track, and the frequency bands that matter for each genre."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from render import figure, png
from render.settings import Settings
from vision.attribution.explanation import Explanation, reason
from vision.reports.metrics import t_interval
from vision.reports.plots import MAX_NAME, new_figure, plain_text, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec

#: Colours of Okabe and Ito: evidence for a genre, evidence against it (also hatched), and heat over a grey picture.
FOR, AGAINST, HEAT = "#0072B2", "#D55E00", "#E69F00"

#: Grey that covers what is no evidence, and how much of it; magma has no grey.
COVER, COVERED = 120, 0.88

#: Columns of a contour at most: the map is smooth, and a song of an hour has 46 000 columns.
CONTOUR_COLUMNS = 1000

#: Of two tick labels closer than this, as a fraction of the axis, one is left out.
CLOSEST = 0.06

#: Genres whose probabilities are shown: the most probable ones.
BARS = 20


def _label_frequencies(axes: Axes, settings: Settings | None) -> None:
    """Label a frequency axis that goes from 0, the lower edge of the picture, to 1, the upper edge."""
    axes.set_ylim(0, 1)
    if settings is None:
        # Drawn by another program: its frequency range is unknown.
        axes.set_yticks([0, 1], ["low", "high"])
        axes.set_ylabel("frequency")
    elif settings.kind == "features":
        bands = png.describe(settings, {}, "magma")["bands"]
        edges = np.cumsum([0] + [band["rows"] for band in bands])
        places = (edges[:-1] + edges[1:]) / 2 / edges[-1]
        axes.set_yticks(places, [band["name"].replace("_", " ") for band in bands], fontsize=7)
    else:
        labels: dict[float, str] = {}
        for place, hz in reversed(list(zip(*figure.frequency_ticks(settings), strict=True))):
            share = (place + 0.5) / settings.n_mels
            if all(other - share > CLOSEST for other in labels):
                labels[share] = f"{hz:g}"
        axes.set_yticks(list(labels), list(labels.values()))
        axes.set_ylabel("frequency (Hz)")


def _picture(axes: Axes, explanation: Explanation, heat: np.ndarray | None = None) -> None:
    """Draw the picture. With a heat map it is grey, under the heat and a contour where that is one half."""
    pixels, start, end = explanation.x.numpy(), explanation.start, explanation.end
    place: dict[str, Any] = {"aspect": "auto", "extent": (start, end, 0, 1)}
    if heat is None:
        image = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
        axes.imshow(image, cmap="magma", vmin=0, vmax=255, **place)
    else:
        axes.imshow(pixels.mean(axis=0), cmap="gray", vmin=0, vmax=330, **place)
        overlay = np.empty((*heat.shape, 4), np.float32)
        overlay[..., :3] = [int(HEAT[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        overlay[..., 3] = 0.75 * heat
        axes.imshow(overlay, **place)
        if heat.max() > 0.5 > heat.min():
            thin = heat[:, :: -(-heat.shape[1] // CONTOUR_COLUMNS)]
            n, m = thin.shape
            times = start + (np.arange(m) + 0.5) / m * (end - start)
            axes.contour(times, 1 - (np.arange(n) + 0.5) / n, thin, [0.5], colors="white", linewidths=1.2)
    _label_frequencies(axes, explanation.settings)


def _steps(axes: Axes, values: np.ndarray, edges: np.ndarray, *, horizontal: bool) -> None:
    """Draw evidence as bars between edges: for the genre in blue, against it in orange and hatched."""
    for colour, hatch, part in ((FOR, None, np.maximum(values, 0)), (AGAINST, "////", np.minimum(values, 0))):
        axes.stairs(
            part, edges, orientation="horizontal" if horizontal else "vertical", baseline=0, fill=True,
            facecolor=colour, edgecolor="white", hatch=hatch, linewidth=0,
        )  # fmt: skip
    (axes.axvline if horizontal else axes.axhline)(0, color="0.3", linewidth=0.8)
    # The axis ends at 0.25 bits or more, so that a flat profile looks flat.
    limit = max(0.25, 1.1 * np.abs(values).max())
    (axes.set_xlim if horizontal else axes.set_ylim)(min(-0.1 * limit, 1.1 * values.min()), limit)
    axes.grid(alpha=0.3)


def _bars(axes: Axes, explanation: Explanation) -> None:
    """Draw the probabilities of the most probable genres, and of the explained one."""
    probabilities, explained = explanation.probabilities, explanation.label
    order = np.argsort(-probabilities, kind="stable")[:BARS]
    if explained not in order:
        order[-1] = explained
    rows = range(len(order))
    axes.barh(rows, probabilities[order], color=[FOR if label == explained else "0.7" for label in order])
    for row, label in enumerate(order):
        p = probabilities[label]
        inside: dict[str, Any] = {"ha": "right", "color": "white" if label == explained else "black"} if p > 0.8 else {}
        axes.text(p - 0.02 if inside else p + 0.02, row, f"{p:.2f}", va="center", fontsize=8, **inside)
    axes.set_yticks(rows, [plain_text(explanation.classes[label]) for label in order], fontsize=8)
    axes.set(xlim=(0, 1))
    axes.set_title("probability", fontsize=10)
    axes.invert_yaxis()


def _note(axes: Axes, text: str) -> None:
    axes.axis("off")
    axes.text(0, 1, text, va="top", fontsize=8, transform=axes.transAxes)


def plot_track(path: str | Path, explanation: Explanation) -> None:
    """Plot one track: its picture, the evidence by place, band and time, and the probabilities.

    Parameters
    ----------
    path : str or Path
        PNG to write.
    explanation : Explanation
        What to plot.
    """
    rows = 3 + (explanation.cam is not None)
    drawing = new_figure(11, 2.6 * rows - 0.6)
    grid = drawing.add_gridspec(rows, 2, width_ratios=[3.2, 1], height_ratios=[1, 1, 0.45, 1][:rows])
    drawing.suptitle(_title(explanation))

    picture = drawing.add_subplot(grid[0, 0])
    _picture(picture, explanation)
    for join in explanation.joins:  # small marks, so that nobody takes a seam for music
        picture.axvline(join, ymin=0.97, color="white", linewidth=1)
    marked = "; marks above: where its windows begin" if explanation.joins else ""
    picture.set_title(f"input of the model{marked}", fontsize=10)
    _bars(drawing.add_subplot(grid[0, 1]), explanation)
    # The panels of the left column share the time axis; the lowest one is labelled.
    left = [picture, *_plot_occlusion(drawing, grid, picture, explanation)]
    if explanation.cam is not None:
        left.append(_plot_cam(drawing, grid, picture, explanation))
    for axes in left[:-1]:
        axes.tick_params(labelbottom=False)
    left[-1].set_xlabel("time (s)")
    save_figure(drawing, path)


def plot_simple(path: str | Path, explanation: Explanation) -> None:
    """Plot one track for a slide: its spectrogram, and once more with all but the evidence under grey.

    Parameters
    ----------
    path : str or Path
        File to write.
    explanation : Explanation
        What to plot.
    """
    drawing = new_figure(9, 5.2)
    drawing.suptitle(_title(explanation))
    whole, evidence = drawing.subplots(2, 1, sharex=True)
    _picture(whole, explanation)
    whole.set_title("spectrogram", fontsize=10)
    _picture(evidence, explanation)
    cover = np.full((*explanation.heat.shape, 4), COVER / 255, np.float32)
    cover[..., 3] = COVERED * (1 - explanation.heat)
    place: dict[str, Any] = {"aspect": "auto", "extent": (explanation.start, explanation.end, 0, 1)}
    evidence.imshow(cover, **place)
    genre = plain_text(explanation.classes[explanation.label])
    none = "no single place" if not explanation.heat.any() else "what is left in colour"
    evidence.set_title(f"evidence for {genre}: {none}", fontsize=10)
    evidence.set_xlabel("time (s)")
    save_figure(drawing, path)


def _title(explanation: Explanation) -> str:
    """What was predicted and why, in a sentence, and the track."""
    predicted = int(explanation.probabilities.argmax())
    genre, p = plain_text(explanation.classes[explanation.label]), explanation.probabilities
    why = reason(explanation)
    if predicted == explanation.label:
        sentence = f"{genre} ({p[predicted]:.0%}), {why}"
    else:
        sentence = f"{plain_text(explanation.classes[predicted])} ({p[predicted]:.0%}). What speaks for {genre} "
        sentence += f"({p[explanation.label]:.0%}): {why.removeprefix('mostly for ').removeprefix('for ')}"
    return f"{sentence}\n{plain_text(explanation.name[:MAX_NAME], MAX_NAME)}"


def _plot_occlusion(drawing: Figure, grid: GridSpec, picture: Axes, explanation: Explanation) -> list[Axes]:
    """Add the rows of the occlusion map and of the evidence by time; returns their left panels."""
    genre = plain_text(explanation.classes[explanation.label])
    heat = drawing.add_subplot(grid[1, 0], sharex=picture)
    _picture(heat, explanation, explanation.heat)
    none = "" if explanation.heat.any() else ": no single place matters"
    heat.set_title(f"evidence for {genre} in the whole model (occlusion){none}", fontsize=10)
    bands = drawing.add_subplot(grid[1, 1])
    edges = np.linspace(0, 1, len(explanation.bands) + 1)
    _steps(bands, explanation.bands[::-1], edges, horizontal=True)
    _label_frequencies(bands, explanation.settings)
    bands.set_title("lost without this band (bits)", fontsize=10)

    times = drawing.add_subplot(grid[2, 0], sharex=picture)
    edges = np.linspace(explanation.start, explanation.end, len(explanation.times) + 1)
    _steps(times, explanation.times, edges, horizontal=False)
    times.set_ylabel("bits")
    times.set_title("evidence lost without this time", fontsize=10)
    key = f"1 bit: the odds of {genre} halve\nblue: evidence for it\nhatched: evidence against it\n"
    _note(drawing.add_subplot(grid[2, 1]), key + "white line: half of the maximum")
    return [heat, times]


def _plot_cam(drawing: Figure, grid: GridSpec, picture: Axes, explanation: Explanation) -> Axes:
    """Add the row of Grad-CAM; returns its left panel."""
    genre = plain_text(explanation.classes[explanation.label])
    cam = drawing.add_subplot(grid[3, 0], sharex=picture)
    _picture(cam, explanation, explanation.cam)
    cam.set_title(f"Grad-CAM for {genre}: the convolutional layers alone", fontsize=10)
    key = "Where the last convolutional\nfeature maps support the genre.\n"
    if explanation.share < 1:
        key += f"They contribute {explanation.share:.0%} of the\nprediction; the rest comes from\n"
        key += "experts that Grad-CAM does not\nlook into. The occlusion map above\ncovers them all."
    _note(drawing.add_subplot(grid[3, 1]), key)
    return cam


def plot_bands(
    path: str | Path, genres: Mapping[str, Mapping[str, Any]], settings: Settings | None, title: str
) -> None:
    """Plot how much each band matters for each genre: means over tracks with their 95 % intervals.

    Parameters
    ----------
    path : str or Path
        PNG to write.
    genres : dict of str to dict
        From `summarise`, by genre.
    settings : Settings or None
        How all the tracks were drawn; None where that is unknown or differs.
    title : str
        Above all.
    """
    n_columns = min(5, len(genres))
    n_rows = -(-len(genres) // n_columns)
    drawing = new_figure(max(4.2, 2.3 * n_columns + 0.6), 2.9 * n_rows + 0.9)
    drawing.suptitle(plain_text(title, 60), fontsize=11)
    panels = drawing.subplots(n_rows, n_columns, sharey=True, squeeze=False)
    for axes in panels.flat[len(genres) :]:
        axes.remove()
    for axes, (genre, profile) in zip(panels.flat, genres.items(), strict=False):
        mean = profile["mean"]
        edges = np.linspace(0, 1, len(mean) + 1)
        _steps(axes, mean, edges, horizontal=True)
        middles = (edges[:-1] + edges[1:]) / 2
        if profile["n"] > 1:
            bars = [mean - profile["low"], profile["high"] - mean]
            axes.errorbar(mean, middles, xerr=bars, fmt="none", ecolor="black", elinewidth=1, capsize=1.5)
        axes.set_title(f"{plain_text(genre)} (n = {profile['n']})", fontsize=10)
        axes.tick_params(labelsize=8)
        # An axis of its own: where little decides, that little is to be seen.
        ends = np.concatenate([profile[end] for end in ("mean", "low", "high")])
        axes.set_xlim(min(1.1 * np.nanmin(ends), -0.1), max(1.1 * np.nanmax(ends), 0.25))
    for axes in panels[:, 0]:
        _label_frequencies(axes, settings)
    mean = "mean over tracks and 95 % interval" if any(one["n"] > 1 for one in genres.values()) else "of one track each"
    label = "evidence lost without the band (bits; 1: the odds halve)", f"{mean}; each genre on its own axis"
    drawing.supxlabel((", " if n_columns > 3 else "\n").join(label), fontsize=10)
    save_figure(drawing, path)


def summarise(profiles: Sequence[np.ndarray]) -> dict[str, Any]:
    """Mean of the tracks' profiles and its 95 % interval.

    Parameters
    ----------
    profiles : sequence of np.ndarray, shape (n_bands,), in bits
        Evidence lost without each band, a profile a track.

    Returns
    -------
    profile : dict
        ``n``, and ``mean``, ``low`` and ``high``, each of shape (n_bands,); the interval is that of
        `metrics.t_interval`, NaN for one track.
    """
    stacked = np.stack(profiles).astype(np.float64)
    low, high = t_interval(stacked)
    return {"n": len(stacked), "mean": stacked.mean(axis=0), "low": low, "high": high}


def track_path(folder: str | Path, path: Path, taken: set[Path], genre: str = "", kind: str = "png") -> Path:
    """Choose the file for a track's plot: neither another track's nor a picture of the user's.

    Parameters
    ----------
    folder : str or Path
        Output folder.
    path : Path
        The track.
    taken : set of Path
        Files chosen before; the new one is added.
    genre : str
        Sub-folder, if not empty.
    kind : str
        Ending.

    Returns
    -------
    target : Path
        ``<folder>/<genre>/<name>.explained.png``, or another ending
    """
    stem, whole = path.stem[:MAX_NAME], path.name[:MAX_NAME]
    for name in (stem, whole, *(f"{whole}-{number}" for number in range(2, len(taken) + 3))):
        target = Path(folder, genre, f"{name}.explained.{kind}")
        if target not in taken:
            taken.add(target)
            return target
    raise AssertionError("unreachable: one more name is tried than can be taken")
