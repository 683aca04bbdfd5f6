"""From settings to a run folder, through the command line, on pictures that a small network can learn."""

import json
import os

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from render import png
from render.errors import MelvisionError, ParameterError
from tests.conftest import BANDS, rows_of, spectrogram_of, write_tree
from tests.training.runs import QUICK, same_weights
from vision import split, train
from vision.inference.predictor import Predictor
from vision.models import checkpoint
from vision.training import run
from vision.training.config import TrainConfig
from vision.training.run import fit

SMALL = {"model": "cnn2", "experts": "network", "size": 32, "batch_size": 8, "epochs": 2, "device": "cpu"}


def test_it_learns_and_leaves_a_run_folder(trained):
    folder = trained / "run"
    expected = "config.json split.csv history.csv metrics.json model.pt evaluation_report.txt accuracy_plot.png"
    expected += " loss_plot.png confusion_matrix.png spread_plot.png predictions.csv report.html"
    assert {path.name for path in folder.iterdir()} == set(expected.split())
    scores = json.loads((folder / "metrics.json").read_text())
    for side, n in (("train", 30), ("dev", 3), ("test", 3)):
        assert scores[side]["n"] == n
        assert scores[side]["accuracy"] == 1.0, "three genres in three bands"
        low, high = scores[side]["interval"]
        assert 0 < low < high <= 1
    history = rows_of(folder / "history.csv")
    assert [int(row["epoch"]) for row in history] == list(range(1, 13))
    assert float(history[-1]["dev_loss"]) < float(history[0]["dev_loss"]) / 3
    config = json.loads((folder / "config.json").read_text())
    assert config["config"]["epochs"] == 12
    assert config["versions"]["torch"] == torch.__version__
    for name in ("accuracy_plot", "loss_plot", "confusion_matrix"):
        assert min(Image.open(folder / f"{name}.png").size) > 300
    page = (folder / "report.html").read_text()
    assert 'src="data:image/png' in page
    assert "http" not in page, "self-contained"


def test_a_sample_of_a_large_training_set_is_scored(trained, tmp_path, monkeypatch):
    """Of 100 000 pictures, scoring all that were trained on would take longer than an epoch."""
    monkeypatch.setattr(run, "SCORED_TRAIN", 7)
    result = fit(TrainConfig(data=str(trained / "data"), **SMALL), tmp_path / "run")
    rows = [row for row in rows_of(tmp_path / "run" / "predictions.csv") if row["split"] == "train"]
    assert result.scores["train"]["n"] == len(rows) == 6, "every fifth of 30"
    assert {row["genre"] for row in rows} == set(BANDS)
    predictor = Predictor(tmp_path / "run")
    for row in rows:
        p = predictor.predict(row["file"]).probabilities
        assert all(float(row[name]) == pytest.approx(p[name], abs=1e-4) for name in BANDS)
    assert result.scores["test"]["n"] == 3
    assert "6 of 30 tracks" in (tmp_path / "run" / "report.html").read_text()


def test_text_report_is_scikit_learns(trained):
    from sklearn.metrics import classification_report

    rows = [row for row in rows_of(trained / "run" / "predictions.csv") if row["split"] == "test"]
    ours = (trained / "run" / "evaluation_report.txt").read_text()
    truth = classification_report([row["genre"] for row in rows], [row["predicted"] for row in rows], digits=3)
    for name in [*BANDS, "macro avg", "weighted avg"]:
        line = next(line for line in truth.splitlines() if line.strip().startswith(name))
        assert line.split() in [found.split() for found in ours.splitlines()]


def test_same_seed_same_weights(trained, tmp_path, no_plots):
    for name in ("a", "b"):
        flags = ["--data", str(trained / "data"), "--out", str(tmp_path / name), "--epochs", "2", *QUICK]
        assert train.main(flags) == 0
    assert same_weights(tmp_path / "a", tmp_path / "b")
    flags = ["--data", str(trained / "data"), "--out", str(tmp_path / "c"), "--epochs", "2", "--seed", "1", *QUICK]
    assert train.main(flags) == 0
    assert not same_weights(tmp_path / "a", tmp_path / "c")


def test_names_that_are_no_text(tmp_path):
    odd = os.fsdecode(b"bl\xffues")
    write_tree(tmp_path / "images", 4)
    (tmp_path / "images" / "blues").rename(tmp_path / "images" / odd)
    assert split.main([str(tmp_path / "images"), "-o", str(tmp_path / "data")]) == 0
    assert train.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--epochs", "1", *QUICK]) == 0
    assert Predictor(tmp_path / "run", "cpu").classes[0] == odd


@pytest.mark.slow
def test_mixed_origins_train_together(tmp_path):
    """Ours, matplotlib's with margins, and grey ones in one folder."""
    from matplotlib.figure import Figure

    write_tree(tmp_path / "images", 5)
    for genre in BANDS:
        for number in range(5, 10):
            S_db = spectrogram_of(genre, number, 200)
            if number == 5:
                levels = png.quantise(S_db, vmin=-80, vmax=0)[::-1]
                Image.fromarray(np.ascontiguousarray(levels)).save(tmp_path / "images" / genre / "grey.png")
                continue
            figure = Figure(figsize=(4.32, 2.88))
            axes = figure.add_subplot()
            axes.imshow(S_db, origin="lower", aspect="auto", cmap="viridis")
            axes.axis("off")
            figure.savefig(tmp_path / "images" / genre / f"kaggle{number:05}.png")
    assert split.main([str(tmp_path / "images"), "-o", str(tmp_path / "data")]) == 0
    flags = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--epochs", "10", *QUICK]
    assert train.main(flags) == 0
    _, spec = checkpoint.load_model(tmp_path / "run")
    assert spec.input.channels == 1
    assert [frame["size"] for frame in spec.input.frames] == [[432, 288]]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["accuracy"] == 1.0


