"""Plots of what an answer comes from: one picture a track, and the bands of each genre."""

import dataclasses
from pathlib import Path

import numpy as np

from render import figure, png
from render.settings import Settings
from vision.reports.plots import _figure, _plain, _save

#: Okabe and Ito's: what speaks for a genre, what against it (also hatched), and heat over a grey picture.
FOR, AGAINST, HEAT = "#0072B2", "#D55E00", "#E69F00"

#: Columns of a contour at most: it follows a smooth map, and a song of an hour has 46 000.
CONTOUR_COLUMNS = 1000

#: Frequencies closer than this share of the axis are not both named.
CLOSEST = 0.06

#: Genres whose probabilities are shown, the likeliest ones.
BARS = 20


@dataclasses.dataclass
class Explanation:
    """What is known of one track's answer.

    Attributes
    ----------
    name : str
        Of the track.
    x : torch.Tensor, shape (channels, size, width), uint8
        Its picture.
    start, end : float, in seconds
        What the picture spans.
    settings : Settings or None
        How it was drawn; None where that is unknown.
    classes : list of str
        Genres.
    probabilities : np.ndarray, shape (n_classes,)
        Of each genre.
    label : int
        The genre explained.
    heat : np.ndarray, shape (size, width), in [0, 1]
        From `attribution.look`.
    cam : np.ndarray, shape (size, width), in [0, 1], or None
        From `attribution.grad_cam`; None where there are no convolutions to explain.
    share : float, in (0, 1]
        How much of the answer the convolutions give.
    bands, times : np.ndarray, shapes (n_bands,) and (n_times,)
        Evidence lost in bits without the band, the highest first, and without the time.
    """

    name: str
    x: object
    start: float
    end: float
    settings: Settings | None
    classes: list
    probabilities: np.ndarray
    label: int
    heat: np.ndarray
    cam: np.ndarray | None
    share: float
    bands: np.ndarray
    times: np.ndarray


def _label_frequencies(axes, settings):
    """Label an axis that goes from 0, the lowest edge of the picture, to 1, the highest."""
    axes.set_ylim(0, 1)
    if settings is None:
        # Another program drew it: which frequencies it shows is not known.
        axes.set_yticks([0, 1], ["low", "high"])
        axes.set_ylabel("frequency")
    elif settings.kind == "features":
        bands = png.describe(settings, {}, "magma")["bands"]
        edges = np.cumsum([0] + [band["rows"] for band in bands])
        places = (edges[:-1] + edges[1:]) / 2 / edges[-1]
        axes.set_yticks(places, [band["name"].replace("_", " ") for band in bands], fontsize=7)
    else:
        named = {}
        for place, hz in reversed(list(zip(*figure.frequency_ticks(settings), strict=True))):
            share = (place + 0.5) / settings.n_mels
            if all(other - share > CLOSEST for other in named):
                named[share] = f"{hz:g}"
        axes.set_yticks(list(named), list(named.values()))
        axes.set_ylabel("frequency (Hz)")


def frequencies(settings, n_bands):
    """Edges of bands of equal height, in Hz, the lowest first, shape (n_bands + 1,); None where unknown."""
    if settings is None or settings.kind == "features":
        return None
    shares = np.linspace(0, 1, n_bands + 1)
    return np.array([figure.frequency_at(share * settings.n_mels - 0.5, settings) for share in shares])


