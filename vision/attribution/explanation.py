"""What a prediction for one track is based on, as data and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from render import figure
from render.settings import Settings
from vision.attribution.occlusion import NOISE_BITS

if TYPE_CHECKING:
    import torch

#: Bands next to the strongest one belong to the reason if they have this share of its evidence.
MUCH = 0.5


@dataclass
class Explanation:
    """What a prediction for one track is based on.

    Attributes
    ----------
    name : str
        Name of the track.
    x : torch.Tensor, shape (channels, size, width), uint8
        Its picture, as the model gets it.
    start, end : float, in seconds
        The time that the picture spans.
    settings : Settings or None
        How the picture was drawn; None where that is unknown.
    classes : list of str
        Genres.
    probabilities : np.ndarray, shape (n_classes,)
        Of each genre.
    label : int
        The genre explained.
    heat : np.ndarray, shape (size, width), in [0, 1]
        From `occlusion.saliency`.
    cam : np.ndarray, shape (size, width), in [0, 1], or None
        From `grad_cam.grad_cam`; None where there are no convolutions to explain.
    share : float, in (0, 1]
        The network's share of the prediction; the rest comes from other experts, such as texture.
    bands, times : np.ndarray, shapes (n_bands,) and (n_times,), in bits
        Evidence lost when the band (the highest first) or the time is occluded.
    joins : list of float, in seconds
        Where windows begin that the model takes one after the other, but for the first.
    """

    name: str
    x: torch.Tensor
    start: float
    end: float
    settings: Settings | None
    classes: list[str]
    probabilities: np.ndarray
    label: int
    heat: np.ndarray
    cam: np.ndarray | None
    share: float
    bands: np.ndarray
    times: np.ndarray
    joins: list[float] = field(default_factory=list)


def frequencies(settings: Settings | None, n_bands: int) -> np.ndarray | None:
    """Edges of bands that divide the height of a picture equally.

    Parameters
    ----------
    settings : Settings or None
        How the picture was drawn.
    n_bands : int

    Returns
    -------
    edges : np.ndarray, shape (n_bands + 1,), in Hz, or None
        The lowest first; None where `settings` does not tell.
    """
    if settings is None or settings.kind == "features":
        return None
    shares = np.linspace(0, 1, n_bands + 1)
    return np.array([figure.frequency_at(share * settings.n_mels - 0.5, settings) for share in shares])


def _hertz(hz: float) -> str:
    return f"{hz / 1000:.1f} kHz" if hz >= 1000 else f"{hz:.0f} Hz"


def reason(explanation: Explanation) -> str:
    """Return in words which part of the frequency axis decides, such as ``"mostly for what is above 8.8 kHz"``.

    Parameters
    ----------
    explanation : Explanation

    Returns
    -------
    text : str
        The strongest band, with its neighbours that have half of its evidence or more.
    """
    bands = explanation.bands[::-1]  # the lowest first
    if bands.max() <= NOISE_BITS:
        return "for no single band"
    low = high = int(bands.argmax())
    while low > 0 and bands[low - 1] >= MUCH * bands.max():
        low -= 1
    while high + 1 < len(bands) and bands[high + 1] >= MUCH * bands.max():
        high += 1
    if low == 0 and high == len(bands) - 1:
        return "for all bands alike"
    edges = frequencies(explanation.settings, len(bands))
    if edges is None:  # drawn by another program
        third = (low + high + 1) / 2 / len(bands)
        return f"mostly for its {'low' if third < 1 / 3 else 'high' if third > 2 / 3 else 'middle'} frequencies"
    if low == 0:
        return f"mostly for what is below {_hertz(edges[high + 1])}"
    if high == len(bands) - 1:
        return f"mostly for what is above {_hertz(edges[low])}"
    return f"mostly for what is between {_hertz(edges[low])} and {_hertz(edges[high + 1])}"


def strongest_evidence(explanation: Explanation) -> str:
    """Return in words which band and which time have most of the evidence, such as ``"most by 55 to 123 Hz"``."""
    parts, n = [], len(explanation.bands)
    if explanation.bands.max() > NOISE_BITS:
        band = n - 1 - int(explanation.bands.argmax())
        edges = frequencies(explanation.settings, n)
        parts.append(f"band {band + 1} of {n}" if edges is None else f"{edges[band]:.0f} to {edges[band + 1]:.0f} Hz")
    if explanation.times.max() > NOISE_BITS:
        step, index = (explanation.end - explanation.start) / len(explanation.times), int(explanation.times.argmax())
        digits, start = 0 if step >= 2 else 1, explanation.start + index * step
        parts.append(f"{start:.{digits}f} to {start + step:.{digits}f} s")
    return "most evidence in " + " and in ".join(parts) if parts else "no single band or time matters"
