"""Pictures of style ``"figure"``: a spectrogram for a paper or a slide, with axes, colour bar and title."""

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from render import atomic, png
from render.settings import Settings
from render.spectrogram import hz_to_mel, mel_to_hz

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Frequencies that the axis labels, in Hz, if they are in range.
TICKS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


def _mel_range(settings: Settings) -> tuple[float, float, float]:
    """Return the highest frequency in Hz, and both ends of the axis in Mels."""
    fmax = settings.sr / 2 if settings.fmax is None else settings.fmax
    return fmax, hz_to_mel(settings.fmin, htk=settings.htk), hz_to_mel(fmax, htk=settings.htk)


def frequency_ticks(settings: Settings, ticks: tuple[float, ...] = TICKS) -> tuple[list[float], list[float]]:
    """Return the frequencies that an axis of Mel bands labels, and their positions.

    Parameters
    ----------
    settings : Settings
        Those of a picture of kind ``"mel"``.
    ticks : tuple of float, in Hz
        Frequencies to label, if they are in range.

    Returns
    -------
    positions : list of float
        In bands, from -0.5 (the lower edge of the lowest band) to n_mels - 0.5.
    hz : list of float
        The frequency at each position.
    """
    fmax, low, high = _mel_range(settings)
    shown: list[float] = [hz for hz in ticks if settings.fmin <= hz <= fmax] or [settings.fmin, fmax]
    # Band k peaks at point k + 1 of n_mels + 2 points (counted from 0) that are evenly spaced in Mels.
    positions = [(hz_to_mel(hz, htk=settings.htk) - low) / (high - low) * (settings.n_mels + 1) - 1 for hz in shown]
    inside = [(at, hz) for at, hz in zip(positions, shown, strict=True) if -0.5 <= at <= settings.n_mels - 0.5]
    return [at for at, _ in inside], [hz for _, hz in inside]


def frequency_at(position: float, settings: Settings) -> float:
    """Return the frequency in Hz at a position on an axis of Mel bands.

    Parameters
    ----------
    position : float
        In bands, as in `frequency_ticks`.
    settings : Settings
        Those of a picture of kind ``"mel"``.
    """
    _, low, high = _mel_range(settings)
    return float(mel_to_hz(low + (position + 1) / (settings.n_mels + 1) * (high - low), htk=settings.htk))


def _label_frequencies(axes: "Axes", settings: Settings) -> None:
    positions, hz = frequency_ticks(settings)
    axes.set_yticks(positions, [f"{value:g}" for value in hz])
    axes.set_ylabel("frequency (Hz)")


def save(path: str | Path, values: np.ndarray, about: dict[str, Any], settings: Settings, title: str) -> None:
    """Draw one figure and write it atomically.

    With matplotlib's object interface, because pyplot keeps every figure in memory.

    Parameters
    ----------
    path : str or Path
        PNG to write.
    values : np.ndarray, shape (n_rows, n_frames), float32
        Row 0 is the lowest.
    about : dict
        From `png.describe`; stored in the text chunk.
    settings : Settings
        How the values were computed.
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
    # A dollar sign is not a formula here, and bytes that are not valid text become question marks.
    axes.set_title(title.encode("utf-8", "replace").decode().replace("\n", " "), parse_math=False)
    with warnings.catch_warnings(), atomic.replacing(path) as file:
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, format="png", metadata={png.CHUNK: json.dumps(about, sort_keys=True)})
