"""Predicting: audio in memory, patterns, long songs over time, and folders that are watched."""

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
import torch
from PIL import Image

import vision.inference.predictor
from render import audio
from render.audio import AudioError
from render.errors import MelvisionError
from tests.conftest import band_noise, rows_of, spectrogram_of, write_picture
from vision import predict
from vision.data.folders import find_files
from vision.data.pixel_store import PixelStore
from vision.inference import timeline, watch
from vision.inference.predictor import Prediction, Predictor
from vision.reports import plots

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def predictor(trained):
    return Predictor(trained / "run", "cpu")


# Audio in memory


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
    for y, told in (
        (np.zeros(0, np.float32), "holds no samples"),
        (np.zeros(100, np.float32), "shorter than one window"),
        (np.full(30000, np.nan, np.float32), "NaN or infinity"),
        (np.zeros(30000, np.int16), "expected floats"),
        (np.zeros((2, 3, 4), np.float32), "expected floats"),
    ):
        with pytest.raises((ValueError, AudioError), match=told):
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
    print("still heard", file=sys.stderr, flush=True)
    os.write(2, b"by both ways\n")
    assert capfd.readouterr().err == "still heard\nby both ways\n"


# Many files at once


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
    bad = [found.path.name for found in alone if found.error]
    assert bad == ["bad0.png", "bad9.png", "bad20.png", "missing.png"]
    for n, chunk in [(1, 8), (2, 8), (2, 1), (3, 3), (40, 8), (2, 1000)]:
        threads(n)
        monkeypatch.setattr(vision.inference.predictor, "CHUNK", chunk)
        found = list(predictor.predict(iter(mixed)))
        assert [one.path for one in found] == mixed
        for one, other in zip(found, alone, strict=True):
            assert one.error == other.error and one.notes == other.notes
            assert (one.p is None) == bool(one.error)
            if not one.error:
                assert one.p == pytest.approx(other.p, abs=1e-6)
        assert torch.get_num_threads() == n, "as before"
    assert list(predictor.predict([])) == []


def test_who_stops_listening_stops_the_workers(predictor, mixed, threads, monkeypatch):
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


def test_a_worker_that_fails_ends_it_all(predictor, mixed, threads, monkeypatch):
    """Not one bad file, but what no file can be predicted with."""
    threads(2)

    def probabilities(x):
        raise MelvisionError("ONNX Runtime cannot compute it")

    monkeypatch.setattr(predictor, "probabilities", probabilities)
    with pytest.raises(MelvisionError, match="cannot compute"):
        list(predictor.predict(mixed * 10))
    assert torch.get_num_threads() == 2


def test_ctrl_c_ends_prediction_between_files(trained):
    picture = next((trained / "images").rglob("*.png"))
    code = (
        "import sys; from render.cli import command; from vision.inference.predictor import Predictor\n"
        "@command\n"
        "def main(argv=None):\n"
        "    for found in Predictor(sys.argv[1], 'cpu').predict_each([sys.argv[2]] * 1_000_000):\n"
        "        print(found.p.argmax(), flush=True)\n"
        "sys.exit(main())\n"
    )
    call = [sys.executable, "-c", code, str(trained / "run"), str(picture)]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and first in ("0\n", "1\n", "2\n")
    assert err == "interrupted; what was finished is kept\n"


# Files, folders, patterns


@pytest.fixture
def songs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = "a.wav|b.mp3|notes.txt|deep/er/c.wav|song [live].wav|.hidden.wav|deep/er/d.wav.part"
    for name in names.split("|"):
        path = tmp_path / "songs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "songs"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["songs"], ["a.wav", "b.mp3", "deep/er/c.wav", "song [live].wav"]),
        (["songs/*.wav"], ["a.wav", "song [live].wav"]),
        (["songs/*"], ["a.wav", "b.mp3", "deep/er/c.wav", "song [live].wav"]),
        (["songs/**"], ["a.wav", "b.mp3", "deep/er/c.wav", "song [live].wav"]),
        (["songs/**/*.wav"], ["a.wav", "deep/er/c.wav", "song [live].wav"]),
        (["songs/[ab].*"], ["a.wav", "b.mp3"]),
        (["songs/song [live].wav"], ["song [live].wav"]),
        (["songs/notes.txt"], ["notes.txt"]),
        (["songs/b.mp3", "songs/?.*", "songs/b.mp3"], ["b.mp3", "a.wav"]),
    ],
)
def test_patterns_that_the_shell_left(songs, given, expected):
    found = [path.relative_to("songs").as_posix() for path in find_files(given)]
    assert sorted(found) == sorted(expected)
    assert found[0] == expected[0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("songs/*.flac", "no file matches"),
        ("songs/*.txt", "nothing is a picture or audio"),
        ("nowhere/**", "no file matches"),
        ("songs/a.mp3", "no such file"),
    ],
)
def test_patterns_that_match_nothing(songs, given, told):
    with pytest.raises(MelvisionError, match=told):
        find_files([given])


