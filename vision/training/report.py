"""``report.html``, the plots and the tables of one run, of several seeds, and of a cross-validation."""

import json
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from render import atomic, png
from render.cli import plural
from render.settings import Settings
from vision.attribution.plots import COVER, COVERED
from vision.data.dataset import Pictures
from vision.data.preprocess import InputSpec
from vision.models import run_files
from vision.models.thresholds import Thresholds
from vision.reports import html, metrics, plots
from vision.reports.axes import frequency_ticks, second_ticks
from vision.reports.tables import (
    NO_SCORE,
    SplitPredictions,
    genre_scores,
    share_right,
    text_report,
    write_split_predictions,
)
from vision.splits import leaks
from vision.splits.folder import named_pieces, read_settings
from vision.splits.tracks import missing_genres
from vision.training.config import TrainConfig, command_of

#: Mistakes that a page shows: the most confident ones, and so many at most of two genres that are confused.
SHOWN_MISTAKES, OF_A_PAIR = 8, 2

#: Mistakes that the page of several runs names.
NAMED_MISTAKES = 15

#: Leaks and equal pictures named on a page, of each kind.
NAMED_LEAKS = 5

SPLIT_NAMES = {"dev": "dev, kept epoch", "dev_last": "dev, last epoch"}


@dataclass
class RunResult:
    """What the report of one training run is made of.

    Attributes
    ----------
    scores : dict
        What ``metrics.json`` holds: `metrics.score` by split, and ``kept_epoch``.
    history : list of dict
        Rows of ``history.csv``.
    about : dict
        Settings, hardware and versions, as in ``config.json``, and the ``temperature``.
    sets : dict of str to Pictures
        Train, dev and perhaps test.
    predictions : dict of str to SplitPredictions
        What ``predictions.csv`` is to hold: of each split in `sets`, of a sample of a large train, and more of dev.
    saliency : callable
        A picture and a label to a map of the evidence for that label, shape (height, width), in [0, 1];
        see `vision.attribution.occlusion.saliency`.
    input : InputSpec
        How the pictures were read, for the axes of those that are shown.
    thresholds : Thresholds
        Below which probability an answer is unsure.
    """

    scores: dict[str, Any]
    history: list[dict[str, Any]]
    about: dict[str, Any]
    sets: dict[str, Pictures]
    predictions: dict[str, SplitPredictions]
    saliency: Callable[[torch.Tensor, int], np.ndarray]
    input: InputSpec = field(default_factory=InputSpec)
    thresholds: Thresholds = field(default_factory=Thresholds)

    @property
    def split(self) -> str:
        """The split that the report is about: test, or dev where there is no test."""
        return "test" if "test" in self.sets else "dev"


@dataclass
class PooledResult:
    """What the report of several runs (seeds or folds) is made of.

    Attributes
    ----------
    title, headline : str
        Of the confusion matrix and of the page.
    lines : list of str
        Text before the tables.
    predictions : SplitPredictions
        Of every picture that was scored, by models that were not trained on it.
    classes : list of str
        Genres.
    summary : dict
        What ``summary.json`` holds, less ``pooled`` and ``about``.
    about : dict
        Settings (``config``) and versions.
    parts : list of (str, float, int)
        Name, accuracy and number of tracks of each part.
    part_name : str
        What its parts are, ``"fold"`` or ``"seed"``.
    interval : list of 2 float, optional
        95 % interval of the mean accuracy of the parts.
    note : str
        First line of the report.
    command : str
        What made it.
    next_commands : list of (str, str)
        Purpose and command of what one could do now.
    """

    title: str
    headline: str
    lines: list[str]
    predictions: SplitPredictions
    classes: list[str]
    summary: dict[str, Any]
    about: dict[str, Any]
    parts: list[tuple[str, float, int]]
    part_name: str
    interval: list[float] | None = None
    note: str = ""
    command: str = ""
    next_commands: list[tuple[str, str]] = field(default_factory=list)


