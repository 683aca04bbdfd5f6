"""Scores from labels and probabilities, and their confidence intervals. Nothing is read or written here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from render.errors import MelvisionError

#: Coverage of every interval that a report gives.
CONFIDENCE = 0.95

#: With fewer tracks a score says little: the interval of an accuracy of 0.7 is 0.24 wide for 50 tracks.
FEW_TRACKS = 50


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """95 % confidence interval of a proportion, by Wilson's score method.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (1927). Unlike the
    normal approximation it stays within [0, 1] and is usable for few tracks and for accuracies near 1.

    Parameters
    ----------
    correct : int
        Successes, from 0 to `n`.
    n : int
        Trials, at least 1.

    Returns
    -------
    low, high : float, in [0, 1]
    """
    from scipy.stats import binomtest

    interval = binomtest(correct, n).proportion_ci(confidence_level=CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def t_interval(values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """95 % confidence interval of the mean over the first axis, by Student's t distribution.

    Parameters
    ----------
    values : array_like, shape (n, ...)
        Independent samples.

    Returns
    -------
    low, high : np.ndarray, shape (...), float64
        NaN where `n` is 1: a single value says nothing about the spread.
    """
    from scipy.stats import t

    values = np.asarray(values, np.float64)
    n, mean = len(values), values.mean(axis=0)
    if n == 1:
        return mean * np.nan, mean * np.nan
    half = t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return mean - half, mean + half


def mean_and_interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean of a score over runs (seeds or folds), with its standard deviation and 95 % interval.

    Parameters
    ----------
    values : sequence of float
        A score a run.

    Returns
    -------
    summary : dict
        ``mean``, ``std`` (of the sample), ``interval`` (see `t_interval`, but within [0, 1], as scores are) and
        ``values``. ``std`` and ``interval`` of a single run are None.
    """
    values = [float(value) for value in values]
    mean = float(np.mean(values))
    if len(values) == 1:
        return {"mean": mean, "std": None, "interval": None, "values": values}
    interval = [float(np.clip(end, 0, 1)) for end in t_interval(values)]
    return {"mean": mean, "std": float(np.std(values, ddof=1)), "interval": interval, "values": values}