def test_a_broken_link_costs_only_itself(songs):
    (songs / "gone.wav").symlink_to("nowhere.wav")
    assert [path.name for path in find_files([songs / "gone.wav"])] == ["gone.wav"]


# Genre over time


@pytest.fixture(scope="module")
def in_windows(trained):
    """The model, told that what it learned on were 10 s: windows of 10 s are 32 pixels, as it is used to."""
    predictor = Predictor(trained / "run", "cpu")
    predictor.spec.window, predictor.spec.typical_seconds = 10.0, 30.0
    return predictor


@pytest.fixture(scope="module")
def medley(tmp_path_factory):
    """30 s of blues, then of metal, then of jazz."""
    S_db = np.concatenate([spectrogram_of(genre, 0, 1292) for genre in ("blues", "metal", "jazz")], axis=1)
    return write_picture(tmp_path_factory.mktemp("medley") / "medley.png", S_db)


def test_a_medley_changes_where_it_changes(in_windows, medley):
    predictor = in_windows
    x = predictor.read(medley).x
    times, probabilities = timeline.timeline(predictor, x)
    assert times.dtype == probabilities.dtype == np.float32
    assert times[0].tolist() == [0, 10]
    assert times[-1, 1] == pytest.approx(90, abs=0.2)
    assert np.diff(times[:, 0]).mean() == pytest.approx(1, abs=0.02)
    assert np.abs(np.diff(times[:, 0]) - 1).max() <= 10 / 32, "a pixel"
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(times)), abs=1e-5)
    alone = predictor.probabilities(PixelStore.of(x[None, ..., :32]))[0]
    assert probabilities[0] == pytest.approx(alone, abs=1e-6)
    found = timeline.segments(times, probabilities)
    assert [predictor.classes[label] for _, _, label, _ in found] == ["blues", "metal", "jazz"]
    assert [end for _, end, _, _ in found] == pytest.approx([30, 60, 90], abs=4)
    assert all(p > 0.5 for *_, p in found)
    assert found[0][0] == 0
    assert [start for start, *_ in found[1:]] == [end for _, end, *_ in found[:-1]]


def test_a_stretch_too_short_to_be_sure_of_is_no_change():
    times = np.stack([np.arange(60.0), np.arange(60.0) + 10], axis=1)
    p = np.full((60, 2), 0.2)
    p[:, 0] = 0.8
    p[30:33] = [[0.4, 0.6]] * 3
    assert [(start, end, k) for start, end, k, _ in timeline.segments(times, p)] == [(0, 69, 0)]
    p[25:50] = [[0.05, 0.95]] * 25
    found = timeline.segments(times, p)
    assert [k for _, _, k, _ in found] == [0, 1, 0]
    assert found[1][:2] == (29.5, 54.5)
    assert timeline.segments(times[:1], p[:1]) == [(0, 10, 0, 0.8)]


@pytest.mark.parametrize("kept", [0, 1])
def test_certain_windows_do_not_overflow(kept):
    p = np.zeros((5, 3))
    p[:, kept] = 1
    times = np.stack([np.arange(5.0), np.arange(5.0) + 1], axis=1)
    assert timeline.segments(times, p) == [(0, 5, kept, 1.0)]


def test_long_tracks_get_fewer_windows_but_no_gaps(in_windows, medley, monkeypatch):
    x = in_windows.read(medley).x
    monkeypatch.setattr(timeline, "MAX_WINDOWS", 30)
    assert len(timeline.timeline(in_windows, x)[0]) == 30
    monkeypatch.setattr(timeline, "MAX_WINDOWS", 3)
    times, _ = timeline.timeline(in_windows, x)
    assert len(times) == 9
    assert (times[1:, 0] <= times[:-1, 1]).all()