def write_pooled(out: Path, result: PooledResult) -> str:
    """Write the report of several runs.

    Parameters
    ----------
    out : Path
        Folder that gets ``summary.json``, ``evaluation_report.txt``, ``confusion_matrix.png``,
        ``predictions.csv`` and ``report.html``.
    result : PooledResult

    Returns
    -------
    text : str
        Content of ``evaluation_report.txt``.
    """
    pooled = result.predictions.score()
    y, probabilities, _ = result.predictions.by_track()
    table = metrics.per_genre(y, probabilities, result.classes)
    text = "\n".join(result.lines) + "\n"
    text += text_report({"all": pooled}, table, result.classes, "all", note=result.note)
    atomic.write_text(out / run_files.TEXT_REPORT, text)
    confusion_plot = out / run_files.CONFUSION_PLOT
    plots.plot_confusion(confusion_plot, metrics.confusion(y, probabilities), result.classes, result.title)
    write_split_predictions(out / run_files.PREDICTIONS, {"held out": result.predictions}, result.classes)
    plots.plot_spread(out / run_files.SPREAD_PLOT, result.parts, result.interval)
    context = {
        "title": out.resolve().name,
        "subtitle": subtitle(TrainConfig.from_dict(result.about["config"])),
        "headline": result.headline,
        "note": result.note,
        "confusion_plot": confusion_plot,
        "spread_plot": out / run_files.SPREAD_PLOT,
        "lines": result.lines,
        "scores": pooled,
        "genre_rows": genre_rows(y, probabilities, result.classes),
        "part_name": result.part_name,
        "part_rows": [_part_row(*part) for part in result.parts],
        "n_mistakes": int((probabilities.argmax(axis=1) != y).sum()),
        "mistake_rows": _mistake_rows(result),
        "command": result.command,
        "commands": result.next_commands,
        "settings": json.dumps({name: value for name, value in result.about.items() if name != "versions"}, indent=1),
        "versions": json.dumps(result.about.get("versions"), indent=1),
    }
    html.write_page(out / run_files.PAGE, "pooled.html", context)
    # Last, because this file marks the folder as complete.
    atomic.write_json(out / run_files.SUMMARY, result.summary | {"pooled": pooled, "about": result.about})
    return text


def subtitle(config: TrainConfig) -> str:
    """Say in a line which model, which data and which day a page is of."""
    experts = " and ".join(f"{name} ({weight:.2g})" for name, weight in config.expert_weights.items())
    return f"{config.recipe} recipe, {experts}; pictures of {config.data}; {time.strftime('%Y-%m-%d')}"


def _part_row(name: str, accuracy: float, n: int) -> list[str]:
    low, high = metrics.wilson_interval(round(accuracy * n), n)
    return [name, str(n), str(round(accuracy * n)), f"{accuracy:.3f}", f"{low:.3f} to {high:.3f}"]


def _mistake_rows(result: PooledResult) -> list[list[str]]:
    y, p, first = result.predictions.by_track()
    rows = []
    for number in confident_mistakes(y, p)[:NAMED_MISTAKES]:
        predicted, name = int(p[number].argmax()), Path(result.predictions.paths[first[number]]).name
        rows.append([name, result.classes[y[number]], result.classes[predicted], f"{p[number, predicted]:.2f}"])
    return rows


def write_run(out: Path, result: RunResult) -> None:
    """Write the plots, the tables and ``report.html`` of a training run.

    Parameters
    ----------
    out : Path
        The run folder.
    result : RunResult
    """
    split, kept = result.split, result.scores["kept_epoch"]
    predictions, classes = result.predictions, result.sets[split].classes
    y, probabilities, _ = predictions[split].by_track()
    table = metrics.per_genre(y, probabilities, classes)
    text = text_report(result.scores, table, classes, split, note=result.about["config"]["note"], kept=kept)
    atomic.write_text(out / run_files.TEXT_REPORT, text)
    paths = {
        "accuracy": out / run_files.ACCURACY_PLOT,
        "loss": out / run_files.LOSS_PLOT,
        "confusion": out / run_files.CONFUSION_PLOT,
        "reliability": out / run_files.RELIABILITY_PLOT,
    }
    for quantity in ("accuracy", "loss"):
        plots.plot_history(paths[quantity], result.history, quantity, kept)
    counts = metrics.confusion(y, probabilities)
    plots.plot_confusion(paths["confusion"], counts, classes, f"{split} tracks, epoch {kept}")
    if len(y) >= metrics.FEW_TRACKS:
        plots.plot_reliability(paths["reliability"], metrics.reliability(y, probabilities))
    else:  # a curve of so few would be noise
        del paths["reliability"]
    write_split_predictions(out / run_files.PREDICTIONS, predictions, classes)
    experts = result.scores[split].get("experts", {})
    if experts:
        paths["experts"] = out / run_files.SPREAD_PLOT
        parts = {f"{name} alone": entry for name, entry in experts.items()} | {"together": result.scores[split]}
        dots = [(name, entry["accuracy"], entry["n"]) for name, entry in parts.items()]
        plots.plot_spread(paths["experts"], dots, None)
    context = {"title": out.resolve().name, "plots": paths, "commands": _next_commands(out, result), **_context(result)}
    html.write_page(out / run_files.PAGE, "run.html", context)


