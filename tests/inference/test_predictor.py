"""Predicting: many files at once, audio in memory, one or many."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import vision.inference.predictor
from render import audio
from render.audio import AudioError
from render.errors import MelvisionError
from tests.conftest import band_noise
from vision.inference.output import prediction_dict, prediction_line
from vision.inference.predictor import Predictor

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def predictor(trained):
    return Predictor(trained / "run", "cpu")


@pytest.mark.parametrize("sr", [22050, 44100, 8000])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_are_drawn_as_a_file_of_them_is(predictor, tmp_path, sr, channels):
    y = np.stack([band_noise(genre, sr, 2.3) for genre in ("jazz", "metal")[:channels]], axis=1)
    soundfile.write(tmp_path / "a.wav", y, sr, subtype="FLOAT")
    expected = predictor.read(tmp_path / "a.wav").x
    drawn = predictor.preprocessor.from_samples(y, sr)
    assert torch.equal(drawn.x, expected)
    assert drawn.notes == []
    if channels == 1:
        assert torch.equal(predictor.preprocessor.from_samples(y[:, 0].astype(np.float64), sr).x, expected)


def test_samples_that_cannot_be_drawn(predictor):
    assert predictor.preprocessor.from_samples(np.zeros(30000, np.float32), 22050).notes == ["silent"]
    for y, message in (
        (np.zeros(0, np.float32), "holds no samples"),
        (np.zeros(100, np.float32), "shorter than one window"),
        (np.full(30000, np.nan, np.float32), "NaN or infinity"),
        (np.zeros(30000, np.int16), "expected floats"),
        (np.zeros((2, 3, 4), np.float32), "expected floats"),
    ):
        with pytest.raises((ValueError, AudioError), match=message):
            predictor.preprocessor.from_samples(y, 22050)


def test_the_offset_of_the_train_pictures_holds_for_samples(trained, tmp_path):
    predictor = Predictor(trained / "run", "cpu")
    predictor.spec.render |= {"offset": 0.5}
    y = band_noise("jazz", seconds=2.0)
    soundfile.write(tmp_path / "a.wav", y, 22050, subtype="FLOAT")
    assert torch.equal(predictor.preprocessor.from_samples(y, 22050).x, predictor.read(tmp_path / "a.wav").x)


def test_reading_in_threads_leaves_stderr_as_it_was(tmp_path, capfd):
    paths = []
    for number in range(4):
        paths.append(tmp_path / f"{number}.wav")
        soundfile.write(paths[-1], np.zeros(3_000_000, np.float32), 22050)

    def read(path):
        for _ in audio.decode(path, sr=22050):
            pass

    for _ in range(5):
        threads = [threading.Thread(target=read, args=[path]) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print("still visible", file=sys.stderr, flush=True)
    os.write(2, b"by both ways\n")
    assert capfd.readouterr().err == "still visible\nby both ways\n"


@pytest.fixture
def threads():
    """Put torch's number of threads back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def mixed(trained, tmp_path):
    """Pictures and sounds of several lengths, some of them unusable, in an order of their own."""
    paths = sorted((trained / "images").rglob("*.png"))[::2]
    for number, seconds in enumerate((0.5, 3.0, 10.0)):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, band_noise("metal", seconds=seconds), 22050)
        paths.insert(5 * number, path)
    for number in (0, 9, 20):
        (tmp_path / f"bad{number}.png").write_bytes(b"no picture")
        paths.insert(number, tmp_path / f"bad{number}.png")
    return [*paths, tmp_path / "missing.png"]