def by_track(y: ArrayLike, probabilities: ArrayLike, tracks: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average the probabilities of the pictures of each track: they are not independent, so a track counts once.

    Parameters
    ----------
    y : array_like, shape (n,), int
        True labels of pictures.
    probabilities : array_like, shape (n, n_classes)
        Of each genre.
    tracks : array_like, shape (n,), int
        The same number for the pictures of one track, which have one label.

    Returns
    -------
    y : np.ndarray, shape (n_tracks,), int
    probabilities : np.ndarray, shape (n_tracks, n_classes), float64
    first : np.ndarray, shape (n_tracks,), int
        Position of the first picture of each track, in ascending order.
    """
    y, probabilities = np.asarray(y), np.asarray(probabilities, np.float64)
    _, first, number = np.unique(np.asarray(tracks), return_index=True, return_inverse=True)
    order = np.argsort(first)
    means = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(means, number, probabilities)
    means /= np.bincount(number)[:, None]
    return y[first[order]], means[order], first[order]


def score(y: ArrayLike, probabilities: ArrayLike, tracks: ArrayLike | None = None) -> dict[str, Any]:
    """Score the predictions of one set of tracks.

    Parameters
    ----------
    y : array_like, shape (n,), int
        True labels.
    probabilities : array_like, shape (n, n_classes)
        Of each genre.
    tracks : array_like, shape (n,), int, optional
        As of `by_track`; by default each picture is a track.

    Returns
    -------
    scores : dict
        ``accuracy``, its 95 % ``interval`` (see `wilson_interval`), ``n``, ``macro_f1`` over the genres
        that occur, ``top3`` (share of tracks whose genre is among the three most probable), ``loss``
        (mean negative log likelihood) and ``calibration_error`` (see `reliability`), all by track. Where tracks have
        several pictures, ``pieces`` holds the ``accuracy`` and number ``n`` of these.

    Raises
    ------
    MelvisionError
        When there is nothing to score, or the shapes do not match.
    """
    from sklearn.metrics import f1_score, log_loss

    y, probabilities = np.asarray(y), np.asarray(probabilities, np.float64)
    if len(y) == 0 or probabilities.shape[0] != len(y):
        shapes = f"{len(y)} labels, probabilities of shape {probabilities.shape}"
        raise MelvisionError(f"{shapes}: nothing to score; expected (n,) and (n, n_classes), n > 0")
    pieces: dict[str, Any] = {}
    if tracks is not None and len(np.unique(np.asarray(tracks))) < len(y):
        pieces["pieces"] = {"accuracy": float((probabilities.argmax(axis=1) == y).mean()), "n": len(y)}
        y, probabilities, _ = by_track(y, probabilities, tracks)
    predicted = probabilities.argmax(axis=1)
    correct = int((predicted == y).sum())
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :3]
    labels = range(probabilities.shape[1])
    return {
        "accuracy": correct / len(y),
        "interval": list(wilson_interval(correct, len(y))),
        "n": len(y),
        "macro_f1": float(f1_score(y, predicted, labels=np.unique(y), average="macro", zero_division=0)),
        "top3": float((ranked == y[:, None]).any(axis=1).mean()),
        "loss": float(log_loss(y, probabilities / probabilities.sum(axis=1, keepdims=True), labels=labels)),
        "calibration_error": reliability(y, probabilities)["error"],
    } | pieces


def reliability(y: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> dict[str, Any]:
    """Reliability curve: accuracy as a function of the predicted probability.

    The expected calibration error is that of Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated
    Probabilities Using Bayesian Binning" (2015): tracks are sorted by the probability of their predicted
    genre into bins of equal width; the error is the mean of abs(mean probability - accuracy) over the
    bins, weighted by the number of tracks in each. With few tracks a bin it is biased upwards.

    Parameters
    ----------
    y : array_like, shape (n,), int
        True labels.
    probabilities : array_like, shape (n, n_classes)
        Of each genre.
    bins : int
        Bins over [0, 1].

    Returns
    -------
    curve : dict
        ``error``, and for each bin that is not empty ``confidence`` (mean probability), ``accuracy`` and
        ``n``: lists.
    """
    from sklearn.calibration import calibration_curve

    y, probabilities = np.asarray(y), np.asarray(probabilities, np.float64)
    confidence = probabilities.max(axis=1).clip(0, 1)
    correct = probabilities.argmax(axis=1) == y
    accuracy, mean = calibration_curve(correct, confidence, n_bins=bins, pos_label=True)
    n = np.bincount(np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence), minlength=bins)
    n = n[n > 0]
    error = float((np.abs(accuracy - mean) * n).sum() / n.sum())
    return {"error": error, "confidence": mean.tolist(), "accuracy": accuracy.tolist(), "n": n.tolist()}


def per_genre(y: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]) -> dict[str, Any]:
    """Precision, recall, F1 and support of each genre, and their means.

    Parameters
    ----------
    y : array_like, shape (n,), int
        True labels.
    probabilities : array_like, shape (n, n_classes)
        Of each genre.
    classes : sequence of str
        Names of the genres.

    Returns
    -------
    table : dict of str to dict
        As scikit-learn's `classification_report` with ``output_dict=True``: one entry a genre, then ``macro avg`` and
        ``weighted avg``. Means are over the genres that occur, as of `score`; the ``support`` of the others is 0.
    """
    from sklearn.metrics import classification_report

    predicted = np.asarray(probabilities).argmax(axis=1)
    every: dict[str, Any] = {"labels": range(len(classes)), "target_names": list(classes)}
    occurring: dict[str, Any] = {"labels": np.unique(np.asarray(y))}
    table, means = (
        classification_report(y, predicted, output_dict=True, zero_division=0, **which) for which in (every, occurring)
    )
    return {name: table[name] for name in classes} | {name: means[name] for name in ("macro avg", "weighted avg")}


def confusion(y: ArrayLike, probabilities: ArrayLike) -> np.ndarray:
    """Confusion matrix of tracks.

    Parameters
    ----------
    y : array_like, shape (n,), int
        True labels.
    probabilities : array_like, shape (n, n_classes)
        Of each genre.

    Returns
    -------
    counts : np.ndarray, shape (n_classes, n_classes), int
        A row a true genre, a column a predicted one.
    """
    from sklearn.metrics import confusion_matrix

    probabilities = np.asarray(probabilities)
    return confusion_matrix(y, probabilities.argmax(axis=1), labels=range(probabilities.shape[1]))