def test_training_on_what_cannot_be_trained_on(tmp_path, monkeypatch, capsys, trained):
    monkeypatch.chdir(tmp_path)

    def refused(*flags):
        assert train.main([*flags]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and error.startswith("error: ")
        return error

    assert "images_original: there is no such folder" in refused()
    (tmp_path / "images_original" / "blues").mkdir(parents=True)
    soundfile.write(tmp_path / "images_original" / "blues" / "a.wav", np.zeros(5000), 22050)
    assert "python -m render images_original" in refused()
    printed = refused("--data", str(tmp_path / "images_original"))
    assert "has no train and no dev" in printed
    assert "python -m render" in printed
    assert "there is no such folder; split a pictures folder" in refused("--data", str(tmp_path / "nowhere"))
    write_tree(tmp_path / "one" / "train", 3, ["jazz"])
    assert "has no dev folder" in refused("--data", "one")
    write_tree(tmp_path / "one" / "dev", 3, ["jazz"], start=3)
    assert "one genre only" in refused("--data", "one")
    write_tree(tmp_path / "one" / "train", 3, ["metal"])
    write_tree(tmp_path / "one" / "dev", 1, ["blues"])
    assert "blues are not among" in refused("--data", "one")
    assert list((tmp_path / "runs").iterdir()) == [], "no empty run folders are left"
    (tmp_path / "runs" / "x.txt").write_text("mine")
    assert "exists already" in refused("--data", str(trained / "data"), "--out", "runs")
    assert "--epochs 0" in refused("--data", str(trained / "data"), "--epochs", "0")
    assert "--size 100" in refused("--data", str(trained / "data"), "--size", "100")
    assert "--device warp" in refused("--data", str(trained / "data"), "--out", "new", "--device", "warp")
    assert "no run to resume" in refused("--resume", "nowhere")
    assert not (tmp_path / "new").exists()


def test_bad_pictures_cost_themselves_only(tmp_path, capsys):
    write_tree(tmp_path / "images", 5)
    assert split.main([str(tmp_path / "images"), "-o", str(tmp_path / "data")]) == 0
    (tmp_path / "data" / "train" / "jazz" / "bad.png").write_bytes(b"nothing")
    flags = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--epochs", "1", *QUICK]
    assert train.main(flags) == 1
    assert "bad.png: cannot be read" in capsys.readouterr().err
    assert (tmp_path / "run" / "metrics.json").exists()


def test_the_library_prints_nothing_and_returns_the_run(trained, tmp_path, capfd, no_plots):
    config = TrainConfig(data=str(trained / "data"), **SMALL)
    threads, rows = torch.get_num_threads(), []
    result = fit(config, tmp_path / "run", on_epoch=rows.append)
    assert capfd.readouterr() == ("", "")
    assert torch.get_num_threads() == threads
    assert result.run == tmp_path / "run"
    assert result.scores == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert [row["epoch"] for row in result.history] == [1, 2]
    assert rows == result.history
    assert result.problems == [] and len(result.notes) == 1 and "few tracks to learn from" in result.notes[0]
    lines = []
    again = fit(config, tmp_path / "again", progress=lines.append)
    assert again.scores == result.scores
    assert lines[0] == f"note: {result.notes[0]}"
    assert lines[1].startswith("30 train, 3 dev, 3 test pictures") and len(lines) == 4


def test_the_default_folder_is_the_next_that_is_free(trained, tmp_path, monkeypatch, no_plots):
    monkeypatch.chdir(tmp_path)
    config = TrainConfig.from_recipe("classic", data=str(trained / "data"), **SMALL | {"epochs": 1})
    assert [str(fit(config).run) for _ in range(2)] == ["runs/classic-001", "runs/classic-002"]


def test_no_run_is_overwritten_and_no_empty_folder_left(trained, tmp_path):
    config = TrainConfig(data=str(trained / "data"), **SMALL)
    with pytest.raises(MelvisionError, match="exists already"):
        fit(config, trained / "run")
    with pytest.raises(ParameterError, match="batch_size=1"):
        fit(TrainConfig(data=config.data, batch_size=1), tmp_path / "run")
    with pytest.raises(MelvisionError, match="there is no such folder"):
        fit(TrainConfig(data=str(tmp_path / "nowhere")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("settings", [{"model": "nope"}, {"model": "resnet18", "weights": ""}])
def test_a_wrong_model_is_refused_before_a_picture_is_read(images, tmp_path, monkeypatch, settings):
    """And nothing is left of the run folder."""
    monkeypatch.setattr("vision.training.run._read_once", lambda *_: 1 / 0)
    config = TrainConfig(data=str(tmp_path / "data"), size=32, device="cpu", **settings)
    expected = MelvisionError if settings["model"] == "nope" else ZeroDivisionError
    with pytest.raises(expected):
        fit(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