def test_predictions_are_the_same_whatever_the_number_of_workers(predictor, mixed, threads, monkeypatch):
    alone = []
    for path in mixed:
        alone.append(predictor.predict(path))
    bad = [one.path.name for one in alone if one.error]
    assert bad == ["bad0.png", "bad9.png", "bad20.png", "missing.png"]
    for n, chunk in [(1, 8), (2, 8), (2, 1), (3, 3), (40, 8), (2, 1000)]:
        threads(n)
        monkeypatch.setattr(vision.inference.predictor, "CHUNK", chunk)
        together = list(predictor.predict(iter(mixed)))
        assert [one.path for one in together] == mixed
        for one, other in zip(together, alone, strict=True):
            assert one.error == other.error and one.notes == other.notes
            assert (one.p is None) == bool(one.error)
            if not one.error:
                assert one.p == pytest.approx(other.p, abs=1e-6)
        assert torch.get_num_threads() == n, "as before"
    assert list(predictor.predict([])) == []


def test_closing_the_iterator_stops_the_workers(predictor, mixed, threads, monkeypatch):
    threads(2)
    read, attempt = [], predictor.attempt
    monkeypatch.setattr(predictor, "attempt", lambda path, sr: read.append(path) or attempt(path))
    running = predictor.predict_each(mixed * 100)
    assert next(running).path == mixed[0]
    assert torch.get_num_threads() == 1, "each of two workers has one"
    running.close()
    n = len(read)
    assert n < 1000
    time.sleep(0.3)
    assert len(read) == n and torch.get_num_threads() == 2


def test_an_error_in_a_worker_ends_the_iteration(predictor, mixed, threads, monkeypatch):
    """Not one bad file, but what no file can be predicted with."""
    threads(2)

    def answers(x):
        raise MelvisionError("ONNX Runtime cannot compute it")

    monkeypatch.setattr(predictor, "answers", answers)
    with pytest.raises(MelvisionError, match="cannot compute"):
        list(predictor.predict(mixed * 10))
    assert torch.get_num_threads() == 2


@pytest.mark.slow
def test_ctrl_c_ends_prediction_between_files(trained):
    picture = next((trained / "images").rglob("*.png"))
    code = (
        "import sys; from render.cli import command; from vision.inference.predictor import Predictor\n"
        "@command\n"
        "def main(argv=None):\n"
        "    for prediction in Predictor(sys.argv[1], 'cpu').predict_each([sys.argv[2]] * 1_000_000):\n"
        "        print(prediction.p.argmax(), flush=True)\n"
        "sys.exit(main())\n"
    )
    call = [sys.executable, "-c", code, str(trained / "run"), str(picture)]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and first in ("0\n", "1\n", "2\n")
    assert err == "interrupted; what was finished is kept\n"


def test_silence_has_no_genre(predictor, tmp_path):
    hiss = np.random.default_rng(0).integers(-1, 2, 4 * 22050) / 32768
    for name, y in {"zeros.wav": np.zeros(4 * 22050), "hiss.wav": hiss, "offset.wav": np.full(88200, 2e-5)}.items():
        soundfile.write(tmp_path / name, y, 22050, subtype="FLOAT")
    Image.new("RGB", (300, 200), "white").save(tmp_path / "white.png")
    for path in sorted(tmp_path.glob("*.*")):
        prediction = predictor.predict(path)
        assert prediction.silent and prediction.genre is None and prediction.probabilities == {}, path
        assert prediction_dict(prediction)["predicted"] is None
        assert "silent" in prediction.error and "silent" in prediction_line(prediction)
    assert predictor.predict(np.zeros(88200, np.float32), sr=22050).silent


def test_an_answer_that_is_no_number_costs_its_file_alone(trained, monkeypatch):
    predictor = Predictor(trained / "run", "cpu")
    files = sorted((trained / "images").rglob("*.png"))[:3]
    answers = predictor.answers

    def broken(x):
        found = answers(x)
        found.p[0] = np.nan
        return found

    monkeypatch.setattr(predictor, "answers", broken)
    found = list(predictor.predict_each(files[:1])) + predictor.predict(files[1:])
    assert "no number" in found[0].error and found[0].genre is None
    assert any(one.genre for one in found)
