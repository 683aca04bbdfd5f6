"""Several runs side by side: what differs in their settings, and whether their scores differ by more than chance."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from render.cli import one_line
from render.errors import MelvisionError
from vision.reports import html
from vision.reports.runs import Run, Track, interval_text, read_run
from vision.reports.tables import NO_SCORE, summary_line
from vision.reports.text_table import text_table

#: Runs of which every pair is tested; of more, each with the first one.
MOST_IN_ALL_PAIRS = 4

#: Two runs are tested on the tracks that both were scored on where these are so large a share of each one's tracks.
SHARED_ENOUGH = 0.5

#: p below this is usually called significant.
SIGNIFICANT = 0.05

SCORE_HEADER = [
    "run", "scored on", "tracks", "accuracy", "95 % interval", "macro F1", "loss", "epochs", "kept epoch"
]  # fmt: skip


@dataclass
class PairedTest:
    """Two runs on the tracks that both were scored on.

    Attributes
    ----------
    first, second : str
        The names of the runs.
    n_first, n_second, n_shared : int
        Tracks that each, and that both were scored on.
    only_first, only_second : int
        Shared tracks that one of them alone predicts right.
    p : float or None
        Of McNemar's exact test; None where the tracks are too different.
    p_holm : float or None
        The same, corrected for the number of tests; see `holm`.
    """

    first: str
    second: str
    n_first: int
    n_second: int
    n_shared: int
    only_first: int
    only_second: int
    p: float | None
    p_holm: float | None = None


@dataclass
class Comparison:
    """What `compare_runs` returns.

    Attributes
    ----------
    runs : list of Run
        Settings and scores of each.
    settings : dict of str to list
        For each setting that differs, its value in each run; None where a run does not have it.
    tests : list of PairedTest
        Of each pair of runs, or of each run with the first one.
    """

    runs: list[Run]
    settings: dict[str, list[Any]]
    tests: list[PairedTest]

    def to_dict(self) -> dict[str, Any]:
        """Everything, of types that JSON has."""
        names = ("name", "judged", "scores", "spread", "epochs", "kept_epoch", "settings")
        runs = [{name: getattr(run, name) for name in names} for run in self.runs]
        tests = [asdict(test) for test in self.tests]
        return {"runs": runs, "differing_settings": self.settings, "tests": tests}


def compare_runs(folders: Sequence[str | Path]) -> Comparison:
    """Compare the settings and scores of finished runs.

    Parameters
    ----------
    folders : sequence of str or Path
        At least two: run folders of ``vision.train``, also of several seeds, and folders of ``vision.crossval``.

    Returns
    -------
    comparison : Comparison

    Raises
    ------
    MelvisionError
        When there are fewer than two, one is given twice, or one is not finished or damaged.

    Examples
    --------
    >>> compare_runs(["runs/standard-001", "runs/quick-001"]).tests[0].p               # doctest: +SKIP
    0.065
    """
    if len(folders) < 2:
        given = ", ".join(map(str, folders)) or "none"
        raise MelvisionError(f"{given}: expected at least two runs to compare")
    seen: set[Path] = set()
    for folder in folders:
        if Path(folder).resolve() in seen:
            raise MelvisionError(f"{folder}: is given twice; expected different runs")
        seen.add(Path(folder).resolve())
    runs = [read_run(folder) for folder in folders]
    pairs = list(combinations(runs, 2)) if len(runs) <= MOST_IN_ALL_PAIRS else [(runs[0], run) for run in runs[1:]]
    tests = [paired_test(first.right, second.right, (first.name, second.name)) for first, second in pairs]
    done = [(test, test.p) for test in tests if test.p is not None]
    for (test, _), corrected in zip(done, holm([p for _, p in done]), strict=True):
        test.p_holm = corrected
    return Comparison(runs, differing_settings([run.settings for run in runs]), tests)


def differing_settings(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the settings that differ.

    Parameters
    ----------
    settings : sequence of dict
        Of each run.

    Returns
    -------
    values : dict of str to list
        Of each setting that not all runs share, its value in each; None where a run does not have it.
    """
    names = dict.fromkeys(name for of_run in settings for name in of_run)
    values = {name: [of_run.get(name) for of_run in settings] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test: the two-sided p-value of the tracks that one model alone predicts right.

    McNemar, "Note on the sampling error of the difference between correlated proportions or percentages" (1947). If
    both models are equally good, each of these tracks is as likely to be the first's as the second's, so their
    numbers follow a binomial distribution of 1/2.

    Parameters
    ----------
    only_first, only_second : int
        From 0.

    Returns
    -------
    p : float, in (0, 1]
        1 where there is no such track.
    """
    from scipy.stats import binomtest

    n = only_first + only_second
    return float(binomtest(only_first, n, 0.5).pvalue) if n else 1.0


def holm(p: ArrayLike) -> list[float]:
    """Correct p-values for their number: Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979).

    Parameters
    ----------
    p : array_like, shape (n,)
        Of all tests that were made.

    Returns
    -------
    corrected : list of float
        In the order given. The probability that any of them is below a level, though no model is better than another,
        is at most that level.
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected.tolist()


