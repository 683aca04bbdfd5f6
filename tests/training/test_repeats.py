"""Several seeds: one report, and their mean as a model."""

import json

import numpy as np
import pytest

from render.errors import MelvisionError
from tests.conftest import write_tree
from vision import evaluate, split, train
from vision.inference.predictor import Predictor
from vision.reports import metrics
from vision.training.config import config_of
from vision.training.repeats import fit_seeds, read_seeds

QUICK = ["--size", "32", "--batch-size", "8", "--threads", "1", "--device", "cpu", "--epochs", "2", "--no-texture"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with ``images``, ``data`` and the ``runs`` of two seeds."""
    root = tmp_path_factory.mktemp("seeds")
    write_tree(root / "images", 8)
    assert split.main([str(root / "images"), "-o", str(root / "data")]) == 0
    flags = ["--data", str(root / "data"), "--out", str(root / "runs"), "--seeds", "3,1"]
    assert train.main([*flags, *QUICK]) == 0
    return root


def test_the_summary_is_of_the_runs(runs):
    summary = json.loads((runs / "runs" / "summary.json").read_text())
    scores = [json.loads((runs / "runs" / f"seed-{seed}" / "metrics.json").read_text()) for seed in (3, 1)]
    for side in ("dev", "dev_last", "test"):
        values = [found[side]["accuracy"] for found in scores]
        assert summary[side]["values"] == values
        assert summary[side]["mean"] == pytest.approx(np.mean(values))
        assert summary[side]["std"] == pytest.approx(np.std(values, ddof=1))
    assert "mean of the 2 models' probabilities" in (runs / "runs" / "evaluation_report.txt").read_text()


def test_their_mean_predicts(runs, capsys):
    files = sorted((runs / "data" / "test").rglob("*.png"))
    together = [found.p for found in Predictor(runs / "runs", "cpu").predict(files)]
    apart = [[found.p for found in Predictor(runs / "runs" / f"seed-{seed}", "cpu").predict(files)] for seed in (1, 3)]
    assert np.abs(np.mean(apart, axis=0) - together).max() < 1e-6
    assert np.abs(np.subtract(*apart)).max() > 1e-4, "the seeds differ"
    summary = json.loads((runs / "runs" / "summary.json").read_text())
    assert evaluate.main([str(runs / "runs"), "--data", str(runs / "data"), "--json", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == summary["pooled"]["accuracy"]
    assert found["trained_on"] == 0
    assert evaluate.main([str(runs / "runs"), "--data", str(runs / "images"), "--json", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["trained_on"] == 18
    labels = [path.parent.name for path in files]
    y = [Predictor(runs / "runs", "cpu").classes.index(label) for label in labels]
    assert metrics.score(y, np.array(together))["accuracy"] == summary["pooled"]["accuracy"]


@pytest.mark.slow
def test_an_interrupted_one_goes_on(runs, tmp_path, capsys, monkeypatch):
    from vision.training import run

    flags = ["--data", str(runs / "data"), "--out", str(tmp_path / "runs"), "--seeds", "3,1", *QUICK]
    finish, calls = run._finish, []

    def stop_at_the_second(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return finish(*given)

    monkeypatch.setattr(run, "_finish", stop_at_the_second)
    assert train.main(flags) == 130
    monkeypatch.undo()
    assert not (tmp_path / "runs" / "summary.json").exists()
    assert train.main(["--resume", str(tmp_path / "runs")]) == 0
    assert capsys.readouterr().out.count("seed 3:") == 1, "what was complete is not done again"
    whole, cut = (json.loads((folder / "runs" / "summary.json").read_text()) for folder in (runs, tmp_path))
    assert {name: whole[name] for name in ("dev", "dev_last", "test", "pooled")} == {
        name: cut[name] for name in ("dev", "dev_last", "test", "pooled")
    }


@pytest.mark.parametrize("seeds", ["1", "1,1", "a,b", "1,-2", ""])
def test_what_are_no_seeds(seeds, capsys):
    assert train.main(["--seeds", seeds]) == 2
    assert f"--seeds {seeds}: expected at least two" in capsys.readouterr().err


def test_a_folder_in_which_none_is_done(runs, tmp_path, capsys):
    (tmp_path / "seeds.json").write_text((runs / "runs" / "seeds.json").read_text())
    assert evaluate.main([str(tmp_path)]) == 2
    assert "no run in it is done" in capsys.readouterr().err


@pytest.mark.slow
def test_the_library_prints_nothing_and_returns_the_scores(runs, tmp_path, capfd):
    config = config_of(train.get_parser().parse_args(QUICK))
    config.data = str(runs / "data")
    result = fit_seeds(config, [3, 1], tmp_path / "runs")
    assert capfd.readouterr() == ("", "")
    summary = json.loads((runs / "runs" / "summary.json").read_text())
    assert result.judged == summary["judged"] == "test"
    assert result.scores == {name: summary[name] for name in ("dev", "dev_last", "test")}
    assert result.together == summary["pooled"]
    assert (result.run, result.problems) == (tmp_path / "runs", [])
    again, lines = tmp_path / "again", []
    assert read_seeds(result.run) == (config, [3, 1])
    with pytest.raises(MelvisionError, match="exists already"):
        fit_seeds(config, [3, 1], result.run)
    again.mkdir()
    (again / "seed-3").symlink_to(result.run / "seed-3")
    (again / "seed-1").symlink_to(result.run / "seed-1")
    assert fit_seeds(config, [3, 1], again, resume=True, progress=lines.append).scores == result.scores
    assert lines == [], "what is complete is not done again"
