"""``report.html`` and the plots of a run, of several seeds, and of a cross-validation."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from render import png
from vision.reports import html, metrics, plots
from vision.reports.tables import text_report, write_split_predictions
from vision.splits import leaks
from vision.training.config import TrainConfig, command_of


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


def mean_line(name, found):
    """A spread as a line of text."""
    values = ", ".join(f"{value:.3f}" for value in found["values"])
    if found["std"] is None:
        return f"{name}: {found['mean']:.3f}"
    low, high = found["interval"]
    return f"{name}: {found['mean']:.3f} +- {found['std']:.3f} (95 % of the mean {low:.3f} to {high:.3f}): {values}"


def write_pooled(out, *, title, headline, lines, y, probabilities, paths, classes, summary, about, note=""):
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
    told = text_report({"all": pooled}, table, classes, "all", note=note)
    text = "\n".join(lines) + "\n" + told
    html.write_text(out / "evaluation_report.txt", text)
    plots.plot_confusion(out / "confusion_matrix.png", metrics.confusion(y, probabilities), classes, title)
    write_split_predictions(out / "predictions.csv", {"held out": (paths, y, probabilities)}, classes)
    sections = {
        "Where it fails": [out / "confusion_matrix.png"],
        "Scores": [text],
        "What it depends on": [json.dumps(about, indent=1)],
    }
    html.write_page(out / "report.html", out.resolve().name, headline, sections, note)
    # Last: it says that all is done.
    html.write_text(out / "summary.json", json.dumps(summary | {"pooled": pooled, "about": about}, indent=1))
    return text


def write_run(out, *, scores, history, about, judged, sets, probabilities, look):
    """Write all reports of a training run into its folder.

    Parameters
    ----------
    out : Path
        The run folder.
    scores : dict
        What ``metrics.json`` holds.
    history : list of dict
        Rows of ``history.csv``.
    about : dict
        Settings and versions.
    judged : str
        ``"test"``, or ``"dev"`` where there is no test.
    sets : dict of str to Pictures
        Train, dev and perhaps test.
    probabilities : dict of str to np.ndarray, shape (n, n_classes)
        For each of them, and whatever else ``predictions.csv`` is to hold of dev.
    look : callable
        As for `run_page.write`.
    """
    pictures, p, kept = sets[judged], probabilities[judged], scores["kept_epoch"]
    y, classes = pictures.y.numpy(), pictures.classes
    table = metrics.per_genre(y, p, classes)
    text = text_report(scores, table, classes, judged, note=about["config"]["note"], kept=kept)
    html.write_text(out / "evaluation_report.txt", text)
    for what in ("accuracy", "loss"):
        plots.plot_history(out / f"{what}_plot.png", history, what, kept)
    title = f"{judged} tracks, epoch {kept}"
    plots.plot_confusion(out / "confusion_matrix.png", metrics.confusion(y, p), classes, title)
    plots.plot_reliability(out / "reliability_plot.png", metrics.reliability(y, p))
    of_split = {split: sets.get(split, sets["dev"]) for split in probabilities}
    table = {split: (found.paths, found.y.numpy(), probabilities[split]) for split, found in of_split.items()}
    write_split_predictions(out / "predictions.csv", table, classes)
    write_page(out, scores=scores, about=about, judged=judged, sets=sets, probabilities=p, look=look)


#: So many of the most confident mistakes are shown.
MISTAKES = 8

#: How bright the parts stay that did not count.
DARKEST = 0.25

NAMES = {"dev": "dev, kept epoch", "dev_last": "dev, last epoch"}


def confident_mistakes(y, probabilities):
    """Numbers of the tracks that are wrong, the surest first."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != y)
    return wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")].tolist()