def _next_commands(out: Path, result: RunResult) -> list[tuple[str, str]]:
    run, train = shlex.quote(str(out)), "python -m vision.train"
    scored = shlex.quote(str(Path(result.about["config"]["data"]) / result.split))
    return [
        ("See what it makes of other music:", f"python -m vision.predict {run} song.mp3"),
        (
            "See what its answers are based on:",
            f"python -m vision.explain {run} {scored}",
        ),
        (
            "Once it is good enough, train the model to use on all tracks:",
            f"{train} --final --like {run}",
        ),
    ]


def confident_mistakes(y: np.ndarray, probabilities: np.ndarray) -> list[int]:
    """Indices of the tracks that were predicted wrongly, the most confident first.

    Parameters
    ----------
    y : np.ndarray, shape (n,), int
        True labels.
    probabilities : np.ndarray, shape (n, n_classes)
        Of each genre.
    """
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != y)
    return wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")].tolist()


def shown_mistakes(y: np.ndarray, probabilities: np.ndarray) -> list[int]:
    """The mistakes that a page shows, most confident first: of two genres that are often confused a few are enough.

    Parameters
    ----------
    y, probabilities
        As of `confident_mistakes`.
    """
    pairs: Counter[tuple[int, int]] = Counter()
    shown = []
    for number in confident_mistakes(y, probabilities):
        pair = int(y[number]), int(probabilities[number].argmax())
        pairs[pair] += 1
        if pairs[pair] <= OF_A_PAIR:
            shown.append(number)
    return shown[:SHOWN_MISTAKES]


def highlight(x: torch.Tensor, saliency: np.ndarray) -> tuple[Image.Image, Image.Image]:
    """Draw the network's input for people, and once more with everything but the evidence under grey.

    Parameters
    ----------
    x : torch.Tensor, shape (1 or 3, height, width), uint8
        Levels, drawn in magma, or colours.
    saliency : np.ndarray, shape (height, width), in [0, 1]
        From `vision.attribution.occlusion.saliency`.

    Returns
    -------
    plain, highlighted : PIL.Image.Image
        RGB.
    """
    values = x.numpy()
    pixels = png.palette("magma")[values[0]] if len(values) == 1 else values.transpose(1, 2, 0)
    cover = COVERED * (1 - saliency[..., None])
    dimmed = pixels * (1 - cover) + COVER * cover
    return Image.fromarray(pixels.astype(np.uint8)), Image.fromarray(dimmed.round().astype(np.uint8))


