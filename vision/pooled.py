"""What several runs tell together: their mean and spread, one confusion matrix, one report."""

import json

import numpy as np

from vision import metrics, page, plots, report


def spread(values):
    """Mean, standard deviation and 95 % interval of the mean (Student's t) of some accuracies.

    Returns
    -------
    found : dict
        ``mean``, ``std``, ``interval`` and ``values``. Of a single value the spread is unknown: None.
    """
    from scipy.stats import t

    values = [float(value) for value in values]
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return {"mean": mean, "std": None, "interval": None, "values": values}
    std = float(np.std(values, ddof=1))
    half = float(t.ppf(0.975, n - 1)) * std / n**0.5
    return {"mean": mean, "std": std, "interval": [mean - half, mean + half], "values": values}


def line(name, found):
    """A spread as a line of text."""
    values = ", ".join(f"{value:.3f}" for value in found["values"])
    if found["std"] is None:
        return f"{name}: {found['mean']:.3f}"
    low, high = found["interval"]
    return f"{name}: {found['mean']:.3f} +- {found['std']:.3f} (95 % of the mean {low:.3f} to {high:.3f}): {values}"


def write(out, *, title, headline, lines, y, probabilities, paths, classes, summary, about, note=""):
    """Write the report of several runs into a folder.

    Parameters
    ----------
    out : Path
        Gets ``summary.json``, ``evaluation_report.txt``, ``confusion_matrix.png``, ``predictions.csv``
        and ``report.html``.
    title, headline : str
        Of the report.
    lines : list of str
        What is told before the tables.
    y : np.ndarray, shape (n,), int
        Labels of all pictures that were scored.
    probabilities : np.ndarray, shape (n, n_classes)
        Of each, from models that had not seen it.
    paths : list of str
        Where each came from.
    classes : list of str
        Genres.
    summary : dict
        What ``summary.json`` holds.
    about : dict
        Settings and versions.
    note : str
        Put on top.
    """
    table = metrics.per_genre(y, probabilities, classes)
    pooled = metrics.score(y, probabilities)
    told = report.text_report({"all": pooled}, table, classes, "all", note=note)
    text = "\n".join(lines) + "\n" + told
    page.write_text(out / "evaluation_report.txt", text)
    plots.plot_confusion(out / "confusion_matrix.png", metrics.confusion(y, probabilities), classes, title)
    report.write_predictions(out / "predictions.csv", {"held out": (paths, y, probabilities)}, classes)
    sections = {
        "Where it fails": [out / "confusion_matrix.png"],
        "Scores": [text],
        "What it depends on": [json.dumps(about, indent=1)],
    }
    page.write_page(out / "report.html", out.resolve().name, headline, sections, note)
    # Last: it says that all is done.
    page.write_text(out / "summary.json", json.dumps(summary | {"pooled": pooled, "about": about}, indent=1))
    return text
