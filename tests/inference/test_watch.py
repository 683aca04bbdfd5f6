"""A watched folder: each file is predicted once and recorded."""

import json
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

from render.errors import MelvisionError
from tests.conftest import band_noise, rows_of
from vision.inference import watch
from vision.inference.predictor import Prediction

ROOT = Path(__file__).parents[2]


class Watcher:
    """``--watch`` as a process of its own."""

    def __init__(self, run, folder, *flags):
        call = [sys.executable, "-m", "vision.predict", str(run), "--watch", str(folder), "--device", "cpu", *flags]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )
        self.folder, self.lines = folder, []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def rows(self):
        path = self.folder / "predictions.csv"
        return rows_of(path) if path.exists() else []

    def wait_for(self, n, n_lines, seconds=60):
        """Wait until the table has `n` rows, and so many lines were printed."""
        end = time.monotonic() + seconds
        while len(self.rows()) < n or len(self.lines) < n_lines:
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < end, (self.rows(), self.lines)
            time.sleep(0.05)

    def stop(self, how):
        self.process.send_signal(how)
        code = self.process.wait(60)
        self.reader.join()
        with self.process.stdout, self.process.stderr as err:
            return code, self.lines, err.read()


@pytest.fixture
def start_watcher(trained):
    started = []

    def start(*args):
        started.append(Watcher(trained / "run", *args))
        return started[-1]

    yield start
    for watcher in started:
        watcher.process.kill()


@pytest.mark.slow
def test_each_file_is_predicted_once(start_watcher, tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    soundfile.write(folder / "first.wav", band_noise("jazz"), 22050)
    (folder / "bad.mp3").write_bytes(b"nothing")
    (folder / "coming.wav.part").write_bytes(b"later")
    (folder / "empty.wav").write_bytes(b"")
    (folder / ".hidden.wav").write_bytes(b"x")
    watcher = start_watcher(folder)
    watcher.wait_for(2, n_lines=1)
    # A file that takes its time to arrive, longer than two looks, but never stands still as long as that.
    soundfile.write(tmp_path / "slow.wav", band_noise("metal"), 22050)
    content = (tmp_path / "slow.wav").read_bytes()
    with open(folder / "deep" / "slow.wav", "wb") as file:
        for part in range(25):
            file.write(content[part * len(content) // 25 : (part + 1) * len(content) // 25])
            file.flush()
            time.sleep(watch.PAUSE / 10)
    watcher.wait_for(3, n_lines=2)
    # Replaced under its name: another file.
    soundfile.write(folder / "first.wav", band_noise("blues", seconds=3.0), 22050)
    watcher.wait_for(4, n_lines=3)
    code, lines, err = watcher.stop(signal.SIGKILL)
    assert [line.split()[1] for line in lines] == ["jazz", "metal", "blues"]
    assert err.count("failed:") == 1, "the bad one, and no half of the slow one"
    # Torn by the kill, perhaps.
    with open(folder / "predictions.csv", "ab") as file:
        file.write(b"deep/slow.wav,12,4")
    watcher = start_watcher(folder, "--json")
    soundfile.write(folder / "last.wav", band_noise("metal"), 22050)
    watcher.wait_for(5, n_lines=1)
    soundfile.write(folder / "end.wav", band_noise("jazz"), 22050)  # known by its second look: last.wav was seen again
    watcher.wait_for(6, n_lines=2)
    code, lines, err = watcher.stop(signal.SIGINT)
    assert code == 130
    predictions = [json.loads(line) for line in lines]
    assert [(Path(one["file"]).name, one["predicted"]) for one in predictions] == [
        ("last.wav", "metal"),
        ("end.wav", "jazz"),
    ]
    assert "failed" not in err
    rows = rows_of(folder / "predictions.csv")
    names = ["bad.mp3", "first.wav", "deep/slow.wav", "first.wav", "last.wav", "end.wav"]
    assert [row["file"] for row in rows] == names
    assert [row["predicted"] for row in rows] == ["", "jazz", "metal", "blues", "metal", "jazz"]
    assert "cannot be decoded" in rows[0]["error"]


def test_the_table_continues_where_it_was_cut_off(tmp_path):
    path, folder = tmp_path / "t.csv", tmp_path / "in"
    classes = ["a,b", "new\nline"]
    table = watch.PredictionTable(path, folder, classes)
    odd = folder / os.fsdecode(b'x, "y"\n\xff.wav')
    table.add(Prediction(odd, np.array([0.25, 0.75])), (10, 123))
    table.add(Prediction(folder / "b.wav", error="is\nbad"), (11, -5))
    whole = path.read_bytes()
    for n in range(len(whole) + 1):
        path.write_bytes(whole[:n])
        again = watch.PredictionTable(path, folder, classes)
        ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
        assert again.has(odd, (10, 123)) == (n >= ends[1]), n
        assert again.has(folder / "b.wav", (11, -5)) == (n >= ends[2])
        assert not again.has(odd, (10, 124))
        assert path.read_bytes() == whole[: max(end for end in [ends[0], *ends] if end <= max(n, ends[0]))]
    with pytest.raises(MelvisionError, match="is not the table"):
        watch.PredictionTable(path, folder, ["others"])


def test_a_file_that_changes_while_it_is_read_is_left_for_later(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"1")

    class Slow:
        n = 0

        def predict(self, path):
            self.n += 1
            if self.n == 1:
                path.write_bytes(b"12")
            return Prediction(path, ["a"], np.array([1.0]))

    table = watch.PredictionTable(tmp_path / "t.csv", tmp_path, ["a"])
    slow = Slow()
    assert next(watch.watch(slow, tmp_path, table, pause=0.01)).path == path
    assert slow.n == 2
    assert [row["bytes"] for row in rows_of(tmp_path / "t.csv")] == ["2"]


def test_a_folder_that_cannot_be_read_is_named_once(tmp_path, monkeypatch):
    """As root every folder can be read, so the listing itself fails here."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").write_bytes(b"no picture")
    real, lines = os.scandir, []

    def scandir(path):
        if Path(os.fspath(path)).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    class Table:
        def has(self, path, state):
            return False

        def add(self, prediction, state):
            pass

    class Model:
        def predict(self, path):
            return Prediction(path, error="is no picture")

    monkeypatch.setattr(os, "scandir", scandir)
    found = watch.watch(Model(), tmp_path, Table(), pause=0.01, on_problem=lines.append)
    assert [next(found).path.name for _ in range(2)] == ["a.png", "a.png"]
    assert len(lines) == 1 and "closed" in lines[0] and "Permission denied" in lines[0]