def _context(result: RunResult) -> dict[str, Any]:
    """The variables of ``run.html``, less the title and the plots."""
    split, scores, about = result.split, result.scores, result.about
    pictures, classes = result.sets[split], result.sets[split].classes
    config = TrainConfig.from_dict(about["config"])
    y, probabilities, first = result.predictions[split].by_track()
    text = f"{share_right(scores[split], split)}."
    if split == "dev":
        text += " Optimistic: the epoch was chosen on these tracks, because there is no test folder."
    return {
        "subtitle": subtitle(config) + f"; seed {config.seed}",
        "headline": text,
        "right": f"{round(scores[split]['accuracy'] * scores[split]['n'])} of {scores[split]['n']} tracks are right; "
        f"guessing would give {1 / len(classes):.0%}.",
        "note": config.note,
        "scores": scores[split],
        "score_rows": _score_rows(scores),
        "expert_rows": _expert_rows(scores),
        "expert_text": _expert_text(config),
        "has_network": config.model in config.expert_weights,
        "kept_epoch": scores["kept_epoch"],
        "train_sample": _train_sample(result),
        "temperature": about["temperature"],
        "unsure": _describe_unsure(y, probabilities, result.thresholds.unsure_below, split),
        "genre_rows": genre_rows(y, probabilities, classes),
        "n_mistakes": int((probabilities.argmax(axis=1) != y).sum()),
        "mistakes": list(_mistakes(pictures, y, probabilities, first, result)),
        "splits": list(result.sets),
        "count_rows": _count_rows(result.sets, classes),
        "missing_genres": missing_genres(
            classes, {name: pictures.y.tolist() for name, pictures in result.sets.items()}
        ),
        "few_tracks": metrics.FEW_TRACKS,
        "split_description": _describe_split(config.data),
        "leak_notes": _leak_notes(result.sets, pieces=named_pieces(config.data)),
        "command": command_of(config),
        "hardware": f"On {about['device']} in {about['precision']}; CPU threads: {about['threads']}.",
        "settings": json.dumps(about["config"], indent=1),
        "versions": json.dumps(about["versions"], indent=1),
    }


def _expert_text(config: TrainConfig) -> str:
    """What the experts of a run are, a sentence each."""
    about = {
        "texture": "texture is support vector machines on fixed statistics of the picture",
        "musicnn": "musicnn is a network that others trained on 200 000 songs to name tags, and a linear discriminant "
        "on what it makes of the picture; it may know some of these songs",
        config.model: f"{config.model} is the network, trained by epochs",
    }
    return " ".join(f"{about[name]}." for name in config.expert_weights)


def _train_sample(result: RunResult) -> str:
    """Which part of train is scored, where it is not all."""
    every, scored = len(set(result.sets["train"].tracks)), result.scores["train"]["n"]
    return f"Of train, {scored} of {every} tracks are scored, evenly taken." if scored < every else ""


def _describe_unsure(y: np.ndarray, p: np.ndarray, unsure_below: float, split: str) -> str:
    """How many answers are unsure, and how often they and the others are right."""
    unsure, right = p.max(axis=1) < unsure_below, p.argmax(axis=1) == y
    if not unsure.any():
        return ""
    text = (
        f"Answers below {unsure_below:.2f} are called unsure: on dev, such answers were wrong more often than right. "
    )
    text += f"Of the {len(y)} {split} tracks {plural(int(unsure.sum()), 'is', 'are')} unsure; "
    text += f"of these {right[unsure].mean():.0%} are right"
    return text + (f", of the others {right[~unsure].mean():.0%}." if not unsure.all() else ".")


def _score_rows(scores: dict[str, Any]) -> list[list[Any]]:
    rows = []
    for split, entry in scores.items():
        if isinstance(entry, dict):
            low, high = entry["interval"]
            rest = [f"{entry[name]:.3f}" for name in ("macro_f1", "top3", "calibration_error", "loss")]
            interval, pieces = f"{low:.3f} to {high:.3f}", entry.get("pieces")
            if any("pieces" in other for other in scores.values() if isinstance(other, dict)):
                rest.append(f"{pieces['accuracy']:.3f} of {pieces['n']}" if pieces else NO_SCORE)
            rows.append([SPLIT_NAMES.get(split, split), entry["n"], f"{entry['accuracy']:.3f}", interval, *rest])
    return rows


def _expert_rows(scores: dict[str, Any]) -> list[list[Any]]:
    rows = []
    for split, entry in scores.items():
        for name, figures in entry.get("experts", {}).items() if isinstance(entry, dict) else ():
            low, high = figures["interval"]
            interval = f"{low:.3f} to {high:.3f}"
            accuracy, loss = f"{figures['accuracy']:.3f}", f"{figures['loss']:.3f}"
            rows.append([name, f"{figures['weight']:.2f}", split, figures["n"], accuracy, interval, loss])
    return rows


