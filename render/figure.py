"""``--style figure``: a spectrogram for a paper or a slide, with axes, colour bar and title."""

import json
import warnings

import numpy as np

from render import atomic, png
from render.spectrogram import hz_to_mel, mel_to_hz

#: Frequencies that the axis names, in Hz, where they are in range.
TICKS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


def _mel_range(settings):
    """The highest frequency in Hz, and both ends of the axis in Mels."""
    fmax = settings.sr / 2 if settings.fmax is None else settings.fmax
    return fmax, hz_to_mel(settings.fmin, htk=settings.htk), hz_to_mel(fmax, htk=settings.htk)


def frequency_ticks(settings):
    """Frequencies that an axis of Mel bands names, and where they are.

    Parameters
    ----------
    settings : Settings
        Of a picture of kind ``"mel"``.

    Returns
    -------
    places : list of float
        In bands, from -0.5, the lower edge of the lowest, to n_mels - 0.5.
    hz : list of float
        As many.
    """
    fmax, low, high = _mel_range(settings)
    shown = [hz for hz in TICKS if settings.fmin <= hz <= fmax] or [settings.fmin, fmax]
    # Band k peaks at the (k + 1)st of n_mels + 2 points that are even in Mels.
    places = [(hz_to_mel(hz, htk=settings.htk) - low) / (high - low) * (settings.n_mels + 1) - 1 for hz in shown]
    inside = [(place, hz) for place, hz in zip(places, shown, strict=True) if -0.5 <= place <= settings.n_mels - 0.5]
    return [place for place, _ in inside], [hz for _, hz in inside]


def frequency_at(place, settings):
    """The frequency in Hz at a place on an axis of Mel bands; see `frequency_ticks`."""
    _, low, high = _mel_range(settings)
    return float(mel_to_hz(low + (place + 1) / (settings.n_mels + 1) * (high - low), htk=settings.htk))


def _label_frequencies(axes, settings):
    places, hz = frequency_ticks(settings)
    axes.set_yticks(places, [f"{value:g}" for value in hz])
    axes.set_ylabel("frequency (Hz)")


def save(path, values, about, settings, title):
    """Draw one figure, whole or not at all.

    matplotlib's object interface is used: pyplot would keep every figure in memory.

    Parameters
    ----------
    path : Path
        PNG to write.
    values : np.ndarray, shape (n_rows, n_frames), float32
        Row 0 is the lowest.
    about : dict
        From `png.describe`; goes into the file's text chunk.
    settings : Settings
        How the values came about.
    title : str
        Above the axes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    n_rows, n_frames = values.shape
    end = n_frames * settings.hop_length / settings.sr
    bands = about.get("bands")
    shown, limits = values, (about["vmin"], about["vmax"])
    if bands:
        levels = png.quantise_rows(values, about)
        shown, limits = levels / 255, (0, 1)
    extent = (settings.offset, settings.offset + end, -0.5, n_rows - 0.5)
    image = axes.imshow(
        shown, origin="lower", aspect="auto", extent=extent, cmap=about["cmap"], vmin=limits[0], vmax=limits[1]
    )
    axes.set_xlabel("time (s)")
    if bands:
        edges = np.cumsum([0] + [band["rows"] for band in bands])
        names = [band["name"].replace("_", " ") for band in bands]
        axes.set_yticks((edges[:-1] + edges[1:] - 1) / 2, names, fontsize=7)
        for edge in edges[1:-1]:
            axes.axhline(edge - 0.5, color="white", linewidth=0.5)
        figure.colorbar(image, label="share of each band's range")
    else:
        _label_frequencies(axes, settings)
        below = "the track's peak" if settings.ref == "max" else f"{settings.ref:g}"
        figure.colorbar(image, label=f"dB below {below}")
    # Not a formula, whatever dollars are in it; bytes that are no text become question marks.
    axes.set_title(title.encode("utf-8", "replace").decode().replace("\n", " "), parse_math=False)
    with warnings.catch_warnings(), atomic.replacing(path) as file:
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, format="png", metadata={png.CHUNK: json.dumps(about, sort_keys=True)})
