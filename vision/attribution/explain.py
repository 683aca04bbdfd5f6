"""What predictions are based on: a plot for each track, and the frequency bands that matter for each genre."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from render import atomic
from render.settings import Settings
from vision.attribution.explanation import Explanation, frequencies
from vision.attribution.grad_cam import feature_layer, grad_cam
from vision.attribution.occlusion import evidence, occlude, occlusion, saliency
from vision.attribution.plots import plot_bands, plot_simple, plot_track, summarise, track_path
from vision.data.genres import match_genre
from vision.data.pixel_store import PixelStore
from vision.data.preprocess import UNUSABLE, NetworkInput
from vision.inference.predictor import Predictor

#: Resolution of a track's profiles: bands, and times of a track of up to as many windows.
BANDS, TIMES = 16, 12


@dataclass
class ExplainedTrack:
    """What the prediction for one file is based on.

    Attributes
    ----------
    path : Path
        The file.
    error : str
        Why it could not be used; empty when it could, and what follows is only there then.
    notes : list of str
        What the user should know of it.
    genre : str
        The file's genre folder where the model knows it, else the predicted genre.
    p : np.ndarray, shape (n_classes,)
        Probabilities.
    bands : np.ndarray, shape (n_bands, n_classes)
        Evidence for each genre, in bits, that is lost without the band; the highest band first.
    settings : Settings or None
        How the picture was drawn; None where that is unknown.
    explanation : Explanation or None
        What the plot shows; None where there is no plot.
    plot : Path or None
        The plot.
    """

    path: Path
    error: str = ""
    notes: list[str] = field(default_factory=list)
    genre: str = ""
    p: np.ndarray = field(default_factory=lambda: np.empty(0))
    bands: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    settings: Settings | None = None
    explanation: Explanation | None = None
    plot: Path | None = None


def why_no_grad_cam(predictor: Predictor) -> str:
    """Return why Grad-CAM of a model cannot be computed; empty where it can."""
    if not predictor.models:
        return "an exported model has no layers to inspect"
    if not find_spec("captum"):
        return 'it needs captum: pip install -e ".[explain]"'
    try:
        for model in predictor.models:
            feature_layer(model, predictor.spec.size)
    except ValueError as error:
        return f"the model {error}"
    return ""


def explain_files(
    predictor: Predictor,
    files: Iterable[Path],
    out: str | Path | None = None,
    *,
    genre: str | None = None,
    settings: Settings | None = None,
    with_grad_cam: bool = True,
    simple: bool = False,
    kind: str = "png",
) -> Iterator[ExplainedTrack]:
    """Explain the predictions for files, one after the other.

    Parameters
    ----------
    predictor : Predictor
        The model.
    files : iterable of Path
        Pictures and recordings. One that cannot be used is reported and does not stop the others.
    out : str or Path, optional
        Folder for a plot of each track; without it only the bands are computed, which is much faster.
    genre : str, optional
        The genre to explain in the plots; by default the predicted one.
    settings : Settings, optional
        How pictures were drawn that do not say so themselves, for the frequencies of the bands.
    with_grad_cam : bool
        Whether the plots show Grad-CAM too; see `why_no_grad_cam`.
    simple : bool
        Whether the plots have two panels only: the spectrogram, and what of it speaks for the genre.
    kind : str
        Ending of the plots: ``"png"``, ``"svg"`` or ``"pdf"``.

    Yields
    ------
    track : ExplainedTrack
        In the order of `files`.
    """
    classes = predictor.classes
    taken: set[Path] = set()
    for path in files:
        try:
            read = predictor.read(path)
        except UNUSABLE as error:
            yield ExplainedTrack(path, str(error) or type(error).__name__)
            continue
        read = replace(read, settings=read.settings or settings)
        p, occluded = occlude(predictor.probabilities, read.x, bands=min(BANDS, predictor.spec.size), times=1)
        folder = path.resolve().parent.name
        predicted = int(p.argmax())
        track = ExplainedTrack(
            path,
            notes=_notes(predictor, read),
            genre=match_genre(folder, classes) or classes[predicted],
            p=p,
            bands=evidence(p) - evidence(occluded[:, 0]),
            settings=read.settings,
        )
        if out is not None:
            label = predicted if genre is None else classes.index(genre)
            track.explanation = _explain(predictor, read, track, label, with_grad_cam)
            track.plot = track_path(Path(out), path, taken, folder if folder in classes else "", kind)
            (plot_simple if simple else plot_track)(track.plot, track.explanation)
        yield track


def _notes(predictor: Predictor, read: NetworkInput) -> list[str]:
    window = predictor.spec.window
    if window and read.seconds < 0.9 * window:
        return [*read.notes, f"is {read.seconds:.1f} s long; the model gets it repeated, to fill {window:g} s"]
    return read.notes


def _explain(
    predictor: Predictor, read: NetworkInput, track: ExplainedTrack, label: int, with_grad_cam: bool
) -> Explanation:
    x, spec = read.x, predictor.spec
    starts = PixelStore.of(x[None]).starts(0)
    n = len(starts)
    times = min(n * max(1, TIMES // n), x.shape[-1])
    start = read.settings.offset if read.settings else 0.0
    # A track shorter than the window is repeated for the model, and shown once.
    own = spec.own_width(read.seconds, x.shape[-1])
    own_times = max(1, round(times * own / x.shape[-1]))
    return Explanation(
        name=track.path.name,
        x=x[..., :own],
        start=start,
        end=start + read.seconds,
        settings=read.settings,
        classes=predictor.classes,
        probabilities=track.p,
        label=label,
        heat=saliency(predictor, x, label)[:, :own],
        cam=grad_cam(predictor.models, x, label)[:, :own] if with_grad_cam else None,
        share=predictor.network_share,
        bands=track.bands[:, label],
        times=occlusion(predictor.probabilities, x, label, bands=1, times=times)[0, :own_times],
        joins=[start + read.seconds * first / own for first in starts[1:] if first < own],
    )


def write_bands(
    out: str | Path,
    tracks: Sequence[ExplainedTrack],
    classes: Sequence[str],
    *,
    genre: str | None = None,
    kind: str = "png",
) -> list[str]:
    """Write ``bands.png`` and ``bands.csv``: which bands matter for each genre, as means over tracks.

    Parameters
    ----------
    out : str or Path
        Folder.
    tracks : sequence of ExplainedTrack
        Those that could be used.
    classes : sequence of str
        Genres of the model.
    genre : str, optional
        Show the evidence for this genre in the tracks of each; by default the evidence for their own genre.
    kind : str
        Ending of the plot: ``"png"``, ``"svg"`` or ``"pdf"``.

    Returns
    -------
    genres : list of str
        The genres that there are tracks of.
    """
    profiles = defaultdict(list)
    for track in tracks:
        profiles[track.genre].append(track.bands[::-1, classes.index(genre or track.genre)])
    summaries = {name: summarise(profiles[name]) for name in classes if name in profiles}
    settings = _common_axis([track.settings for track in tracks])
    title = "each genre" if genre is None else f"{genre}, in tracks of each genre"
    plot_bands(Path(out) / f"bands.{kind}", summaries, settings, f"Which bands matter for {title}")
    header = ["genre", "tracks", "band", "low_hz", "high_hz", "mean_bits", "low_bits", "high_bits"]
    atomic.write_csv(Path(out) / "bands.csv", header, _band_rows(summaries, settings))
    return list(summaries)


def _common_axis(settings: Sequence[Settings | None]) -> Settings | None:
    """Return settings whose frequency axis all pictures have; None where they differ or one is unknown."""
    axes = {(s.kind, s.sr if s.fmax is None else 0, s.n_mels, s.fmin, s.fmax, s.htk) if s else None for s in settings}
    return settings[0] if len(axes) == 1 else None


def _band_rows(summaries: dict[str, dict], settings: Settings | None) -> Iterator[list]:
    """Yield the rows of ``bands.csv``, the lowest band of each genre first."""
    for genre, summary in summaries.items():
        n = len(summary["mean"])
        edges = frequencies(settings, n)
        for band in range(n):
            hz = ["", ""] if edges is None else [f"{edges[band]:.1f}", f"{edges[band + 1]:.1f}"]
            values = [summary[name][band] for name in ("mean", "low", "high")]
            # One track has no interval.
            yield [genre, summary["n"], band + 1, *hz, *("" if np.isnan(bits) else f"{bits:.4f}" for bits in values)]