def test_short_tracks_and_models_of_whole_tracks(trained, medley):
    predictor = Predictor(trained / "run", "cpu")
    x = predictor.read(trained / "images" / "jazz" / "jazz.00001.png").x
    times, probabilities = timeline.timeline(predictor, x)
    assert times.tolist() == [[0, pytest.approx(predictor.spec.window)]]
    assert predictor.classes[probabilities[0].argmax()] == "jazz"
    predictor.spec.window, predictor.spec.typical_seconds = None, 15.0
    x = predictor.read(medley).x
    times, probabilities = timeline.timeline(predictor, x)
    assert times.tolist() == [[at, at + 15] for at in range(0, 90, 15)], "one answer a piece"


def test_clock():
    assert [timeline.clock(s) for s in (0, 59.4, 59.6, 187, 3599.7, 7384)] == [
        "0:00", "0:59", "1:00", "3:07", "1:00:00", "2:03:04"
    ]  # fmt: skip
    assert timeline.clock(61.26, 1) == "1:01.3"
    assert timeline.clock(61, hours=True) == "0:01:01"


@pytest.mark.parametrize(("n_genres", "seconds"), [(3, 1), (50, 7200), (1, 180)])
def test_timeline_plots_of_any_length_and_names(tmp_path, n_genres, seconds):
    rng = np.random.default_rng(0)
    starts = np.linspace(0, max(0, seconds - 1), 40)
    times = np.stack([starts, starts + 1], axis=1)
    names = [f"$\\frac{number}\n<b>" for number in range(n_genres)]
    # Of many genres, each is at some time the one.
    p = np.roll(np.eye(n_genres), 1, axis=0)[:40] if n_genres > 40 else rng.dirichlet(np.ones(n_genres), 40)
    plots.plot_timeline(tmp_path / "a.png", times, p, names, "a\n$\udcff.mp3" * 20)
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 1080
        assert image.height < 2000


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
    told = json.loads(capsys.readouterr().out)
    assert [stretch["genre"] for stretch in told[0]["timeline"]] == ["blues", "metal", "jazz"]
    assert told[2]["error"]
    # The whole file's answer is that without --timeline.
    assert predict.main([run, str(medley), "--json"]) == 0
    [plain] = json.loads(capsys.readouterr().out)
    assert plain["probabilities"] == pytest.approx(told[0]["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "nothing to predict; expected"),
        (["a.wav", "--stdin"], "files and --stdin; expected"),
        (["a.wav", "--rate", "8000"], "--rate: goes with --stdin"),
        (["--stdin", "--csv", "x.csv"], "--csv: goes with"),
        (["--watch", ".", "--timeline"], "--timeline: goes with files"),
        (["a.wav", "--plots", "x"], "--plots: goes with --timeline"),
        (["--stdin", "--rate", "10"], "expected 1000 to 768000"),
        (["--watch", "nowhere"], "nowhere: there is no such folder"),
    ],
)
def test_flags_that_do_not_go_together(trained, flags, told, capsys):
    assert predict.main([str(trained / "run"), *flags]) == 2
    assert told in capsys.readouterr().err


# Watching


class Watcher:
    """``--watch`` as a process of its own."""

    def __init__(self, run, folder, *flags):
        call = [sys.executable, "-m", "vision.predict", str(run), "--watch", str(folder), "--device", "cpu", *flags]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )
        self.folder, self.told = folder, []
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()

    def listen(self):
        for line in self.process.stdout:
            self.told.append(line)

    def rows(self):
        path = self.folder / "predictions.csv"
        return rows_of(path) if path.exists() else []

    def wait_for(self, n, told, seconds=60):
        """Wait until the table has `n` rows, and so many lines were printed."""
        end = time.monotonic() + seconds
        while len(self.rows()) < n or len(self.told) < told:
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < end, (self.rows(), self.told)
            time.sleep(0.05)

    def stop(self, how):
        self.process.send_signal(how)
        code = self.process.wait(60)
        self.listener.join()
        with self.process.stdout, self.process.stderr as err:
            return code, self.told, err.read()