def _picture(axes, found, heat=None):
    """Draw the picture; under a heat map in grey, and a line around where that is above one half."""
    pixels = found.x.numpy()
    place = {"aspect": "auto", "extent": (found.start, found.end, 0, 1)}
    if heat is None:
        shown = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
        axes.imshow(shown, cmap="magma", vmin=0, vmax=255, **place)
    else:
        axes.imshow(pixels.mean(axis=0), cmap="gray", vmin=0, vmax=330, **place)
        veil = np.empty((*heat.shape, 4), np.float32)
        veil[..., :3] = [int(HEAT[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        veil[..., 3] = 0.75 * heat
        axes.imshow(veil, **place)
        if heat.max() > 0.5 > heat.min():
            thin = heat[:, :: -(-heat.shape[1] // CONTOUR_COLUMNS)]
            n, m = thin.shape
            across = found.start + (np.arange(m) + 0.5) / m * (found.end - found.start)
            axes.contour(across, 1 - (np.arange(n) + 0.5) / n, thin, [0.5], colors="white", linewidths=1.2)
    _label_frequencies(axes, found.settings)


def _steps(axes, values, edges, upright):
    """Draw evidence lost over equal stretches: blue what speaks for the genre, orange and hatched what against."""
    for colour, hatch, part in ((FOR, None, np.maximum(values, 0)), (AGAINST, "////", np.minimum(values, 0))):
        look = {"baseline": 0, "fill": True, "facecolor": colour, "edgecolor": "white", "hatch": hatch, "linewidth": 0}
        axes.stairs(part, edges, orientation="horizontal" if upright else "vertical", **look)
    (axes.axvline if upright else axes.axhline)(0, color="0.3", linewidth=0.8)
    # So that a flat profile looks flat: no less than this fills the axis.
    reach = max(0.25, 1.1 * np.abs(values).max())
    (axes.set_xlim if upright else axes.set_ylim)(min(-0.1 * reach, 1.1 * values.min()), reach)
    axes.grid(alpha=0.3)


def _bars(axes, found):
    order = np.argsort(-found.probabilities, kind="stable")[:BARS]
    if found.label not in order:
        order[-1] = found.label
    colours = [FOR if label == found.label else "0.7" for label in order]
    places = np.arange(len(order))
    axes.barh(places, found.probabilities[order], color=colours)
    for place, label in zip(places, order, strict=True):
        p = found.probabilities[label]
        inside = {"ha": "right", "color": "white" if label == found.label else "black"} if p > 0.8 else {}
        axes.text(p - 0.02 if inside else p + 0.02, place, f"{p:.2f}", va="center", fontsize=8, **inside)
    axes.set_yticks(places, [_plain(found.classes[label]) for label in order], fontsize=8)
    axes.set(xlim=(0, 1))
    axes.set_title("probability", fontsize=10)
    axes.invert_yaxis()


def _note(axes, text):
    axes.axis("off")
    axes.text(0, 1, text, va="top", fontsize=8, transform=axes.transAxes)


def plot_track(path, found):
    """Draw one track: its picture, what the answer comes from, by band and by time, and the probabilities.

    Parameters
    ----------
    path : Path
        PNG to write.
    found : Explanation
        What to draw.
    """
    rows = 3 + (found.cam is not None)
    drawing = _figure(11, 2.6 * rows - 0.6)
    heights = [1, 1, 0.45, 1][:rows]
    grid = drawing.add_gridspec(rows, 2, width_ratios=[3.2, 1], height_ratios=heights)
    said, genre = found.classes[found.probabilities.argmax()], _plain(found.classes[found.label])
    told = f"{_plain(found.name)}: {_plain(said)} {found.probabilities.max():.2f}"
    drawing.suptitle(told + ("" if said == found.classes[found.label] else f"; explained: {genre}"))

    whole = drawing.add_subplot(grid[0, 0])
    _picture(whole, found)
    whole.set_title("the picture, as the model gets it", fontsize=10)
    _bars(drawing.add_subplot(grid[0, 1]), found)

    looked = drawing.add_subplot(grid[1, 0], sharex=whole)
    _picture(looked, found, found.heat)
    none = "" if found.heat.any() else ": no single place decides"
    looked.set_title(f"what speaks for {genre}, by the whole answer (occlusion){none}", fontsize=10)
    bands = drawing.add_subplot(grid[1, 1])
    _steps(bands, found.bands[::-1], np.linspace(0, 1, len(found.bands) + 1), upright=True)
    _label_frequencies(bands, found.settings)
    bands.set_title("lost without this band (bits)", fontsize=10)

    times = drawing.add_subplot(grid[2, 0], sharex=whole)
    _steps(times, found.times, np.linspace(found.start, found.end, len(found.times) + 1), upright=False)
    times.set_ylabel("bits")
    times.set_title("evidence lost without this time", fontsize=10)
    key = f"1 bit: the odds of {genre} halve\nblue: speaks for it\nhatched: speaks against it\n"
    _note(drawing.add_subplot(grid[2, 1]), key + "white line: half of the strongest")

    last = times
    if found.cam is not None:
        last = drawing.add_subplot(grid[3, 0], sharex=whole)
        _picture(last, found, found.cam)
        last.set_title(f"Grad-CAM for {genre}: the convolutions' maps alone", fontsize=10)
        key = "Where the last maps of the\nconvolutions speak for the genre.\n"
        if found.share < 1:
            key += f"They give {found.share:.0%} of the answer; the\nrest comes from texture statistics,\n"
            key += "which have no gradient. The\noccluded picture above covers both."
        _note(drawing.add_subplot(grid[3, 1]), key)
    for axes in drawing.axes:
        if axes.get_subplotspec().colspan.start == 0 and axes is not last:
            axes.tick_params(labelbottom=False)
    last.set_xlabel("time (s)")
    _save(drawing, path)


def plot_bands(path, genres, settings, title):
    """Draw which bands decide each genre: means over tracks with their 95 % intervals, on the same axes.

    Parameters
    ----------
    path : Path
        PNG to write.
    genres : dict of str to dict
        From `summarise`, by genre.
    settings : Settings or None
        How all the tracks were drawn; None where that is unknown or differs.
    title : str
        Above all.
    """
    across = min(5, len(genres))
    down = -(-len(genres) // across)
    drawing = _figure(max(4.2, 2.3 * across + 0.6), 2.9 * down + 0.9)
    drawing.suptitle(_plain(title), fontsize=11)
    panels = drawing.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(genres) :]:
        axes.remove()
    for number, (axes, (genre, found)) in enumerate(zip(panels.flat, genres.items(), strict=False)):
        edges = np.linspace(0, 1, len(found["mean"]) + 1)
        _steps(axes, found["mean"], edges, upright=True)
        middles = (edges[:-1] + edges[1:]) / 2
        if found["n"] > 1:
            reach = [found["mean"] - found["low"], found["high"] - found["mean"]]
            axes.errorbar(found["mean"], middles, xerr=reach, fmt="none", ecolor="black", elinewidth=1, capsize=1.5)
        axes.set_title(f"{_plain(genre)} (n = {found['n']})", fontsize=10)
        if number + across >= len(genres):
            axes.tick_params(labelbottom=True)
    for axes in panels[:, 0]:
        _label_frequencies(axes, settings)
    ends = np.concatenate([found[end] for found in genres.values() for end in ("mean", "low", "high")])
    panels[0, 0].set_xlim(min(1.1 * np.nanmin(ends), -0.1), max(1.1 * np.nanmax(ends), 0.25))
    told = "evidence lost without the band (bits; 1: the odds halve)", "mean over the tracks and 95 % interval"
    drawing.supxlabel((", " if across > 2 else "\n").join(told), fontsize=10)
    _save(drawing, path)


def summarise(profiles):
    """Means over tracks and their 95 % intervals (Student's), which need two tracks.

    Parameters
    ----------
    profiles : list of np.ndarray, shape (n_bands,)
        Evidence lost, a track each.

    Returns
    -------
    found : dict
        ``n``, and ``mean``, ``low`` and ``high``, each (n_bands,); the interval of one track is NaN.
    """
    from scipy.stats import t

    profiles = np.stack(profiles).astype(np.float64)
    n, mean = len(profiles), profiles.mean(axis=0)
    if n == 1:
        return {"n": 1, "mean": mean, "low": mean * np.nan, "high": mean * np.nan}
    reach = t.ppf(0.975, n - 1) * profiles.std(axis=0, ddof=1) / np.sqrt(n)
    return {"n": n, "mean": mean, "low": mean - reach, "high": mean + reach}


def track_path(folder, path, taken, genre=""):
    """Where a track's picture goes: a name that no other has, and that overwrites no picture of the user's.

    Parameters
    ----------
    folder : Path
        Of the output.
    path : Path
        The track.
    taken : set of Path
        Names given before; the new one is added.
    genre : str
        A folder below, if not empty.
    """
    for name in (path.stem, path.name, *(f"{path.name}-{number}" for number in range(2, len(taken) + 3))):
        target = Path(folder, genre, f"{name}.explained.png")
        if target not in taken:
            taken.add(target)
            return target
    raise AssertionError("more names than takers")
