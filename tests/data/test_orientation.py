"""Which way up a spectrogram is: pictures that are upside down, or in a reversed colormap, are named."""

import numpy as np
import pytest
import soundfile
from PIL import Image

from render import png
from render.settings import Settings
from tests.conftest import DATA, needs_data
from vision import check, predict, split, train
from vision.data.dataset import list_pictures, read_folder
from vision.data.orientation import is_turned, tilt_of
from vision.data.preprocess import Content, InputSpec, Preprocessor

FLAGS = ["--model", "cnn2", "--no-texture", "--size", "32", "--epochs", "1", "--device", "cpu"]


def levels_like_music(number):
    """Noise that is louder in its low bands, as music is."""
    slope = np.linspace(40, 200, 128)[:, None]
    return (slope + np.random.default_rng(number).normal(0, 20, (128, 200))).clip(0, 255).astype(np.uint8)


def draw(path, number, *, cmap="viridis", upside_down=False):
    levels = levels_like_music(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = png.palette(cmap.removesuffix("_r"))
    table = table[::-1] if cmap.endswith("_r") else table
    Image.fromarray(table[levels[::-1] if upside_down else levels]).save(path)


def folder_of(root, n=24, **turned):
    """Pictures of two genres, of which the first is drawn otherwise."""
    for number in range(n):
        genre = ("blues", "jazz")[number % 2]
        draw(root / genre / f"{genre}.{number:05}.png", number, **(turned if number == 0 else {}))
    return root


def test_tilt():
    levels = np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[:, None], 5, axis=1)
    assert tilt_of(levels) == pytest.approx(180)
    assert tilt_of(levels[::-1]) == tilt_of(255 - levels) == pytest.approx(-180)
    for tilt, usual, turned in ((-20, 30, True), (20, -30, True), (20, 30, False), (-5, 30, False), (-50, 5, False)):
        assert is_turned(tilt, usual, upright=False) == turned
        assert is_turned(tilt, usual, upright=True) == (turned and usual < 0)


@pytest.mark.parametrize("turned", [{"upside_down": True}, {"cmap": "magma_r"}, {"cmap": "gray_r"}])
def test_one_among_others_is_named(tmp_path, capsys, turned):
    root = folder_of(tmp_path / "images", **turned)
    (note,) = [note for note in read_folder(root).notes if "upside down" in note]
    assert "1 of 24 pictures" in note
    check.main([str(root)])
    out = capsys.readouterr().out
    assert "1 picture is loud where most are quiet" in out and "blues/blues.00000.png" in out
    assert not [note for note in read_folder(folder_of(tmp_path / "right")).notes if "upside down" in note]


@pytest.mark.slow
def test_training_and_predicting_name_them(tmp_path, capsys, monkeypatch):
    """Also where all of training is drawn the other way: then recordings are what differs."""
    monkeypatch.chdir(tmp_path)
    for name, cmap in (("plain", "viridis"), ("reversed", "viridis_r")):
        for number in range(24):
            genre = ("blues", "jazz")[number % 2]
            draw(tmp_path / name / genre / f"{genre}.{number:05}.png", number, cmap=cmap)
        assert split.main([name, "-o", f"data-{name}"]) == 0
        assert train.main(["--data", f"data-{name}", "--out", f"run-{name}", *FLAGS]) == 0
        assert ("most pictures are louder in high bands" in capsys.readouterr().err) == (name == "reversed")
    draw(tmp_path / "new.png", 99)
    draw(tmp_path / "new_r.png", 99, cmap="viridis_r")
    for run, named in (("run-plain", "new_r.png"), ("run-reversed", "new.png")):
        assert predict.main([run, "new.png", "new_r.png"]) == 0
        lines = [line for line in capsys.readouterr().err.splitlines() if "reversed colormap" in line]
        assert len(lines) == 1 and named in lines[0]
    # Of a recording it is known: hiss is loud above, and a model of pictures that were upside down gets it wrong.
    rng = np.random.default_rng(0)
    soundfile.write("hiss.wav", rng.normal(0, 0.1, 22050 * 5), 22050)
    soundfile.write("rumble.wav", np.cumsum(rng.normal(0, 1e-3, 22050 * 5)).clip(-1, 1), 22050)
    for run, named in (("run-plain", ""), ("run-reversed", "rumble.wav")):
        assert predict.main([run, "hiss.wav", "rumble.wav"]) == 0
        lines = [line for line in capsys.readouterr().err.splitlines() if "reversed colormap" in line]
        assert [named in line and "were they" in line for line in lines] == [True] * bool(named)


def test_features_have_no_low_bands():
    levels, box = levels_like_music(0), (0, 0, 200, 128)
    for kind, has_tilt in (("mel", True), ("features", False)):
        content = Content(levels, "magma", box, 30.0, Settings(kind=kind))
        assert (Preprocessor(InputSpec(size=32))._to_input(content).tilt != 0) == has_tilt


@needs_data
@pytest.mark.slow
def test_all_of_gtzan_is_the_right_way_up():
    preprocessor = Preprocessor(InputSpec(size=64))
    paths = list_pictures(DATA / "gtzan_images")[::7]
    tilts = [preprocessor.from_file(path).tilt for path in paths]
    assert len(tilts) > 100 and min(tilts) > 0
