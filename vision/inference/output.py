"""Predictions in words: lines for people, dicts and tables for machines."""

import csv
import json

from render import atomic
from render.cli import one_line, print_notes_and_failures


def top(classes, p, n=3):
    """The likeliest genres and their probabilities, as a line."""
    return "  ".join(f"{one_line(classes[label]):<10} {p[label]:.3f}" for label in (-p).argsort(kind="stable")[:n])


def ranked(classes, p):
    """Genres and their probabilities from the likeliest on: ``predicted`` and ``probabilities``, JSON-able."""
    pairs = sorted(zip(classes, p.tolist(), strict=True), key=lambda pair: -pair[1])
    return {"predicted": pairs[0][0], "probabilities": dict(pairs)}


def as_dict(prediction, classes):
    """A `Prediction` as a JSON-able dict: ``file``, ``notes``, and ``error`` or what `ranked` gives."""
    told = {"file": str(prediction.path), "notes": prediction.notes}
    return told | ({"error": prediction.error} if prediction.error else ranked(classes, prediction.p))


def cells(prediction, classes):
    """A `Prediction` as the cells of a table: predicted genre, each probability, error."""
    p = prediction.p
    if p is None:
        return [""] * (1 + len(classes)) + [prediction.error]
    return [classes[p.argmax()], *(f"{value:.4f}" for value in p), ""]


def write_predictions(path, predictions, classes):
    """Write predictions as a table, a line a file, whole or not at all."""
    with atomic.replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "predicted", *classes, "error"])
        writer.writerows([prediction.path, *cells(prediction, classes)] for prediction in predictions)


def complain(prediction):
    """Print what is odd about one prediction, or why there is none, to standard error."""
    failures = [f"{prediction.path}: {prediction.error}"] if prediction.error else []
    print_notes_and_failures([f"{prediction.path}: {note}" for note in prediction.notes], failures)


def show(prediction, classes, *, width=0, as_json=False):
    """Print one prediction, at once.

    Parameters
    ----------
    prediction : Prediction
        What to tell; a failure is told to standard error.
    classes : list of str
        Genres.
    width : int
        Of the column of names.
    as_json : bool
        One JSON object a line, failures too.
    """
    complain(prediction)
    if as_json:
        print(json.dumps(as_dict(prediction, classes)), flush=True)
    elif not prediction.error:
        print(f"{one_line(prediction.path):{width}}  {top(classes, prediction.p)}", flush=True)


def show_live(answers, classes, *, as_json=False):
    """Print predictions of a stream as they come, a line each.

    Parameters
    ----------
    answers : iterable of (float, np.ndarray or None)
        From `stream.live`: seconds since the start, and probabilities, None in silence.
    classes : list of str
        Genres.
    as_json : bool
        One JSON object a line.

    Returns
    -------
    n : int
        How many there were.
    """
    n = 0
    for seconds, p in answers:
        n += 1
        if as_json:
            told = {"time": round(seconds, 3)} | ({"silent": True} if p is None else ranked(classes, p))
            print(json.dumps(told), flush=True)
        else:
            print(f"{seconds:8.1f} s  {'(silence)' if p is None else top(classes, p)}", flush=True)
    return n
