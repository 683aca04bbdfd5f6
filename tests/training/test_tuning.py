"""The search for settings: what it may see, that it goes on where it stopped, and what choosing is worth."""

import builtins
import csv
import json
import math
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.conftest import write_tree
from tests.reports.pages import PageReader
from tests.training.runs import interrupt
from vision import compare, train, tune
from vision.reports.tuning import FoldScores, TrialRow, TuningReport, verdict
from vision.training import tuning
from vision.training.config import TrainConfig, config_of

pytest.importorskip("optuna")

ROOT = Path(__file__).parents[2]
QUICK = ["--size", "32", "--batch-size", "8", "--threads", "1", "--device", "cpu", "--precision", "fp32"]
QUICK += ["--model", "cnn2", "--no-texture", "--soft-labels", "0", "--epochs", "1", "--folds", "2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Train and dev; and a test folder that nobody could read."""
    root = tmp_path_factory.mktemp("tuning") / "data"
    write_tree(root / "train", 4)
    write_tree(root / "dev", 2, start=4)
    for genre in ("blues", "jazz", "metal"):
        (root / "test" / genre).mkdir(parents=True)
        (root / "test" / genre / "broken.png").write_bytes(b"no picture")
    return root


def search(data, out, trials, *more):
    return tune.main(["--data", str(data), "--out", str(out), "--trials", str(trials), *QUICK, *more])


def trials_of(out):
    with open(out / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A search of 7 trials that nothing interrupted, in a folder whose name a database's URL would misread."""
    out = tmp_path_factory.mktemp("whole") / "a?b%20#c"
    assert search(data, out, 7) == 1  # of test, the pictures that cannot be read are listed as ever
    return out


def test_the_first_trial_is_the_recipe_and_the_best_can_be_trained_with(data, whole, tmp_path):
    rows = trials_of(whole)
    assert len(rows) == 7
    recipe = TrainConfig.from_recipe("standard", model="cnn2")
    assert all(float(rows[0][name]) == getattr(recipe, name) for name in ("lr", "mixup", "dropout", "masks"))
    assert len({row["lr"] for row in rows}) == 7
    best = min((row for row in rows if row["state"] == "complete"), key=lambda row: float(row["loss"]))
    args = train.get_parser().parse_args(["--data", str(data), "--config", str(whole / "best.json")])
    config = config_of(args)
    config.check()
    for name in ("lr", "weight_decay", "random_eq", "label_smoothing"):
        assert getattr(config, name) == pytest.approx(float(best[name]), rel=0.01, abs=1e-9)
    assert (config.model, config.size, config.epochs) == ("cnn2", 32, 1)
    assert "optimistic" in config.note
    assert {path.name for path in whole.iterdir()} == {
        "best.json", "trials.csv", "tune.db", "report.html", "history_plot.png", "settings_plot.png"
    }  # fmt: skip


def test_what_is_given_is_not_searched(data, whole):
    given = {"model", "soft_labels", "experts"}
    assert not given & set(trials_of(whole)[0])
    config = TrainConfig.from_recipe("standard")
    names = tuning.searched_settings(config, fixed=["lr"])
    assert "lr" not in names and {"model", "experts", "mixup"} <= set(names)
    assert tuning.searched_settings(config, fixed=[], only=["lr"]) == ["lr"]
    start = tuning.starting_point(config, names)
    assert start["experts"] == pytest.approx(0.6)
    for one in ({"fixed": ["lr"], "only": ["lr"]}, {"fixed": [], "only": ["epochs"]}):
        with pytest.raises(ValueError, match="expected"):
            tuning.searched_settings(config, **one)


def test_every_recipe_begins_inside_of_what_is_searched():
    import optuna

    for recipe in ("standard", "quick", "classic"):
        config = TrainConfig.from_recipe(recipe)
        names = tuning.searched_settings(config, fixed=[])
        trial = optuna.trial.FixedTrial(tuning.starting_point(config, names))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it warns of a value that is out of the range
            again = tuning.suggest(trial, config, names)
        assert again.expert_weights == pytest.approx(config.expert_weights)
        again.check()
        assert {name: getattr(again, name) for name in names if name != "experts"} == {
            name: getattr(config, name) for name in names if name != "experts"
        }


def test_after_ctrl_c_the_search_goes_on(data, whole, tmp_path, monkeypatch, capsys):
    out = tmp_path / whole.name
    with monkeypatch.context() as patch:
        interrupt(patch, tuning, "run_fold", after=3)
        assert search(data, out, 7) == 130
    assert "run the same command again" in capsys.readouterr().err
    assert not list(out.glob("trial-*"))
    assert search(data, out, 7) == 1
    rows, expected = trials_of(out), trials_of(whole)
    # The trial that was cut off is not one of them; what was whole before is kept as it was.
    assert len(rows) == 7 and [row["trial"] for row in rows] == ["1", *"345678"]
    assert rows[0] == expected[0]


def test_the_page_of_all_runs_leads_to_a_search_and_compare_passes_it_over(data, whole, tmp_path, capsys):
    runs = tmp_path / "runs"
    shutil.copytree(whole, runs / "tune & more")
    for split in ("train", "dev"):
        shutil.copytree(data / split, tmp_path / "data" / split)
    for seed in ("0", "1"):
        flags = [*QUICK[:-2], "--seed", seed, "--out", str(runs / f"run-{seed}")]
        assert train.main(["--data", str(tmp_path / "data"), *flags]) == 0
    page = PageReader((runs / "index.html").read_text("utf-8"))
    assert "tune%20%26%20more/report.html" in page.links
    capsys.readouterr()
    assert compare.main([str(path) for path in sorted(runs.iterdir())]) == 0
    assert "tune" not in capsys.readouterr().out


def test_a_search_in_two_parts_ends_as_one_in_one(data, whole, tmp_path):
    out = tmp_path / whole.name
    assert search(data, out, 3) == 1
    assert search(data, out, 7) == 1
    assert trials_of(out) == trials_of(whole)


def test_other_settings_or_pictures_are_another_search(data, whole, tmp_path, capsys):
    assert search(data, whole, 9, "--batch-size", "4") == 2
    assert "other batch_size" in capsys.readouterr().err
    other = write_tree(tmp_path / "data" / "train", 3).parent
    write_tree(other / "dev", 2, start=8)
    assert search(other, whole, 9) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "other pictures" in error


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////nowhere/at/all.db", "unknown://x/y"])
def test_a_database_that_cannot_be_used_is_refused_in_one_line(data, tmp_path, capsys, url):
    assert search(data, tmp_path / "out", 2, "--storage", url) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {url}: ") and "expected a database" in error


def test_without_optuna_one_line_says_what_to_install(data, tmp_path, monkeypatch, capsys):
    real = builtins.__import__

    def missing(name, *args, **how):
        if name.partition(".")[0] == "optuna":
            raise ImportError(name)
        return real(name, *args, **how)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert search(data, tmp_path / "out", 2) == 2
    assert '".[tune]"' in capsys.readouterr().err


def test_losses_that_are_not_finite_end_a_trial(data, tmp_path, monkeypatch, capsys):
    real, calls = tuning.run_fold, []

    def first_fine(*args):
        p = real(*args)
        calls.append(None)
        return p if len(calls) <= 2 else p * np.nan

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "run_fold", first_fine)
        assert search(data, tmp_path / "one", 3) == 1
    rows = trials_of(tmp_path / "one")
    assert [row["state"] for row in rows] == ["complete", "ended early", "ended early"]
    assert math.isfinite(json.loads((tmp_path / "one" / "best.json").read_text())["about"]["best"]["loss"])
    monkeypatch.setattr(tuning, "run_fold", lambda *args: real(*args) * np.nan)
    assert search(data, tmp_path / "none", 2) == 2
    assert "not finite" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_share_a_search(data, tmp_path):
    command = [sys.executable, "-m", "vision.tune", "--data", str(data), "--out", str(tmp_path / "shared")]
    command += ["--storage", f"sqlite:///{tmp_path / 'shared.db'}", "--trials", "5", *QUICK]
    running = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [one.communicate(timeout=300)[1] for one in running]
    assert [one.returncode for one in running] == [1, 1, 1], errors
    assert 5 <= len(trials_of(tmp_path / "shared")) <= 7  # all may begin the last one
    assert not list((tmp_path / "shared").glob("trial-*"))


def report_of(losses):
    trials = [TrialRow(n, {}, [FoldScores(float(x), 0.5, 10) for x in row], True) for n, row in enumerate(losses)]
    return TuningReport("standard", {}, {}, trials, {})


@given(arrays(float, st.tuples(st.integers(1, 8), st.integers(2, 6)), elements=st.floats(0, 5)))
def test_the_nested_estimate_is_never_better_than_the_best(losses):
    report = report_of(losses)
    nested = np.mean([fold.loss for fold in report.nested()])
    assert nested >= report.best.loss - 1e-9


def test_the_nested_estimate_of_pure_luck_is_chance():
    """Trials that differ by luck alone: the best looks better than all are, the nested estimate does not."""
    rng = np.random.default_rng(0)
    reports = [report_of(1 + 0.1 * rng.standard_normal((30, 5))) for _ in range(200)]
    best = np.mean([report.best.loss for report in reports])
    nested = np.mean([np.mean([fold.loss for fold in report.nested()]) for report in reports])
    assert best < 0.93
    assert nested == pytest.approx(1, abs=0.01)


def test_what_a_trial_that_ended_early_lets_expect():
    """On a hard fold it is worse by 0.1 than the recipe, which has a loss of 1 on all."""
    report = report_of(np.array([[1.6, 0.7, 0.7]]))
    early = TrialRow(1, {"lr": 1.0}, [FoldScores(1.7, 0.4, 10)], False)
    assert report.expected_loss(early) == pytest.approx(1.1)
    assert report.expected_loss(report.trials[0]) == pytest.approx(1.0)


def test_the_verdict_follows_the_interval():
    worse, equal = np.full((1, 5), 1.0), np.linspace(0.9, 1.1, 5)[None]
    better = np.concatenate([worse, [[0.5, 0.51, 0.5, 0.49, 0.5]]])
    assert "helped" in verdict(report_of(better).summary())
    assert "chance" in verdict(report_of(np.concatenate([worse, equal])).summary())