def genre_rows(y: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> list[list[Any]]:
    """Rows of the table of genres.

    Parameters
    ----------
    y : np.ndarray, shape (n,), int
        True labels.
    probabilities : np.ndarray, shape (n, n_classes)
        Of each genre.
    classes : sequence of str
        Genres.

    Returns
    -------
    rows : list of list
        For each genre its name, number of tracks, precision, recall, F1, and the genre that it is most often mistaken
        for, with the count.
    """
    table, counts = metrics.per_genre(y, probabilities, classes), metrics.confusion(y, probabilities)
    rows = []
    for label, name in enumerate(classes):
        row, others = table[name], counts[label].copy()
        others[label] = 0
        mistaken_for = f"{classes[others.argmax()]} ({others.max()})" if others.any() else ""
        rows.append([name, int(row["support"]), *genre_scores(row, 2), mistaken_for])
    return rows


def _mistakes(
    pictures: Pictures,
    y: np.ndarray,
    probabilities: np.ndarray,
    first: np.ndarray,
    result: RunResult,
) -> Iterator[dict[str, Any]]:
    """The tracks that were most confidently predicted wrongly, each by its first picture."""
    classes, spec = pictures.classes, result.input
    settings = Settings.from_dict(spec.render) if spec.render else None
    for number in shown_mistakes(y, probabilities):
        p, x, true = probabilities[number], pictures.x[first[number]], y[number]
        predicted = int(p.argmax())
        spectrogram, highlighted = highlight(x, result.saliency(x, predicted))
        yield {
            "name": Path(pictures.paths[first[number]]).name,
            "true": classes[true],
            "p_true": p[true],
            "predicted": classes[predicted],
            "p_predicted": p[predicted],
            "spectrogram": spectrogram,
            "highlighted": highlighted,
            "hz_ticks": frequency_ticks(settings),
            "second_ticks": second_ticks(x.shape[-1] * spec.seconds_per_pixel),
        }


def _count_rows(sets: dict[str, Pictures], classes: Sequence[str]) -> list[list[Any]]:
    """Tracks of each genre in each split, and their sums."""
    labels = (pictures.y.numpy()[sorted(set(pictures.tracks))] for pictures in sets.values())
    by_split = np.array([np.bincount(y, minlength=len(classes)) for y in labels])
    rows = [[name, *counts] for name, counts in zip(classes, by_split.T, strict=True)]
    return [*rows, ["all", *by_split.sum(axis=1)]]


def _describe_split(data: str | Path) -> str:
    """How the data folder was split, in words."""
    try:
        how = read_settings(data)
        listed = {side: len(tracks) for side, tracks in how["lists"].items()}
        ratios = "/".join(str(ratio) for ratio in how["ratios"])
        if listed:
            counts = ", ".join(f"{n} {side}" for side, n in listed.items())
            return f"Split by lists of {counts} tracks. The lists decide whether an artist is in two splits."
        method = f"Split {ratios} at random with seed {how['seed']}, stratified by genre"
        if how["groups"]:
            return f"{method}; tracks of one group (artist) are in one split."
        return f"{method}. No groups were given: an artist may be in two splits, which inflates the scores (--groups)."
    except (ValueError, TypeError, AttributeError):  # MelvisionError where the file is missing
        return "Split by hand, or by another program."


def _leak_notes(sets: dict[str, Pictures], *, pieces: bool) -> list[str]:
    """What the leak check found, a sentence each."""
    leaked = leaks.compare(sets, pieces=pieces)
    notes = []
    for kind, what in (("tracks", "tracks"), ("equal_across", "pairs of equal pictures")):
        if leaked[kind]:
            names = ", ".join(" = ".join(map(str, np.atleast_1d(leak))) for leak in leaked[kind][:NAMED_LEAKS])
            notes.append(f"LEAK: {len(leaked[kind])} {what} are in two splits, so the scores are too high: {names}")
    if not notes:
        notes.append("Leak check: no track name and no picture, as the model gets it, is in two splits.")
    if leaked["equal_within"]:
        pairs = [f"{Path(a).name} = {Path(b).name}" for a, b in leaked["equal_within"][:NAMED_LEAKS]]
        notes.append(
            f"{plural(len(leaked['equal_within']), 'pair')} of equal pictures within a split: {', '.join(pairs)}."
        )
    return notes
