"""Training, evaluating and predicting, through the command lines, on pictures a small network can learn."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from render import __main__ as render_command
from render import png
from render.errors import MelvisionError
from tests.conftest import BANDS, DATA, needs_data, spectrogram_of, write_picture, write_tree
from vision import evaluate, explain, predict, split, train
from vision.data.dataset import list_pictures, read_folder
from vision.data.pixel_store import PixelStore
from vision.data.preprocess import Preprocessor, learn_input_spec
from vision.inference import device
from vision.inference.device import pick_device, pick_precision
from vision.inference.predictor import Predictor
from vision.inference.windows import predict_proba
from vision.models import checkpoint
from vision.models.classifier import create_model
from vision.models.cnn import MODELS
from vision.models.spec import ModelSpec
from vision.models.svm import fit_texture
from vision.reports import metrics
from vision.training import run
from vision.training.loop import train_one_epoch

ROOT = Path(__file__).parents[2]
QUICK = ["--size", "32", "--batch-size", "8", "--threads", "1", "--device", "cpu"]


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def weights(path):
    return checkpoint.load(path)[0].state_dict()


def same_weights(one, other):
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_and_leaves_a_run_folder(trained):
    folder = trained / "run"
    expected = "config.json split.csv history.csv metrics.json model.pt evaluation_report.txt accuracy_plot.png"
    expected += " loss_plot.png confusion_matrix.png reliability_plot.png predictions.csv report.html"
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


def test_text_report_is_scikit_learns(trained):
    from sklearn.metrics import classification_report

    rows = [row for row in rows_of(trained / "run" / "predictions.csv") if row["split"] == "test"]
    ours = (trained / "run" / "evaluation_report.txt").read_text()
    truth = classification_report([row["genre"] for row in rows], [row["predicted"] for row in rows], digits=3)
    for name in [*BANDS, "macro avg", "weighted avg"]:
        line = next(line for line in truth.splitlines() if line.strip().startswith(name))
        assert line.split() in [found.split() for found in ours.splitlines()]


def test_same_seed_same_weights(trained, tmp_path):
    for name in ("a", "b"):
        flags = ["--data", str(trained / "data"), "--out", str(tmp_path / name), "--epochs", "2", *QUICK]
        assert train.main(flags) == 0
    assert same_weights(tmp_path / "a", tmp_path / "b")
    flags = ["--data", str(trained / "data"), "--out", str(tmp_path / "c"), "--epochs", "2", "--seed", "1", *QUICK]
    assert train.main(flags) == 0
    assert not same_weights(tmp_path / "a", tmp_path / "c")


def test_resume_after_a_kill_gives_the_uninterrupted_run(trained, tmp_path, capsys):
    flags = ["--data", str(trained / "data"), "--epochs", "6", *QUICK]
    assert train.main([*flags, "--out", str(tmp_path / "whole")]) == 0
    call = [sys.executable, "-m", "vision.train", *flags, "--out", str(tmp_path / "cut")]
    process = subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch   2/6"):
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "cut" / "metrics.json").exists()
    assert train.main(["--resume", str(tmp_path / "cut")]) == 0
    assert "resumed after epoch" in capsys.readouterr().out
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    whole, cut = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "cut"))
    assert whole == cut
    assert train.main(["--resume", str(tmp_path / "cut")]) == 2
    assert "complete already" in capsys.readouterr().err


def test_resume_refuses_other_pictures(trained, tmp_path, monkeypatch, capsys):
    data = tmp_path / "data"
    shutil.copytree(trained / "data", data)
    (data / "split.csv").unlink()

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_finish", stop)
    assert train.main(["--data", str(data), "--out", str(tmp_path / "run"), "--epochs", "1", *QUICK]) == 130
    monkeypatch.undo()
    write_picture(data / "train" / "jazz" / "new.png", spectrogram_of("jazz", 99))
    assert train.main(["--resume", str(tmp_path / "run")]) == 2
    assert "the pictures were others" in capsys.readouterr().err


def test_without_arguments_it_splits_trains_and_notices_what_is_dropped_in(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "images_original", 4)
    assert train.main(["--epochs", "1", *QUICK]) == 0
    told = capsys.readouterr().out
    assert "splitting images_original" in told
    assert f"report: {tmp_path.resolve()}/runs/standard-001/report.html" in told
    write_tree(tmp_path / "images_original", 2, start=4)
    assert train.main(["--epochs", "1", *QUICK]) == 0
    told = capsys.readouterr().out
    assert "6 pictures dropped into" in told
    assert (tmp_path / "runs" / "standard-002" / "model.pt").exists()
    assert len(rows_of("runs/standard-002/split.csv")) == 18


def test_problems_of_the_split_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "images_original", 4)
    (tmp_path / "images_original" / "jazz" / "bad.png").write_bytes(b"nothing")
    assert train.main(["--epochs", "1", *QUICK]) == 1
    assert "bad.png: cannot be read" in capsys.readouterr().err
    assert train.main(["--images", "elsewhere", *QUICK]) == 2
    assert "was made of" in capsys.readouterr().err
    assert train.main(["--resume", "runs/standard-001", "--epochs", "3"]) == 2
    assert "give no other flags" in capsys.readouterr().err


def test_data_without_its_images_is_trained_on_as_it_is(tmp_path, capsys):
    write_tree(tmp_path / "images", 4)
    assert split.main([str(tmp_path / "images"), "-o", str(tmp_path / "data")]) == 0
    for genre in BANDS:
        shutil.rmtree(tmp_path / "images" / genre)
    (tmp_path / "images" / "README.md").write_text("as in a fresh clone")
    assert train.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--epochs", "1", *QUICK]) == 0
    assert "training on" in capsys.readouterr().err


def test_names_that_are_no_text(tmp_path):
    odd = os.fsdecode(b"bl\xffues")
    write_tree(tmp_path / "images", 4)
    (tmp_path / "images" / "blues").rename(tmp_path / "images" / odd)
    assert split.main([str(tmp_path / "images"), "-o", str(tmp_path / "data")]) == 0
    assert train.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--epochs", "1", *QUICK]) == 0
    assert Predictor(tmp_path / "run", "cpu").classes[0] == odd


def test_a_new_genre_does_not_touch_old_runs(trained, tmp_path):
    before = Predictor(trained / "run", "cpu")
    write_tree(tmp_path / "more", 3, ["blues", "jazz", "metal"])
    shutil.move(tmp_path / "more" / "jazz", tmp_path / "more" / "ambient")
    assert evaluate.main([str(trained / "run"), "--data", str(tmp_path / "more")]) == 2
    assert before.classes == ["blues", "jazz", "metal"]
    found = before.predict(trained / "images" / "metal" / "metal.00003.png")
    assert before.classes[found.p.argmax()] == "metal"


def test_split_by_hand_is_used_and_its_leaks_told(trained, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(trained / "data", data)
    (data / "split.csv").unlink()
    (data / "dev").rename(data / "validation")
    leaked = next((data / "train" / "jazz").iterdir())
    shutil.copy(leaked, data / "test" / "jazz")
    assert train.main(["--data", str(data), "--out", str(tmp_path / "run"), "--epochs", "1", *QUICK]) == 0
    told = capsys.readouterr()
    assert "LEAKS: 1 " in told.err
    assert leaked.name in told.err
    assert "3 dev, 4 test" in told.out


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
    _, spec = checkpoint.load(tmp_path / "run")
    assert spec.input.channels == 1
    assert [frame["size"] for frame in spec.input.frames] == [[432, 288]]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["accuracy"] == 1.0


def test_evaluate_equals_the_runs_own_scores(trained, capsys, tmp_path):
    run_scores = json.loads((trained / "run" / "metrics.json").read_text())
    assert evaluate.main([str(trained / "run"), "--data", str(trained / "data"), "--json", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trained_on"] == 0
    assert {name: found[name] for name in run_scores["test"]} == run_scores["test"]
    flags = ["--data", str(trained / "images"), "--csv", str(tmp_path / "all.csv")]
    assert evaluate.main([str(trained / "run"), *flags]) == 0
    told = capsys.readouterr()
    assert "30 of 36 tracks are in the training set" in told.err
    assert "n = 36" in told.out
    assert len(rows_of(tmp_path / "all.csv")) == 36


def band_noise(genre, sr=22050, seconds=4.0):
    """Audio whose Mel spectrogram is bright in the genre's band only."""
    rng = np.random.default_rng(BANDS[genre])
    n = round(seconds * sr)
    mels = np.linspace(0, 60.0, 130)  # a rough Mel scale is enough: 15 Mels to 1 kHz, then by the octave
    hz = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
    low, high = hz[BANDS[genre] * 16 + 3], hz[BANDS[genre] * 16 + 20]
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum[(np.fft.rfftfreq(n, 1 / sr) < low) | (np.fft.rfftfreq(n, 1 / sr) > high)] *= 0.002
    y = np.fft.irfft(spectrum)
    return (0.5 * y / np.abs(y).max()).astype(np.float32)