def paired_test(first: Mapping[Track, bool], second: Mapping[Track, bool], names: tuple[str, str]) -> PairedTest:
    """Test whether two models differ on the tracks that both were scored on.

    Parameters
    ----------
    first, second : dict of (str, str) to bool
        Whether each track is predicted right; see `Run.right`.
    names : (str, str)
        Of the runs.

    Returns
    -------
    test : PairedTest
        Without a p-value where the shared tracks are less than half of either one's.
    """
    shared = first.keys() & second.keys()
    only_first = sum(first[track] and not second[track] for track in shared)
    only_second = sum(second[track] and not first[track] for track in shared)
    enough = len(shared) >= SHARED_ENOUGH * max(len(first), len(second))
    p = mcnemar(only_first, only_second) if shared and enough else None
    return PairedTest(*names, len(first), len(second), len(shared), only_first, only_second, p)


def score_rows(runs: Sequence[Run]) -> list[list[Any]]:
    """Rows of the table of runs, under `SCORE_HEADER`."""
    rows = []
    for run in runs:
        scores = run.scores
        figures = [f"{scores['accuracy']:.3f}", interval_text(scores), f"{scores['macro_f1']:.3f}"]
        epochs = [NO_SCORE if number is None else number for number in (run.epochs, run.kept_epoch)]
        rows.append([run.name, run.judged, scores["n"], *figures, f"{scores['loss']:.3f}", *epochs])
    return rows


def setting_rows(settings: Mapping[str, Sequence[Any]]) -> list[list[str]]:
    """Rows of the table of settings: a name, and its value in each run."""
    return [[name, *map(_shown, values)] for name, values in settings.items()]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or NO_SCORE
    return NO_SCORE if value in (None, "") else str(value)


def spread_lines(runs: Sequence[Run]) -> list[str]:
    """A line for each folder of several models: the mean of their accuracies and its interval."""
    return [summary_line(f"{one_line(run.name)}, each model by itself", run.spread) for run in runs if run.spread]


def _p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def outcome_lines(tests: Sequence[PairedTest]) -> list[str]:
    """Say in words what each test found, or why it was not made."""
    n_tests = sum(test.p is not None for test in tests)
    return [_outcome_line(test, n_tests) for test in tests]


def _outcome_line(test: PairedTest, n_tests: int) -> str:
    first, second = one_line(test.first), one_line(test.second)
    of_each = f"of {test.n_first} and {test.n_second}"
    if test.p is None or test.p_holm is None:
        return f"{first} against {second}: not tested: they share only {test.n_shared} tracks, {of_each}"
    whole = test.n_shared == test.n_first == test.n_second
    tracks = f"{test.n_shared} tracks" if whole else f"the {test.n_shared} tracks that both were scored on, {of_each}"
    corrected = f"; {_p_text(test.p_holm)} after Holm's correction for {n_tests} tests" if n_tests > 1 else ""
    return (
        f"{first} against {second} on {tracks}: {first} right, {second} wrong: {test.only_first}; "
        f"the other way: {test.only_second}; {_p_text(test.p)} (exact McNemar{corrected})"
    )


def text_lines(comparison: Comparison) -> list[str]:
    """Format a comparison as lines of text."""
    runs = comparison.runs
    lines = [*text_table(SCORE_HEADER, score_rows(runs)), *spread_lines(runs), ""]
    if comparison.settings:
        lines += text_table(["setting", *(run.name for run in runs)], setting_rows(comparison.settings))
    else:
        lines.append("No setting differs.")
    return [*lines, "", *outcome_lines(comparison.tests)]


def _headline(comparison: Comparison) -> str:
    """The one thing to know: whether any difference is more than chance."""
    done = [test.p_holm for test in comparison.tests if test.p_holm is not None]
    if not done:
        return "These runs were not scored on the same tracks, so their scores cannot be compared directly."
    n_found = sum(p < SIGNIFICANT for p in done)
    if len(done) > 1:
        level = f"corrected p < {SIGNIFICANT:g}"
        if not n_found:
            return f"None of the {len(done)} differences is more than chance may give (none has a {level})."
        return f"{n_found} of {len(done)} differences are unlikely to be chance ({level})."
    return f"The difference {'is unlikely to' if n_found else 'may well'} be chance ({_p_text(done[0])})."


def write_page(path: str | Path, comparison: Comparison) -> None:
    """Write a comparison as a page, with the curves of the runs that have a history.

    Parameters
    ----------
    path : str or Path
        HTML file to write.
    comparison : Comparison
    """
    from vision.reports.plots import plot_curves  # imports matplotlib and torch, which takes long

    runs = comparison.runs
    histories = {run.name: run.histories for run in runs if run.histories}
    with tempfile.TemporaryDirectory() as folder:
        plots = [Path(folder) / f"dev_{quantity}.png" for quantity in ("accuracy", "loss")] if histories else []
        for plot in plots:
            plot_curves(plot, histories, plot.stem)
        context = {
            "title": f"{len(runs)} runs compared",
            "headline": _headline(comparison),
            "note": "",
            "score_header": SCORE_HEADER,
            "score_rows": score_rows(runs),
            "spread_lines": spread_lines(runs),
            "setting_header": ["setting", *(run.name for run in runs)],
            "setting_rows": setting_rows(comparison.settings),
            "outcome_lines": outcome_lines(comparison.tests),
            "n_tests": sum(test.p is not None for test in comparison.tests),
            "significant": SIGNIFICANT,
            "plots": plots,
        }
        html.write_page(path, "compare.html", context)
