"""The command vision.predict: pictures and recordings of any kind, flags, genre over time."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from render import __main__ as render_command
from render import png
from tests.conftest import BANDS, DATA, band_noise, needs_data, rows_of, spectrogram_of, write_picture
from tests.training.runs import QUICK
from vision import explain, predict, train
from vision.data.dataset import list_pictures, read_folder
from vision.data.preprocess import Preprocessor, learn_input_spec
from vision.inference.predictor import Predictor
from vision.models import checkpoint
from vision.models.spec import ModelSpec


def test_predict_on_pictures_and_audio_of_any_kind(trained, tmp_path, capsys):
    for genre in BANDS:
        (tmp_path / "songs" / genre).mkdir(parents=True)
        soundfile.write(tmp_path / "songs" / genre / "song.wav", band_noise(genre), 22050)
    (tmp_path / "songs" / "broken.mp3").write_bytes(b"nothing")
    (tmp_path / "songs" / "notes.txt").write_text("passed over")
    picture = trained / "images" / "jazz" / "jazz.00001.png"
    flags = [str(trained / "run"), str(tmp_path / "songs"), str(picture), "--csv", str(tmp_path / "out.csv")]
    assert predict.main(flags) == 1
    printed = capsys.readouterr()
    assert "broken.mp3: cannot be decoded" in printed.err
    lines = printed.out.splitlines()
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
    model = {"name": "vgg", "mean": [0.5], "std": [0.2], "dropout": 0.0, "texture": 0, "experts": {"vgg": 1.0}}
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


@pytest.mark.slow
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
    printed = capsys.readouterr()
    assert printed.err == ""
    assert [line.split()[1] for line in printed.out.splitlines()] == ["metal"] * 4


@pytest.mark.parametrize("main", [predict.main, explain.main])
def test_of_a_missing_run_and_a_missing_file_the_run_is_reported_first(tmp_path, capsys, main):
    run, file = str(tmp_path / "run"), str(tmp_path / "song.wav")
    assert main([run, file]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {run}") and "no such checkpoint" in error and error.count("\n") == 1


@pytest.mark.parametrize("flags", [["--watch", "nowhere"], ["--stdin"]])
def test_a_missing_run_is_reported_before_anything_is_waited_for(tmp_path, capsys, flags):
    assert predict.main([str(tmp_path / "run"), *flags]) == 2
    assert "no such checkpoint" in capsys.readouterr().err


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def medley(tmp_path_factory):
    """30 s of blues, then of metal, then of jazz."""
    S_db = np.concatenate([spectrogram_of(genre, 0, 1292) for genre in ("blues", "metal", "jazz")], axis=1)
    return write_picture(tmp_path_factory.mktemp("medley") / "medley.png", S_db)


@pytest.mark.slow
def test_timeline_on_the_command_line(trained, medley, tmp_path, capsys):
    other = tmp_path / "other" / "medley.png"
    other.parent.mkdir()
    other.write_bytes(medley.read_bytes())
    (tmp_path / "bad.png").write_bytes(b"no")
    run, plots_folder = str(trained / "run"), tmp_path / "over time"
    flags = [run, str(medley), str(other), str(tmp_path / "bad.png"), "--timeline", "--plots", str(plots_folder)]
    assert predict.main(flags) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 8
    assert [line[3] for line in lines[1:4]] == ["blues", "metal", "jazz"]
    assert lines[1][:2] == ["0:00", "-"]
    assert lines[3][2] == "1:30"
    names = {"medley.png.png", "medley.png.csv", "medley.png (2).png", "medley.png (2).csv"}
    assert {path.name for path in plots_folder.iterdir()} == names
    rows = rows_of(plots_folder / "medley.png.csv")
    assert list(rows[0]) == ["start", "end", "blues", "jazz", "metal"]
    assert predict.main([*flags, "--json"]) == 1
    output = json.loads(capsys.readouterr().out)
    assert [part["genre"] for part in output[0]["timeline"]] == ["blues", "metal", "jazz"]
    assert output[2]["error"]
    # The prediction for the whole file is that without --timeline.
    assert predict.main([run, str(medley), "--json"]) == 0
    [plain] = json.loads(capsys.readouterr().out)
    assert plain["probabilities"] == pytest.approx(output[0]["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to predict; expected"),
        (["a.wav", "--stdin"], "files and --stdin; expected"),
        (["a.wav", "--rate", "8000"], "--rate: goes with --stdin"),
        (["--stdin", "--csv", "x.csv"], "--csv: goes with"),
        (["--watch", ".", "--timeline"], "--timeline: goes with files"),
        (["a.wav", "--plots", "x"], "--plots: goes with --timeline"),
        (["--stdin", "--rate", "10"], "--rate 10: expected 1000 to 768000 Hz"),
        (["--watch", "nowhere"], "nowhere: there is no such folder"),
    ],
)
def test_flags_that_do_not_go_together(trained, flags, message, capsys):
    assert predict.main([str(trained / "run"), *flags]) == 2
    assert message in capsys.readouterr().err


def test_pieces_of_one_track_get_a_line_of_their_own(trained, tmp_path, capsys):
    sources = sorted((trained / "images" / "jazz").glob("*.png"))[:3]
    for number, source in enumerate(sources):
        shutil.copy(source, tmp_path / f"song_seg{number:03}.png")
    shutil.copy(sources[0], tmp_path / "other.png")
    assert predict.main([str(trained / "run"), str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    pieces = [one for one in found if "song" in one["file"]]
    assert [one["track"]["pieces"] for one in pieces] == [3, 3, 3]
    for genre, p in pieces[0]["track"]["probabilities"].items():
        assert p == pytest.approx(np.mean([one["probabilities"][genre] for one in pieces]), abs=1e-6)
    assert ["track" in one for one in found] == [False, True, True, True]
    assert predict.main([str(trained / "run"), str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and "mean of 3 pieces" in lines[-1] and lines[-1].split()[0] == str(tmp_path / "song")


def test_without_a_run_those_that_there_are_get_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert predict.main([]) == 2
    assert "python -m vision.train makes one" in capsys.readouterr().err
    for number, name in enumerate(("quick-002", "quick-001")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "model.pt").touch()
        os.utime(tmp_path / "runs" / name, (number, number))
    assert predict.main([]) == 2
    assert "in runs there are runs/quick-002, runs/quick-001" in capsys.readouterr().err


def test_a_song_in_the_place_of_the_run(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "run", "runs/mine")
    (tmp_path / "songs").mkdir()
    for arguments in (["song.mp3"], ["song.mp3", "other.wav"], ["songs"]):
        assert predict.main(arguments) == 2
        error = capsys.readouterr().err
        assert f"{arguments[0]}: is no run" in error and "runs/mine" in error and error.count("\n") == 1
    assert predict.main(["runs/mine"]) == 2
    assert "nothing to predict" in capsys.readouterr().err