def test_predict_on_pictures_and_audio_of_any_kind(trained, tmp_path, capsys):
    for genre in BANDS:
        (tmp_path / "songs" / genre).mkdir(parents=True)
        soundfile.write(tmp_path / "songs" / genre / "song.wav", band_noise(genre), 22050)
    (tmp_path / "songs" / "broken.mp3").write_bytes(b"nothing")
    (tmp_path / "songs" / "notes.txt").write_text("passed over")
    picture = trained / "images" / "jazz" / "jazz.00001.png"
    flags = [str(trained / "run"), str(tmp_path / "songs"), str(picture), "--csv", str(tmp_path / "out.csv")]
    assert predict.main(flags) == 1
    told = capsys.readouterr()
    assert "broken.mp3: cannot be decoded" in told.err
    lines = told.out.splitlines()
    assert len(lines) == 4
    for genre, line in zip([*BANDS, "jazz"], lines, strict=True):
        assert genre in line.split()[0]
        assert line.split()[1] == genre
        assert len(line.split()) == 7, "three genres with their probabilities"
    rows = rows_of(tmp_path / "out.csv")
    assert [row["predicted"] for row in rows] == ["", *BANDS, "jazz"]
    assert sum(float(rows[1][genre]) for genre in BANDS) == pytest.approx(1, abs=1e-3)
    assert predict.main([str(trained / "run"), str(picture), "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found["predicted"] == "jazz"
    assert list(found["probabilities"])[0] == "jazz"


def test_audio_is_drawn_as_the_train_pictures_were(trained, tmp_path):
    """A song gives the model what its rendered picture gives."""
    for genre in BANDS:
        (tmp_path / "genres" / genre).mkdir(parents=True)
        soundfile.write(tmp_path / "genres" / genre / "a.wav", band_noise(genre), 44100)
    settings = ["--n-mels", "64", "--hop-length", "700", "--sr", "16000", "--top-db", "60"]
    assert render_command.main([str(tmp_path / "genres"), "-o", str(tmp_path / "images"), *settings]) == 0
    predictor = Predictor(trained / "run", "cpu")
    predictor.preprocessor = Preprocessor(learn_input_spec(list_pictures(tmp_path / "images"), size=32, channels=1))
    pictures = read_folder(tmp_path / "images", predictor.preprocessor)
    for genre, x in zip(BANDS, pictures.x, strict=True):
        heard = predictor.read(tmp_path / "genres" / genre / "a.wav").x
        assert torch.equal(heard, x)


def test_ours_are_drawn_at_the_size_of_the_train_pictures(tmp_path):
    """A model of another program's pictures hears audio as it sees the picture that program drew."""
    for genre in BANDS:
        for number in range(3):
            levels = png.quantise(spectrogram_of(genre, number, 400), vmin=-80, vmax=0)[::-1]
            picture = Image.fromarray(np.ascontiguousarray(levels)).resize((150, 300), Image.Resampling.NEAREST)
            (tmp_path / "theirs" / genre).mkdir(parents=True, exist_ok=True)
            picture.save(tmp_path / "theirs" / genre / f"{number}.png")
    spec = learn_input_spec(list_pictures(tmp_path / "theirs"), size=32, channels=1, track_seconds=400 * 512 / 22050)
    assert spec.drawn == [150, 300]
    assert spec.render is None
    theirs = read_folder(tmp_path / "theirs", Preprocessor(spec))
    model = {"name": "vgg", "mean": [0.5], "std": [0.2], "dropout": 0.0, "texture": 0}
    model_spec = ModelSpec(theirs.classes, model, spec)
    checkpoint.save(tmp_path / "model.pt", checkpoint.build(model_spec), model_spec)
    predictor = Predictor(tmp_path, "cpu")
    ours = write_picture(tmp_path / "jazz" / "1.png", spectrogram_of("jazz", 1, 400))
    x = predictor.read(ours).x
    expected = theirs.x[theirs.paths.index(str(tmp_path / "theirs" / "jazz" / "1.png"))]
    assert torch.equal(x, expected)
    (tmp_path / "ours").mkdir()
    (tmp_path / "jazz").rename(tmp_path / "ours" / "jazz")
    ours = read_folder(tmp_path / "ours", predictor.preprocessor, classes=theirs.classes)
    assert torch.equal(ours.x[0], expected)


@pytest.mark.parametrize("cmap", ["Greys", "cubehelix", "gray_r", "magma_r"])
def test_ours_in_any_colormap_are_what_audio_is(tmp_path, trained, cmap):
    """The palette is for people; reversed or strange, the levels are those in the file."""
    path = tmp_path / "genres" / "jazz" / "a.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, band_noise("jazz"), 22050)
    assert render_command.main([str(tmp_path / "genres"), "-o", str(tmp_path / "images"), "--cmap", cmap]) == 0
    predictor = Predictor(trained / "run", "cpu")
    seen = predictor.read(tmp_path / "images" / "jazz" / "a.png").x
    heard = predictor.read(path).x
    assert torch.equal(seen, heard)


@pytest.mark.parametrize("window", ["0", "1"])
def test_a_long_song_keeps_its_time_scale(trained, tmp_path, window):
    """Neither a longer song nor a shorter one is squeezed to the length of the train tracks."""
    flags = ["--data", str(trained / "data"), "--out", str(tmp_path / "run"), "--epochs", "1", "--window", window]
    assert train.main([*flags, *QUICK]) == 0
    predictor = Predictor(tmp_path / "run", "cpu")
    seconds = predictor.spec.typical_seconds
    assert seconds == pytest.approx(64 * 512 / 22050)
    assert predictor.spec.window == (None if window == "0" else 1.0)
    soundfile.write(tmp_path / "long.wav", band_noise("jazz", seconds=seconds * 5), 22050)
    x = predictor.read(tmp_path / "long.wav").x
    assert x.shape[:2] == (1, 32)
    assert x.shape[2] == 160 if window == "0" else abs(x.shape[2] - 32 * seconds * 5) < 3
    soundfile.write(tmp_path / "short.wav", band_noise("jazz", seconds=0.4), 22050)
    x = predictor.read(tmp_path / "short.wav").x
    assert x.shape == (1, 32, 32)
    if window == "1":
        n = predictor.spec.width(18 * 512 / 22050)
        assert torch.equal(x[..., n : 2 * n], x[..., :n]), "repeated, not stretched"


def test_predictions_do_not_depend_on_batch_or_order(trained):
    predictor = Predictor(trained / "run", "cpu")
    paths = sorted((trained / "images").rglob("*.png"))
    together = {found.path: found.p for found in predictor.predict(paths)}
    for path in reversed(paths[::5]):
        alone = predictor.predict(path)
        assert np.abs(alone.p - together[path]).max() < 1e-5


def test_lone_and_joint_margins_in_predict(trained, tmp_path, capsys):
    from matplotlib.figure import Figure

    for number in range(4):
        S_db = spectrogram_of("metal", number, 200)
        if number == 3:
            S_db[:, :90] = np.nan
        figure = Figure(figsize=(4.32, 2.88))
        axes = figure.add_subplot()
        axes.imshow(S_db, origin="lower", aspect="auto")
        axes.axis("off")
        figure.savefig(tmp_path / f"{number}.png")
    assert predict.main([str(trained / "run"), str(tmp_path / "3.png")]) == 0
    assert "cut by its own edges" in capsys.readouterr().err
    assert predict.main([str(trained / "run"), str(tmp_path)]) == 0
    assert capsys.readouterr().err.count("cut by its own edges") == 4, "an answer does not depend on the other files"
    assert predict.main([str(trained / "run"), str(tmp_path), "--learn-margins"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert [line.split()[1] for line in told.out.splitlines()] == ["metal"] * 4


WITHOUT_WEIGHTS = {"format": checkpoint.FORMAT, "spec": {"classes": ["a"], "model": {}, "input": {}}}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "no such checkpoint"),
        (lambda path: path.write_bytes(b"no checkpoint"), "is no checkpoint or damaged"),
        (lambda path: torch.save({"format": checkpoint.FORMAT}, path), "does not fit"),
        (lambda path: torch.save([1, 2], path), "not written by this version"),
        (lambda path: torch.save(Path("/"), path), "is no checkpoint or damaged"),
        (lambda path: torch.save(WITHOUT_WEIGHTS, path), "does not fit"),
    ],
)
def test_what_is_no_checkpoint(tmp_path, trained, capsys, make, told):
    make(tmp_path / "model.pt")
    picture = str(trained / "images" / "jazz" / "jazz.00001.png")
    assert predict.main([str(tmp_path), picture]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("main", [predict.main, explain.main])
def test_of_a_missing_run_and_a_missing_file_the_run_is_told_first(tmp_path, capsys, main):
    run, file = str(tmp_path / "run"), str(tmp_path / "song.wav")
    assert main([run, file]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {run}") and "no such checkpoint" in error and error.count("\n") == 1


@pytest.mark.parametrize("flags", [["--watch", "nowhere"], ["--stdin"]])
def test_a_missing_run_is_told_before_anything_is_waited_for(tmp_path, capsys, flags):
    assert predict.main([str(tmp_path / "run"), *flags]) == 2
    assert "no such checkpoint" in capsys.readouterr().err


def test_a_cut_off_checkpoint(trained, tmp_path):
    whole = (trained / "run" / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MelvisionError, match="no checkpoint or damaged"):
        checkpoint.load(tmp_path)


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    torch.save({"format": checkpoint.FORMAT, "spec": Evil()}, tmp_path / "model.pt")
    with pytest.raises(MelvisionError):
        checkpoint.load(tmp_path)
    assert not (tmp_path / "pwned").exists()


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
    told = refused("--data", str(tmp_path / "images_original"))
    assert "has no train and no dev" in told
    assert "python -m render" in told
    assert "there is no such folder; make them of a pictures folder" in refused("--data", str(tmp_path / "nowhere"))
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
    assert "bad.png: cannot be read" in capsys.readouterr().out
    assert (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize("texture", [0, 8])
@pytest.mark.parametrize("name", list(MODELS))
def test_overfits_eight_pictures(name, texture):
    torch.manual_seed(0)
    x = PixelStore.of(torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8))
    y = torch.arange(8) % 4
    model = create_model(4, name=name, channels=1, size=32, mean=[0.5], std=[0.3], dropout=0.0, texture=texture)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    fit_texture(model, x, y)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(40):
        loss, accuracy = train_one_epoch(
            model, x, y, order=torch.randperm(8), batch_size=8, n_classes=4, optimizer=optimizer,
            criterion=torch.nn.CrossEntropyLoss(reduction="sum"),
        )  # fmt: skip
    assert loss < 0.02
    assert accuracy == 1.0
    assert (predict_proba(model, x).argmax(dim=1) == y).all()


def test_every_picture_is_used_once_and_no_batch_is_of_one():
    seen = []

    class Spy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 2)

        def forward(self, x):
            seen.append((x[:, 0, 0, 0] * 255).round().int().tolist())
            return self.layer(x[:, 0, 0])

    model = Spy()
    x = PixelStore.of(torch.arange(17, dtype=torch.uint8).view(17, 1, 1, 1))
    train_one_epoch(
        model, x, torch.zeros(17, dtype=torch.long), order=torch.randperm(17), batch_size=4, n_classes=2,
        criterion=torch.nn.CrossEntropyLoss(reduction="sum"), optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
    )  # fmt: skip
    assert sorted(sum(seen, [])) == list(range(17))
    assert [len(batch) for batch in seen] == [4, 4, 4, 5]


def test_metrics_against_scikit_learn():
    from sklearn.metrics import accuracy_score, f1_score, log_loss, top_k_accuracy_score

    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 200)
    p = rng.dirichlet(np.ones(5), 200)
    scores = metrics.score(y, p)
    assert scores["accuracy"] == accuracy_score(y, p.argmax(axis=1))
    assert scores["macro_f1"] == pytest.approx(f1_score(y, p.argmax(axis=1), average="macro"))
    assert scores["top3"] == pytest.approx(top_k_accuracy_score(y, p, k=3))
    assert scores["loss"] == pytest.approx(log_loss(y, p))
    low, high = scores["interval"]
    assert low < scores["accuracy"] < high
    # Wilson's interval, by its formula.
    n, share, z = 200, scores["accuracy"], 1.959964
    middle, half = share + z * z / 2 / n, z * np.sqrt(share * (1 - share) / n + z * z / 4 / n / n)
    assert low == pytest.approx((middle - half) / (1 + z * z / n), abs=1e-5)
    assert high == pytest.approx((middle + half) / (1 + z * z / n), abs=1e-5)
    assert metrics.confusion(y, p).sum(axis=1).tolist() == np.bincount(y).tolist()
    with pytest.raises(ValueError, match="nothing to score"):
        metrics.score([], np.zeros((0, 5)))


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_device_choice(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device().type == expected
    assert pick_device("cpu").type == "cpu"
    if not mps:
        with pytest.raises(ValueError, match="device='mps'"):
            pick_device("mps")


def test_precision_follows_the_hardware(monkeypatch):
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: True)
    assert pick_precision("auto", torch.device("cpu")) == "bf16"
    assert pick_precision("fp32", torch.device("cpu")) == "fp32"
    assert pick_precision("auto", torch.device("mps")) == "fp32"
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: False)
    assert pick_precision("auto", torch.device("cpu")) == "fp32"