def lit(x, heat):
    """A picture as people see it, and once more, dark where the model did not look.

    Parameters
    ----------
    x : torch.Tensor, shape (1 or 3, height, width), uint8
        Levels, shown in magma, or colours.
    heat : np.ndarray, shape (height, width), in [0, 1]
        From `attribution.look`.

    Returns
    -------
    plain, lit : PIL.Image.Image
        RGB.
    """
    x = x.numpy()
    pixels = png.palette("magma")[x[0]] if len(x) == 1 else x.transpose(1, 2, 0)
    dimmed = pixels * (DARKEST + (1 - DARKEST) * heat[..., None])
    return Image.fromarray(pixels.astype(np.uint8)), Image.fromarray(dimmed.round().astype(np.uint8))


def _tiles(scores):
    low, high = scores["interval"]
    return html.tiles(
        [
            ("Accuracy", f"{scores['accuracy']:.1%}", f"95 %: {low:.1%} to {high:.1%}, n = {scores['n']}"),
            ("Macro F1", f"{scores['macro_f1']:.3f}", "all genres alike"),
            ("In the top 3", f"{scores['top3']:.1%}", "the genre is among three"),
            ("Calibration error", f"{scores['calibration_error']:.3f}", "0: as sure as it is right"),
        ]
    )


def _score_table(scores):
    rows = []
    for split, found in scores.items():
        if isinstance(found, dict):
            low, high = found["interval"]
            figures = [f"{found[name]:.3f}" for name in ("accuracy", "macro_f1", "top3", "calibration_error", "loss")]
            figures[1:1] = [f"{low:.3f} to {high:.3f}"]
            rows.append([NAMES.get(split, split), found["n"], *figures])
    head = ["", "tracks", "accuracy", "95 % interval", "macro F1", "top 3", "calibration", "loss"]
    return html.table(head, rows)


def genre_table(y, probabilities, classes):
    """A row a genre: its scores, and what it is taken for most often, as `page.Markup`."""
    table, counts = metrics.per_genre(y, probabilities, classes), metrics.confusion(y, probabilities)
    rows = []
    for label, name in enumerate(classes):
        row, others = table[name], counts[label].copy()
        others[label] = 0
        taken = f"{classes[others.argmax()]} ({others.max()})" if others.any() else ""
        figures = [f"{row[what]:.2f}" for what in ("precision", "recall", "f1-score")]
        rows.append([name, int(row["support"]), *figures, taken])
    return html.table(["genre", "tracks", "precision", "recall", "F1", "mostly taken for"], rows)


def _mistakes(pictures, probabilities, look):
    y, classes = pictures.y.numpy(), pictures.classes
    wrong = confident_mistakes(y, probabilities)
    if not wrong:
        return [html.paragraph("Not one mistake.")]
    cards = []
    for number in wrong[:MISTAKES]:
        p, path = probabilities[number], Path(pictures.paths[number])
        said, true = classes[p.argmax()], classes[y[number]]
        plain, bright = lit(pictures.x[number], look(pictures.x[number], int(p.argmax())))
        told = f"{path.name}: {true}, taken for {said} ({p.max():.2f}; {true} {p[y[number]]:.2f})"
        cards.append(html.figure([(plain, f"spectrogram of {path.name}"), (bright, "where it looked")], told))
    told = f"The {len(cards)} surest of {len(wrong)} mistakes. Above the spectrogram as the model gets it, below it "
    told += "dark where hiding it would have changed the answer little: bright parts spoke for the wrong genre."
    return [html.paragraph(told), html.columns(cards)]


def _counts(sets, classes):
    by_split = [np.bincount(pictures.y.numpy(), minlength=len(classes)) for pictures in sets.values()]
    rows = [[name, *(counts[label] for counts in by_split)] for label, name in enumerate(classes)]
    rows.append(["all", *(counts.sum() for counts in by_split)])
    return html.table(["genre", *sets], rows)


