"""Labels and probabilities to scores. Nothing is read or written here."""

import numpy as np


def score(y, probabilities):
    """The scores of one set of tracks.

    Parameters
    ----------
    y : np.ndarray, shape (n,), int
        True labels.
    probabilities : np.ndarray, shape (n, n_classes)
        Of each genre.

    Returns
    -------
    scores : dict
        ``accuracy``, its 95 % ``interval`` (Wilson's), ``n``, ``macro_f1`` over the genres that
        occur, ``top3`` (share of tracks whose genre is among the three likeliest), ``loss`` (mean
        negative log likelihood) and ``calibration_error`` (see `reliability`).

    Raises
    ------
    ValueError
        When there is nothing to score, or the shapes do not fit.
    """
    from scipy.stats import binomtest
    from sklearn.metrics import f1_score, log_loss

    y, probabilities = np.asarray(y), np.asarray(probabilities, np.float64)
    if len(y) == 0 or probabilities.shape[0] != len(y):
        raise ValueError(f"{len(y)} labels and probabilities of shape {probabilities.shape}: nothing to score")
    predicted = probabilities.argmax(axis=1)
    correct = int((predicted == y).sum())
    interval = binomtest(correct, len(y)).proportion_ci(method="wilson")
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :3]
    labels = range(probabilities.shape[1])
    return {
        "accuracy": correct / len(y),
        "interval": [float(interval.low), float(interval.high)],
        "n": len(y),
        "macro_f1": float(f1_score(y, predicted, labels=np.unique(y), average="macro", zero_division=0)),
        "top3": float((ranked == y[:, None]).any(axis=1).mean()),
        "loss": float(log_loss(y, probabilities / probabilities.sum(axis=1, keepdims=True), labels=labels)),
        "calibration_error": reliability(y, probabilities)["error"],
    }


def reliability(y, probabilities, bins=10):
    """How often the model is right when it is so sure.

    The expected calibration error of Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated
    Probabilities Using Bayesian Binning" (2015): tracks are sorted by the probability of their
    likeliest genre into bins of equal width; it is the mean distance between that probability and the
    share that is right, weighed by the tracks in each bin. A few tracks a bin make it too large.

    Returns
    -------
    found : dict
        ``error``, and for each bin with tracks in it ``confidence`` (mean probability), ``accuracy``
        and ``n``: lists.
    """
    from sklearn.calibration import calibration_curve

    y, probabilities = np.asarray(y), np.asarray(probabilities, np.float64)
    confidence = probabilities.max(axis=1).clip(0, 1)
    right = probabilities.argmax(axis=1) == y
    accuracy, mean = calibration_curve(right, confidence, n_bins=bins, pos_label=True)
    n = np.bincount(np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence), minlength=bins)
    n = n[n > 0]
    error = float((np.abs(accuracy - mean) * n).sum() / n.sum())
    return {"error": error, "confidence": mean.tolist(), "accuracy": accuracy.tolist(), "n": n.tolist()}


def per_genre(y, probabilities, classes):
    """Precision, recall, F1 and support of each genre, and their means.

    Returns
    -------
    table : dict of str to dict
        As scikit-learn's `classification_report` with ``output_dict=True``: one entry a genre, then
        ``accuracy``, ``macro avg`` and ``weighted avg``.
    """
    from sklearn.metrics import classification_report

    predicted = np.asarray(probabilities).argmax(axis=1)
    labels = list(range(len(classes)))
    return classification_report(y, predicted, labels=labels, target_names=classes, output_dict=True, zero_division=0)


def confusion(y, probabilities):
    """Counts of tracks, row their true genre, column the predicted one: (n_classes, n_classes), int."""
    from sklearn.metrics import confusion_matrix

    probabilities = np.asarray(probabilities)
    return confusion_matrix(y, probabilities.argmax(axis=1), labels=range(probabilities.shape[1]))