@pytest.fixture
def start_watcher(trained):
    started = []

    def start(*args):
        started.append(Watcher(trained / "run", *args))
        return started[-1]

    yield start
    for watcher in started:
        watcher.process.kill()


def test_what_is_dropped_in_is_predicted_once(start_watcher, tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    soundfile.write(folder / "first.wav", band_noise("jazz"), 22050)
    (folder / "bad.mp3").write_bytes(b"nothing")
    (folder / "coming.wav.part").write_bytes(b"later")
    (folder / "empty.wav").write_bytes(b"")
    (folder / ".hidden.wav").write_bytes(b"x")
    watcher = start_watcher(folder)
    watcher.wait_for(2, told=1)
    # A file that takes its time to arrive, longer than two looks, but never stands still as long as that.
    soundfile.write(tmp_path / "slow.wav", band_noise("metal"), 22050)
    content = (tmp_path / "slow.wav").read_bytes()
    with open(folder / "deep" / "slow.wav", "wb") as file:
        for part in range(25):
            file.write(content[part * len(content) // 25 : (part + 1) * len(content) // 25])
            file.flush()
            time.sleep(watch.PAUSE / 10)
    watcher.wait_for(3, told=2)
    # Replaced under its name: another file.
    soundfile.write(folder / "first.wav", band_noise("blues", seconds=3.0), 22050)
    watcher.wait_for(4, told=3)
    code, lines, err = watcher.stop(signal.SIGKILL)
    assert [line.split()[1] for line in lines] == ["jazz", "metal", "blues"]
    assert err.count("failed:") == 1, "the bad one, and no half of the slow one"
    # Torn by the kill, perhaps.
    with open(folder / "predictions.csv", "ab") as file:
        file.write(b"deep/slow.wav,12,4")
    watcher = start_watcher(folder, "--json")
    soundfile.write(folder / "last.wav", band_noise("metal"), 22050)
    watcher.wait_for(5, told=1)
    soundfile.write(folder / "end.wav", band_noise("jazz"), 22050)  # known by its second look: last.wav was seen again
    watcher.wait_for(6, told=2)
    code, lines, err = watcher.stop(signal.SIGINT)
    assert code == 130
    told = [json.loads(line) for line in lines]
    assert [(Path(one["file"]).name, one["predicted"]) for one in told] == [("last.wav", "metal"), ("end.wav", "jazz")]
    assert "failed" not in err
    rows = rows_of(folder / "predictions.csv")
    names = ["bad.mp3", "first.wav", "deep/slow.wav", "first.wav", "last.wav", "end.wav"]
    assert [row["file"] for row in rows] == names
    assert [row["predicted"] for row in rows] == ["", "jazz", "metal", "blues", "metal", "jazz"]
    assert "cannot be decoded" in rows[0]["error"]


def test_the_table_goes_on_where_it_was_cut_off(tmp_path):
    path, folder = tmp_path / "t.csv", tmp_path / "in"
    classes = ["a,b", "new\nline"]
    table = watch.Table(path, folder, classes)
    odd = folder / os.fsdecode(b'x, "y"\n\xff.wav')
    table.add(Prediction(odd, np.array([0.25, 0.75])), (10, 123))
    table.add(Prediction(folder / "b.wav", error="is\nbad"), (11, -5))
    whole = path.read_bytes()
    for n in range(len(whole) + 1):
        path.write_bytes(whole[:n])
        again = watch.Table(path, folder, classes)
        ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
        assert again.knows(odd, (10, 123)) == (n >= ends[1]), n
        assert again.knows(folder / "b.wav", (11, -5)) == (n >= ends[2])
        assert not again.knows(odd, (10, 124))
        assert path.read_bytes() == whole[: max(end for end in [ends[0], *ends] if end <= max(n, ends[0]))]
    with pytest.raises(MelvisionError, match="is not the table"):
        watch.Table(path, folder, ["others"])


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

    table = watch.Table(tmp_path / "t.csv", tmp_path, ["a"])
    slow = Slow()
    assert next(watch.watch(slow, tmp_path, table, pause=0.01)).path == path
    assert slow.n == 2
    assert [row["bytes"] for row in rows_of(tmp_path / "t.csv")] == ["2"]