def _how_split(data):
    """How the data folder was split, in words."""
    try:
        how = json.loads((Path(data) / "split.json").read_text("utf-8"))
        named = {side: len(tracks) for side, tracks in how["lists"].items()}
        ratios = "/".join(str(ratio) for ratio in how["ratios"])
        if named:
            told = ", ".join(f"{n} {side}" for side, n in named.items())
            return f"Split by lists of {told} tracks: whether an artist is on two sides, they decide."
        told = f"{ratios} by chance, seed {how['seed']}, the same share of each genre on every side"
        if how["groups"]:
            return f"Split {told}; tracks of one group (artist) kept on one side."
        return f"Split {told}. No groups were given: one artist may be on two sides, which flatters (--groups)."
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "Split by hand, or by another program."


def _leaks(sets):
    found = leaks.compare(sets)
    parts = []
    for name, what in (("tracks", "tracks are on two sides"), ("equal_across", "equal pictures are on two sides")):
        if found[name]:
            some = ", ".join(" = ".join(map(str, np.atleast_1d(one))) for one in found[name][:5])
            parts.append(f"LEAK: {len(found[name])} {what}, so the figures are too good: {some}")
    if not parts:
        parts.append("Leak check: no track, by its name, and no picture, as the model gets it, is on two sides.")
    if found["equal_within"]:
        some = ", ".join(f"{Path(a).name} = {Path(b).name}" for a, b in found["equal_within"][:5])
        parts.append(f"{len(found['equal_within'])} equal pictures on one side: {some}.")
    return [html.paragraph(part) for part in parts]


def write_page(out, *, scores, about, judged, sets, probabilities, look):
    """Write ``report.html``; the plots that it shows must be there.

    Parameters
    ----------
    out : Path
        The run folder.
    scores : dict
        What ``metrics.json`` holds.
    about : dict
        Settings and versions.
    judged : str
        ``"test"``, or ``"dev"`` where there is no test.
    sets : dict of str to Pictures
        Train, dev and perhaps test.
    probabilities : np.ndarray, shape (n, n_classes)
        Of the judged set.
    look : callable
        Picture and label to what spoke for it; see `attribution.look`.
    """
    pictures, config = sets[judged], TrainConfig(**about["config"])
    classes, found = pictures.classes, scores[judged]
    headline = f"{found['accuracy']:.1%} of {found['n']} {judged} tracks right"
    headline += f"; guessing one of {len(classes)} genres: {1 / len(classes):.0%}."
    if judged == "dev":
        headline += " Optimistic: the same tracks chose the epoch, and there was no test folder."
    kept = f"Epoch {scores['kept_epoch']} was kept, the best on dev. Nothing was chosen by the last epoch or by test. "
    kept += "Train is scored without dropout and augmentation. "
    if about["temperature"] == 1:
        kept += "Probabilities are as they were learned: dev has too few tracks, or mistakes, to say how sure to be."
    else:
        kept += f"The kept epoch's probabilities were made to fit dev by one temperature, {about['temperature']:.2f}; "
        kept += "the last epoch's are as they were learned."
    good = [_tiles(found), _score_table(scores), html.paragraph(kept), out / "reliability_plot.png"]
    fails = [out / "confusion_matrix.png", genre_table(pictures.y.numpy(), probabilities, classes)]
    settings, versions = json.dumps(about["config"], indent=1), json.dumps(about["versions"], indent=1)
    on = [
        _counts(sets, classes), html.paragraph(_how_split(config.data)), *_leaks(sets),
        html.paragraph("The command:"), html.pre(command_of(config)),
        html.paragraph(f"On {about['device']}, {about['precision']}, {about['threads']} threads."),
        html.details("Settings", settings), html.details("Versions", versions),
    ]  # fmt: skip
    sections = {
        "How good is it?": good,
        "Where does it fail?": fails + _mistakes(pictures, probabilities, look),
        "How did it learn?": [out / "accuracy_plot.png", out / "loss_plot.png"],
        "On what?": on,
    }
    html.write_page(out / "report.html", out.resolve().name, headline, sections, config.note)
