"""Predictions as text, as JSON and as CSV tables."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from render.cli import one_line
from vision.inference.timeline import Segment, clock
from vision.splits.keys import track_key

if TYPE_CHECKING:
    from vision.inference.predictor import Prediction


#: Stretches of one genre that a headline names.
SHOWN_STRETCHES = 6


def top_line(classes: Sequence[str], p: np.ndarray, n: int = 3) -> str:
    """Format the most probable genres and their probabilities as a line.

    Parameters
    ----------
    classes : sequence of str
        Genres.
    p : np.ndarray, shape (n_classes,)
        Their probabilities.
    n : int
        How many to show.
    """
    return "  ".join(f"{one_line(classes[label]):<10} {p[label]:.3f}" for label in (-p).argsort(kind="stable")[:n])


def ranking(classes: Sequence[str], p: np.ndarray) -> dict[str, Any]:
    """Return ``predicted`` and ``probabilities``, the most probable genre first, as a JSON-able dict."""
    pairs = sorted(zip(classes, p.tolist(), strict=True), key=lambda pair: -pair[1])
    return {"predicted": pairs[0][0], "probabilities": dict(pairs)}


def tracks_of_pieces(predictions: Iterable["Prediction"], *, pieces: bool = False) -> dict[str, list["Prediction"]]:
    """Find the files that are pieces of one track, by their names.

    Parameters
    ----------
    predictions : iterable of Prediction
        Of files; failed ones are left out.
    pieces : bool
        As of `vision.splits.keys.track_key`.

    Returns
    -------
    tracks : dict of str to list of Prediction
        The folder and key of each track that has several pieces, and these.
    """
    tracks: dict[str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        if prediction.path is not None and prediction.p is not None:
            key = track_key(prediction.path.name, pieces=pieces)
            tracks[str(prediction.path.parent / key)].append(prediction)
    return {name: found for name, found in tracks.items() if len(found) > 1}


def track_lines(tracks: Mapping[str, Sequence["Prediction"]], classes: Sequence[str]) -> list[str]:
    """Format the tracks that have several pieces as lines: the most probable genres by the mean of the pieces."""
    width = max(map(len, map(one_line, tracks)), default=0)
    return [
        f"{one_line(name):{width}}  {top_line(classes, _mean(found))}  mean of {len(found)} pieces"
        for name, found in tracks.items()
    ]


def _mean(predictions: Sequence["Prediction"]) -> np.ndarray:
    return np.mean([prediction.p for prediction in predictions if prediction.p is not None], axis=0)


def prediction_dict(
    prediction: "Prediction",
    segments: Sequence[Segment] = (),
    track: tuple[str, Sequence["Prediction"]] | None = None,
) -> dict[str, Any]:
    """Return a prediction as a JSON-able dict.

    Parameters
    ----------
    prediction : Prediction
        One that failed, too.
    segments : sequence of Segment
        Its parts of one genre, if it was predicted over time.
    track : (str, sequence of Prediction), optional
        The track that it is a piece of: an item of `tracks_of_pieces`.

    Returns
    -------
    result : dict
        ``file``, ``notes``, what `ranking` returns, the experts' weights, ``unsure``, ``unlike`` and ``headline``, or
        ``predicted`` of None with ``error``,
        ``timeline`` where there are segments, and ``track`` where it is one of several pieces.
    """
    result: dict[str, Any] = {"file": str(prediction.path), "notes": prediction.notes}
    if prediction.p is None:
        result |= {"predicted": None, "error": prediction.error}
    else:
        result |= ranking(prediction.classes, prediction.p) | {"experts": prediction.experts}
        result |= {"unsure": prediction.unsure, "unlike": prediction.unlike}
        result["headline"] = headline(segments, prediction.classes) or prediction.headline
    if segments:
        result["timeline"] = [
            {"from": round(start, 2), "to": round(end, 2), "genre": prediction.classes[label], "p": round(p, 4)}
            for start, end, label, p in segments
        ]
    if track:
        name, found = track
        result["track"] = {"name": name, "pieces": len(found)} | ranking(prediction.classes, _mean(found))
    return result


def prediction_line(prediction: "Prediction", segments: Sequence[Segment] = (), *, width: int = 0) -> str:
    """Format a prediction: the file, padded to `width`, and the most probable genres, or why there are none.

    Behind them stand the stretches of a track that changes its genre, and what is doubtful.
    """
    if prediction.p is None:
        return f"{one_line(prediction.path):{width}}  {'silent' if prediction.silent else 'failed'}"
    parts = [one_line(prediction.path).ljust(width), top_line(prediction.classes, prediction.p)]
    if stretches := headline(segments, prediction.classes):
        parts.append(one_line(stretches))
    elif prediction.unsure:
        parts.append(one_line(prediction.headline))
    return "  ".join([*parts, *remarks(prediction)[prediction.unsure :]])


def remarks(prediction: "Prediction") -> list[str]:
    """What is doubtful of a prediction, in a few words each."""
    return ["unsure"] * prediction.unsure + ["unlike the training music"] * prediction.unlike


def headline(segments: Sequence[Segment], classes: Sequence[str]) -> str:
    """Say of a track that changes its genre what it is when, such as ``"jazz 0:00-0:32, metal 0:32-1:00"``.

    Empty for a track of one genre. Of many stretches the first `SHOWN_STRETCHES` are named.
    """
    if len(segments) < 2:
        return ""
    parts = [f"{classes[label]} {clock(start)}-{clock(end)}" for start, end, label, _ in segments[:SHOWN_STRETCHES]]
    more = len(segments) - SHOWN_STRETCHES
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")


def notes_and_failures(prediction: "Prediction") -> tuple[list[str], list[str]]:
    """Return what the user should know of a prediction, and why it failed, as `render.cli` prints them."""
    failures = [f"{prediction.path}: {prediction.error}"] if prediction.error else []
    return [f"{prediction.path}: {note}" for note in prediction.notes], failures


def segment_lines(segments: Sequence[Segment], classes: Sequence[str]) -> list[str]:
    """Format the parts of a track as lines: start, end, genre and mean probability."""
    digits = 0 if all(segment.end - segment.start >= 2 for segment in segments) else 1
    return [
        f"  {clock(start, digits):>9} - {clock(end, digits):>9}  {one_line(classes[label]):<10} {p:.3f}"
        for start, end, label, p in segments
    ]


def stream_line(
    seconds: float, p: np.ndarray | None, classes: Sequence[str], *, unlike: bool = False, as_json: bool = False
) -> str:
    """Format one prediction of a stream.

    Parameters
    ----------
    seconds : float
        Length of the stream so far.
    p : np.ndarray, shape (n_classes,), or None
        Probabilities; None in silence.
    classes : sequence of str
        Genres.
    unlike : bool
        Whether it is unlike the training music.
    as_json : bool
        As a JSON object with all probabilities.
    """
    if as_json:
        answer = {"predicted": None, "silent": True} if p is None else ranking(classes, p) | {"unlike": unlike}
        return json.dumps({"time": round(seconds, 3)} | answer)
    remark = "  unlike the training music" if unlike else ""
    return f"{seconds:8.1f} s  {'silent' if p is None else top_line(classes, p)}{remark}"


def cells(prediction: "Prediction", classes: Sequence[str]) -> list[str]:
    """Return a prediction as the cells of a table: predicted genre, each probability, remark, error."""
    if prediction.p is None:
        return [""] * (2 + len(classes)) + [prediction.error]
    probabilities = [f"{value:.4f}" for value in prediction.p]
    return [classes[int(prediction.p.argmax())], *probabilities, ", ".join(remarks(prediction)), ""]
