"""The page of a search for settings: its history, what its settings matter, and what choosing among them is worth."""

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from render import atomic
from vision.models import run_files
from vision.reports import html, metrics
from vision.reports.plots import DEV, TRAIN, new_figure, save_figure

#: Names of the plots in the folder of the results.
HISTORY_PLOT, IMPORTANCE_PLOT, SETTINGS_PLOT = "history_plot.png", "importance_plot.png", "settings_plot.png"

#: Names of settings on the page where their own would be misread.
SHOWN = {"experts": "experts (weight of the network)"}


class FoldScores(NamedTuple):
    """Of the tracks of one fold: calibrated log loss, accuracy and number of tracks."""

    loss: float
    accuracy: float
    n: int


@dataclass
class TrialRow:
    """One trial.

    Attributes
    ----------
    number : int
        From 0.
    params : dict
        The value of each setting that was searched.
    folds : list of FoldScores
        Of all folds, or of the first ones where it was ended early.
    complete : bool
        Whether it was scored on all folds.
    """

    number: int
    params: dict[str, Any]
    folds: list[FoldScores]
    complete: bool

    @property
    def loss(self) -> float:
        """Mean loss over its folds."""
        return float(np.mean([fold.loss for fold in self.folds])) if self.folds else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of the tracks of its folds that were predicted right."""
        n = sum(fold.n for fold in self.folds)
        return sum(fold.accuracy * fold.n for fold in self.folds) / n if n else float("nan")


@dataclass
class TuningReport:
    """What a search has found.

    Attributes
    ----------
    recipe : str
        Its name.
    start : dict
        The recipe's values of the settings that were searched.
    ranges : dict
        Where each was searched: lowest and highest, or names.
    trials : list of TrialRow
        By number.
    importance : dict of str to float
        Share of the differences in loss that a setting explains; empty with few trials.
    """

    recipe: str
    start: dict[str, Any]
    ranges: dict[str, tuple[Any, ...]]
    trials: list[TrialRow]
    importance: dict[str, float]

    @property
    def complete(self) -> list[TrialRow]:
        """The trials that were scored on all folds."""
        return [row for row in self.trials if row.complete]

    @property
    def best(self) -> TrialRow:
        """The complete trial of least loss."""
        return min(self.complete, key=lambda row: row.loss)

    @property
    def best_name(self) -> str:
        """Which trial is the best, in words."""
        return f"trial {self.best.number + 1} of {len(self.trials)}"

    @property
    def recipe_itself(self) -> TrialRow | None:
        """The trial of the recipe as it is; None where it was not scored."""
        return next((row for row in self.complete if row.params == self.start), None)

    def expected_loss(self, row: TrialRow) -> float:
        """The loss of a trial on all folds; of one that ended early what its first folds let expect.

        Folds differ in how hard they are: what counts is the difference to another trial on the same ones.
        """
        if row.complete or not row.folds:
            return row.loss
        other = self.recipe_itself or self.best
        return other.loss + row.loss - float(np.mean([fold.loss for fold in other.folds[: len(row.folds)]]))

    def nested(self) -> list[FoldScores]:
        """What choosing is worth: for each fold the scores of the trial that is best on the other folds.

        The best of many trials is partly the luckiest on these tracks. Here no track has a say in which trial it is
        scored by: after Cawley and Talbot, "On Over-fitting in Model Selection and Subsequent Selection Bias in
        Performance Evaluation" (2010). It is still a little too good: the sampler saw all folds when it proposed
        later trials.
        """
        complete = self.complete
        losses = np.array([[fold.loss for fold in row.folds] for row in complete])
        others = (losses.sum(axis=1, keepdims=True) - losses) / max(1, losses.shape[1] - 1)
        return [complete[chosen].folds[fold] for fold, chosen in enumerate(others.argmin(axis=0))]

    def summary(self) -> dict[str, Any]:
        """The figures of the page, for ``best.json``."""
        nested = TrialRow(-1, {}, self.nested(), True)
        figures: dict[str, Any] = {"trials": len(self.trials), "complete": len(self.complete)}
        for name, row in (("best", self.best), ("nested", nested), ("recipe", self.recipe_itself)):
            if row:
                figures[name] = {"loss": row.loss, "accuracy": row.accuracy, "n": sum(fold.n for fold in row.folds)}
        if self.recipe_itself:
            pairs = zip(nested.folds, self.recipe_itself.folds, strict=True)
            gains = [before.loss - after.loss for after, before in pairs]
            low, high = metrics.t_interval(gains)
            figures["gain"] = {"mean": float(np.mean(gains)), "interval": [float(low), float(high)]}
        return figures


def verdict(figures: Mapping[str, Any]) -> str:
    """Say in a sentence what the search was worth.

    Parameters
    ----------
    figures : dict
        From `TuningReport.summary`.
    """
    if "gain" not in figures:
        return "The recipe itself could not be scored, so nothing is known of what the search has gained."
    mean, (low, high) = figures["gain"]["mean"], figures["gain"]["interval"]
    text = f"Choosing among {figures['complete']} complete trials is worth {mean:+.3f} of log loss against the recipe "
    text += f"(95 % interval {low:+.3f} to {high:+.3f}, over folds)"
    if low > 0:
        return f"{text}: the search has helped."
    if high < 0:
        return f"{text}: the search has done harm; keep the recipe."
    return f"{text}: no more than chance. Keep the recipe, or search on with more tracks or more trials."


def write_tuning(out: Path, report: TuningReport, *, best_file: str, data: str) -> None:
    """Write ``trials.csv``, the plots and ``report.html`` of a search.

    Parameters
    ----------
    out : Path
        Folder of the results.
    report : TuningReport
    best_file, data : str
        The paths for the commands that the page ends with.
    """
    _write_trials(out / run_files.TRIALS, report)
    plots = {"history": out / HISTORY_PLOT, "settings": out / SETTINGS_PLOT}
    plot_search(plots["history"], report)
    plot_settings(plots["settings"], report)
    if report.importance:
        plots["importance"] = out / IMPORTANCE_PLOT
        plot_importance(plots["importance"], report.importance)
    figures = report.summary()
    best, nested = figures["best"], figures["nested"]
    headline = f"{nested['accuracy']:.1%} of {nested['n']} tracks right with settings chosen without them"
    if "recipe" in figures:
        headline += f"; {figures['recipe']['accuracy']:.1%} with the recipe as it is"
    context = {
        "title": out.resolve().name,
        "subtitle": f"search from the {report.recipe} recipe; pictures of {data}; {time.strftime('%Y-%m-%d')}",
        "headline": headline + ".",
        "note": "",
        "verdict": verdict(figures),
        "plots": plots,
        "score_rows": _score_rows(figures, report),
        "best_name": report.best_name,
        "best_loss": best["loss"],
        "setting_rows": _setting_rows(report),
        "trial_rows": [_trial_row(row) for row in sorted(report.trials, key=lambda row: (not row.complete, row.loss))],
        "trial_head": ["trial", "loss", "accuracy", "folds", *report.ranges],
        "best_file": shlex.quote(best_file),
        "data": shlex.quote(data),
        "recipe": report.recipe,
    }
    html.write_page(out / run_files.PAGE, "tuning.html", context)


def _write_trials(path: Path, report: TuningReport) -> None:
    rows = []
    for row in report.trials:
        cells = [row.number + 1, "complete" if row.complete else "ended early", len(row.folds), row.loss, row.accuracy]
        rows.append([*cells, *(row.params.get(name, "") for name in report.ranges)])
    atomic.write_csv(path, ["trial", "state", "folds", "loss", "accuracy", *report.ranges], rows)


def _score_rows(figures: Mapping[str, Any], report: TuningReport) -> list[list[str]]:
    named = {
        "recipe": f"recipe {report.recipe}, as it is",
        "nested": "chosen on the other folds",
        "best": f"{report.best_name}, the best (optimistic)",
    }
    rows = []
    for name, title in named.items():
        if name in figures:
            one = figures[name]
            low, high = metrics.wilson_interval(round(one["accuracy"] * one["n"]), one["n"])
            interval = f"{low:.1%} to {high:.1%}"
            rows.append([title, str(one["n"]), f"{one['loss']:.3f}", f"{one['accuracy']:.1%}", interval])
    return rows


def _setting_rows(report: TuningReport) -> list[list[str]]:
    rows = []
    for name, values in report.ranges.items():
        best, start = (_shown(one[name]) for one in (report.best.params, report.start))
        searched = " or ".join(values) if isinstance(values[0], str) else f"{values[0]:g} to {values[1]:g}"
        share = f"{report.importance[name]:.0%}" if name in report.importance else "-"
        rows.append([SHOWN.get(name, name), start, best, searched, share])
    return sorted(rows, key=lambda row: -report.importance.get(row[0].split()[0], 0))


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _trial_row(row: TrialRow) -> list[str]:
    scores = [f"{row.loss:.3f}", f"{row.accuracy:.1%}", f"{len(row.folds)}" + ("" if row.complete else ", ended")]
    return [str(row.number + 1), *scores, *(_shown(value) for value in row.params.values())]


def plot_search(path: str | Path, report: TuningReport) -> None:
    """Plot the loss of every trial, and the least one so far.

    Parameters
    ----------
    path : str or Path
        PNG to write.
    report : TuningReport
    """
    figure = new_figure(6.4, 3.8)
    axes = figure.add_subplot()
    done = [(row.number + 1, row.loss) for row in report.complete]
    early = [(row.number + 1, report.expected_loss(row)) for row in report.trials if not row.complete]
    ended = [(number, loss) for number, loss in early if np.isfinite(loss)]
    numbers, losses = np.array(done).T
    axes.step(numbers, np.minimum.accumulate(losses), where="post", color=DEV[0], label="least so far")
    axes.plot(numbers, losses, "o", color=TRAIN[0], label="on all folds")
    if ended:
        axes.plot(*np.array(ended).T, "x", color="0.55", label="ended early: expected")
    # A trial that went astray must not flatten all others.
    top = np.quantile([loss for _, loss in done + ended], 0.9)
    axes.set_ylim(losses.min() - 0.08 * (top - losses.min() + 1e-3), top + 0.25 * (top - losses.min() + 1e-3))
    axes.set_xlabel("trial")
    axes.set_ylabel("log loss of held-out tracks")
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save_figure(figure, path)


def plot_importance(path: str | Path, importance: Mapping[str, float]) -> None:
    """Plot what share of the differences in loss each setting explains, as bars.

    Parameters
    ----------
    path : str or Path
        PNG to write.
    importance : dict of str to float
        From functional analysis of variance, after Hutter, Hoos and Leyton-Brown (2014).
    """
    names = sorted(importance, key=importance.__getitem__)
    figure = new_figure(6.4, 0.9 + 0.3 * len(names))
    axes = figure.add_subplot()
    bars = axes.barh([SHOWN.get(name, name) for name in names], [importance[name] for name in names], color=TRAIN[0])
    axes.bar_label(bars, [f"{importance[name]:.0%}" for name in names], padding=3, fontsize=9)
    axes.set_xlim(0, max(importance.values()) * 1.15)
    axes.set_xlabel("share of the differences in loss")
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def plot_settings(path: str | Path, report: TuningReport) -> None:
    """Plot the loss of the trials against each setting.

    Parameters
    ----------
    path : str or Path
        PNG to write.
    report : TuningReport
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    names = sorted(report.ranges, key=lambda name: -report.importance.get(name, 0))
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(2.6 * columns, 2.1 * rows)
    losses = [row.loss for row in report.complete]
    top = float(np.quantile(losses, 0.9))
    least = min(losses)
    reach = top - least + 1e-3
    limit = top + 0.2 * reach
    for place, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, place + 1)
        values = report.ranges[name]
        for row in report.complete:
            if name in row.params:
                first = row is report.recipe_itself
                look: dict[str, Any] = {"color": DEV[0] if first else TRAIN[0], "marker": "s" if first else "o"}
                if row.loss > limit:
                    look["marker"] = "^"
                axes.plot([row.params[name]], [min(row.loss, limit)], markersize=5, alpha=0.8, linestyle="", **look)
        if isinstance(values[0], float) and values[0] > 0 and values[1] / values[0] > 10:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=4))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(least - 0.1 * reach, top + 0.3 * reach)
        axes.set_title(SHOWN.get(name, name), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if place % columns == 0:
            axes.set_ylabel("loss", fontsize=9)
    save_figure(figure, path)