def test_mps_fallback_is_set_before_torch():
    code = "import sys, os; import vision.train; assert 'torch' not in sys.modules\n"
    code += "print(os.environ['PYTORCH_ENABLE_MPS_FALLBACK'])"
    environment = {name: value for name, value in os.environ.items() if name != "PYTORCH_ENABLE_MPS_FALLBACK"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "1", done.stderr


@needs_data
def test_real_audio_and_real_pictures_agree(tmp_path):
    """Tracks that exist as audio and as another program's picture: levels agree after our stretching."""
    tracks = [f"{genre}/{genre}.0000{n}" for genre in ("blues", "metal", "classical") for n in (0, 1)]
    tracks = [track for track in tracks if (DATA / "gtzan_images" / f"{track}.png").exists()]
    assert tracks
    for track in tracks:
        (tmp_path / "genres" / track).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "genres" / f"{track}.wav").symlink_to(DATA / "gtzan_audio" / f"{track}.wav")
    assert render_command.main([str(tmp_path / "genres"), "-o", str(tmp_path / "images")]) == 0
    ours = read_folder(tmp_path / "images")
    for genre in {track.partition("/")[0] for track in tracks}:  # enough of them to learn the margins from
        (tmp_path / "theirs" / genre).mkdir(parents=True)
        for path in sorted((DATA / "gtzan_images" / genre).iterdir())[:30]:
            (tmp_path / "theirs" / genre / path.name).symlink_to(path)
    theirs = read_folder(tmp_path / "theirs")
    where = {Path(path).relative_to(tmp_path / "theirs").as_posix(): n for n, path in enumerate(theirs.paths)}
    for path, x in zip(ours.paths, (x.float() for x in ours.x), strict=True):
        other = theirs.x[where[Path(path).relative_to(tmp_path / "images").as_posix()]].float()
        assert np.corrcoef(x.ravel(), other.ravel())[0, 1] > 0.96
        assert (x - other).abs().mean() < 8
