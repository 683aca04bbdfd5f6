"""The model that one really uses: trained on all tracks."""

import json
import shutil

import pytest

from tests.conftest import rows_of
from tests.reports.pages import PageReader
from tests.training.runs import interrupt, same_weights
from vision import compare, evaluate, train
from vision.models import checkpoint
from vision.models.thresholds import Thresholds
from vision.training import loop


@pytest.fixture(scope="module")
def final(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("final") / "out"
    assert train.main(["--final", "--like", str(trained / "run"), "--out", str(out)]) == 0
    return out


def test_it_learns_from_all_tracks_what_the_measured_run_was_told(trained, final):
    rows = rows_of(final / "split.csv")
    assert len(rows) == 36 and {row["split"] for row in rows} == {"train"}
    measured, ours = (json.loads((run / "config.json").read_text()) for run in (trained / "run", final))
    assert ours["config"] == measured["config"]
    history = rows_of(final / "history.csv")
    assert len(history) == measured["config"]["epochs"] and "dev_accuracy" not in history[0]


def test_it_gets_the_temperature_and_thresholds(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    model, spec = checkpoint.load_model(run)
    model.temperature.fill_(1.7)
    spec.about["temperature"], spec.thresholds = 1.7, Thresholds(0.4, 2.5, (1.0, 0.5), (0.3, 0.2))
    checkpoint.save(run / "model.pt", model, spec)
    assert train.main(["--final", "--like", str(run), "--out", str(tmp_path / "out")]) == 0
    model, after = checkpoint.load_model(tmp_path / "out")
    assert model.temperature.item() == pytest.approx(1.7) and after.thresholds == spec.thresholds
    assert after.classes == spec.classes


def test_it_says_that_nothing_measures_it(trained, final, capsys):
    text = (final / "evaluation_report.txt").read_text()
    scores = json.loads((trained / "run" / "metrics.json").read_text())["test"]
    assert "nothing is left to measure" in text and f"of {scores['n']} test tracks right" in text
    page = PageReader((final / "report.html").read_text("utf-8"))
    assert any(link.endswith("run/report.html") for link in page.links)
    assert json.loads((final / "metrics.json").read_text())["measured"]["test"]["accuracy"] == scores["accuracy"]
    capsys.readouterr()
    assert evaluate.main([str(final)]) == 0
    assert "3 of 3 tracks are in the training set; this score is optimistic" in capsys.readouterr().err
    assert compare.main([str(final), str(trained / "run")]) == 2
    assert "is a final model" in capsys.readouterr().err


def test_it_is_resumed_to_the_same_weights(trained, final, tmp_path, monkeypatch):
    out = tmp_path / "out"
    interrupt(monkeypatch, loop, "write_state", 3)
    assert train.main(["--final", "--like", str(trained / "run"), "--out", str(out)]) == 130
    monkeypatch.undo()
    assert train.main(["--resume", str(out)]) == 0
    assert same_weights(out, final)
    assert {path.name for path in out.iterdir()} == {path.name for path in final.iterdir()}


def test_other_data_of_the_same_genres(trained, tmp_path, capsys):
    out = tmp_path / "out"
    flags = ["--final", "--like", str(trained / "run"), "--out", str(out), "--data"]
    assert train.main([*flags, str(trained / "images")]) == 0
    assert len(rows_of(out / "split.csv")) == 36
    shutil.copytree(trained / "images", tmp_path / "images")
    shutil.copytree(trained / "images" / "jazz", tmp_path / "images" / "techno")
    shutil.rmtree(out)
    assert train.main([*flags, str(tmp_path / "images")]) == 2
    assert "techno" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--final"], "--final and --like RUN go together"),
        (["--like", "run"], "--final and --like RUN go together"),
        (["--final", "--like", "run", "--epochs", "3"], "give no other flags but --out and --data"),
        (["--final", "--like", "nothing"], "expected a finished run"),
    ],
)
def test_wrong_use(flags, error, capsys):
    assert train.main(flags) == 2
    printed = capsys.readouterr().err
    assert error in printed and printed.count("\n") == 1


def test_a_final_model_measures_no_other(final, tmp_path, capsys):
    assert train.main(["--final", "--like", str(final), "--out", str(tmp_path / "out")]) == 2
    assert "is a final model" in capsys.readouterr().err
