"""`python -m render.features`: librosa's values under Kaggle's names, resumed, in any number of processes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from render import features
from render.errors import AudioError
from render.features import COLUMNS, main, measure

SR = 22050
ROOT = Path(__file__).parents[2]
KAGGLE = (
    "filename,length,chroma_stft_mean,chroma_stft_var,rms_mean,rms_var,spectral_centroid_mean,spectral_centroid_var,"
    "spectral_bandwidth_mean,spectral_bandwidth_var,rolloff_mean,rolloff_var,zero_crossing_rate_mean,"
    "zero_crossing_rate_var,harmony_mean,harmony_var,perceptr_mean,perceptr_var,tempo,mfcc1_mean,mfcc1_var,mfcc2_mean,"
    "mfcc2_var,mfcc3_mean,mfcc3_var,mfcc4_mean,mfcc4_var,mfcc5_mean,mfcc5_var,mfcc6_mean,mfcc6_var,mfcc7_mean,"
    "mfcc7_var,mfcc8_mean,mfcc8_var,mfcc9_mean,mfcc9_var,mfcc10_mean,mfcc10_var,mfcc11_mean,mfcc11_var,mfcc12_mean,"
    "mfcc12_var,mfcc13_mean,mfcc13_var,mfcc14_mean,mfcc14_var,mfcc15_mean,mfcc15_var,mfcc16_mean,mfcc16_var,"
    "mfcc17_mean,mfcc17_var,mfcc18_mean,mfcc18_var,mfcc19_mean,mfcc19_var,mfcc20_mean,mfcc20_var,label"
)


def music(seconds=0.5, sr=SR, seed=0):
    """Chords that change, a beat and some noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * sr)) / sr
    roots = 220 * 2 ** (rng.integers(0, 12, 1 + int(seconds))[t.astype(int)] / 12 + 0.02)
    y = sum(np.sin(2 * np.pi * np.cumsum(roots * ratio) / sr) for ratio in (1, 1.26, 1.5)) / 8
    y += 0.3 * rng.standard_normal(len(t)) * np.exp(-20 * (t % 0.5))
    return (y + 0.005 * rng.standard_normal(len(t))).astype(np.float32)


def put(path, y, sr=SR):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(os.fsencode(path), y, sr, format="WAV")
    return path


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def genres(tmp_path):
    """Three tracks of two genres."""
    for number, name in enumerate(["blues/blues.00000.wav", "blues/blues.00001.wav", "jazz/j.wav"]):
        put(tmp_path / "genres" / name, music(seed=number))
    return tmp_path / "genres"


@pytest.fixture
def table(genres, tmp_path, capsys, monkeypatch):
    """Run the command in this process; returns its exit code, summary, complaints and how many were measured."""
    calls = []

    def counted(y, *, sr):
        calls.append(len(y))
        return measure(y, sr=sr)

    def run_here(function, tasks, jobs, first_alone):
        yield from ((number, function(*task)) for number, task in enumerate(tasks))

    monkeypatch.setattr(features, "measure", counted)
    monkeypatch.setattr(features.workers, "run", run_here)

    def run(*flags, out=tmp_path / "t.csv"):
        calls.clear()
        code = main([str(genres), "-o", str(out), *map(str, flags)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err, len(calls)

    run.out = tmp_path / "t.csv"
    return run


def librosa_says(y, sr):
    """What the notebooks that made Kaggle's table do, function by function."""
    import librosa
    from librosa import feature

    harmony, perceptr = librosa.effects.hpss(y)
    values = {
        "chroma_stft": feature.chroma_stft(y=y, sr=sr),
        "rms": feature.rms(y=y),
        "spectral_centroid": feature.spectral_centroid(y=y, sr=sr),
        "spectral_bandwidth": feature.spectral_bandwidth(y=y, sr=sr),
        "rolloff": feature.spectral_rolloff(y=y, sr=sr),
        "zero_crossing_rate": feature.zero_crossing_rate(y),
        "harmony": harmony,
        "perceptr": perceptr,
    }
    values |= {f"mfcc{n}": row for n, row in enumerate(feature.mfcc(y=y, sr=sr, n_mfcc=20), 1)}
    statistics = {
        f"{name}_{part.__name__}": part(value) for name, value in values.items() for part in (np.mean, np.var)
    }
    return statistics | {"tempo": np.atleast_1d(librosa.beat.beat_track(y=y, sr=sr)[0])[0]}


def test_the_columns_are_kaggles():
    assert KAGGLE.split(",") == COLUMNS
    assert len(COLUMNS) == 60


@pytest.mark.slow
@pytest.mark.parametrize(
    "y, sr",
    [
        (music(5.0), SR),
        (music(1.0, 44100), 44100),
        (music(1.0, 8000), 8000),
        (np.sin(2 * np.pi * 443 * np.arange(SR) / SR).astype(np.float32), SR),
        (np.r_[np.zeros(SR, np.float32), music(0.5)], SR),
        (np.ones(SR, np.float32), SR),
        (music(2048 / SR), SR),
    ],
    ids=["music", "44100", "8000", "tone", "half silent", "constant", "one window"],
)
def test_the_values_are_librosas(y, sr):
    with warnings.catch_warnings(action="ignore"):
        expected, values = librosa_says(y, sr), measure(y, sr=sr)
    assert list(values) == COLUMNS[2:-1]
    for name, value in values.items():
        # The samples of harmony and perceptr cancel in the mean: what is left is compared with their size.
        size = float(expected[name.replace("mean", "var")]) ** 0.5 if name in ("harmony_mean", "perceptr_mean") else 0
        assert value == pytest.approx(expected[name], rel=1e-5, abs=1e-6 * size + 1e-12), name


def test_the_running_median_is_scipys():
    from scipy.ndimage import median_filter

    rng = np.random.default_rng(0)
    for n in [*range(1, 70), 300]:
        X = rng.integers(0, 9, (n, 37)).astype(np.float32)  # with ties
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(X, ((15, 15), (0, 0)), "symmetric"), 31, axis=0)
        values = features._median31(X)
        assert np.array_equal(values, np.median(windows, axis=-1)), n
        if n >= 16:  # scipy 1.17 reads past the end of shorter ones
            assert np.array_equal(values, median_filter(X, (31, 1))), n


def test_a_track_is_a_row(genres, table):
    code, printed, complaints, measured = table()
    assert (code, complaints, measured) == (0, "", 3)
    assert printed.startswith("3 tracks: 3 measured, 0 fresh already, 0 failed")
    assert printed.count("\n") == 1
    assert table.out.read_text().splitlines()[0] == KAGGLE
    rows = read(table.out)
    assert [row["filename"] for row in rows] == ["blues.00000.wav", "blues.00001.wav", "j.wav"]
    assert [row["label"] for row in rows] == ["blues", "blues", "jazz"]
    assert {row["length"] for row in rows} == {"11025"}
    y = soundfile.read(genres / "jazz/j.wav", dtype="float32")[0]
    with warnings.catch_warnings(action="ignore"):
        assert [float(rows[2][name]) for name in COLUMNS[2:-1]] == list(measure(y, sr=SR).values())


def test_segments_are_whole_and_named_after_their_track(genres, table):
    put(genres / "jazz/long.wav", music(1.1))
    put(genres / "jazz/short.wav", music(0.3))
    code, printed, complaints, _ = table("--segment", 0.5)
    assert code == 1
    assert complaints == f"failed: {genres}/jazz/short.wav: is 0.30 s long, shorter than one segment of 0.5 s\n"
    rows = read(table.out)
    names = ["blues.00000.0.wav", "blues.00001.0.wav", "j.0.wav", "long.0.wav", "long.1.wav"]
    assert [row["filename"] for row in rows] == names
    assert {row["length"] for row in rows} == {"11025"}
    y = soundfile.read(genres / "jazz/long.wav", dtype="float32")[0][11025:22050]
    assert float(rows[-1]["rms_mean"]) == pytest.approx(measure(y, sr=SR)["rms_mean"])


def test_another_run_measures_only_what_is_missing_or_changed(genres, table):
    table()
    before = table.out.read_bytes(), table.out.stat().st_mtime_ns, table.out.stat().st_ino
    assert table()[3] == 0
    assert (table.out.read_bytes(), table.out.stat().st_mtime_ns, table.out.stat().st_ino) == before
    os.utime(genres / "jazz/j.wav", (1e9, 1e9))  # touched: read, but not measured
    assert table()[1].startswith("3 tracks: 0 measured, 3 fresh already, 0 failed")
    assert table()[3] == 0
    put(genres / "blues/blues.00001.wav", music(seed=9))
    put(genres / "country/c.wav", music(seed=8))
    (genres / "jazz/j.wav").unlink()
    (genres / "jazz/j2.wav").write_bytes((genres / "blues/blues.00000.wav").read_bytes())
    assert table()[3] == 3
    rows = read(table.out)
    assert [row["filename"] for row in rows] == ["blues.00000.wav", "blues.00001.wav", "c.wav", "j2.wav"]
    assert table.out.read_bytes().splitlines()[1] == before[0].splitlines()[1]
    assert rows[1]["rms_mean"] not in before[0].decode()
    table.out.unlink()
    assert table()[3] == 0  # a lost table is written again
    assert read(table.out) == rows
    assert table("--sr", 16000)[3] == 4
    assert table("--sr", 16000, "--force")[3] == 4


def test_a_torn_state_costs_one_track(table):
    table()
    whole = table.out.read_bytes()
    state = Path(f"{table.out}.state.jsonl")
    state.write_bytes(state.read_bytes()[:-50])
    assert table()[3] == 1
    assert table()[3] == 0
    assert table.out.read_bytes() == whole


def test_the_table_grows_while_it_is_made(table, monkeypatch):
    monkeypatch.setattr(features, "SAVE_SECONDS", -1e9)
    seen = []
    write = features._write_table
    monkeypatch.setattr(features, "_write_table", lambda *args: (write(*args), seen.append(len(read(args[0])))))
    table()
    assert seen == [1, 2, 3, 3]


def test_tables_made_elsewhere_are_left_alone(table):
    table.out.write_text("mine")
    code, _, complaints, _ = table()
    assert code == 2
    assert complaints.startswith(f"error: {table.out}: exists and was not written by melvision")
    assert table.out.read_text() == "mine"
    assert table("--force")[0] == 0


def test_failures_are_listed_and_the_rest_is_done(genres, table):
    (genres / "blues/bad.wav").write_bytes(b"no audio")
    (genres / "blues/empty.wav").touch()
    put(genres / "jazz/blip.wav", music(0.05))
    code, printed, complaints, _ = table()
    assert code == 1
    lines = complaints.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        str(genres / name) for name in ("blues/bad.wav", "blues/empty.wav", "jazz/blip.wav")
    ]
    assert all(line.startswith("failed: ") for line in lines)
    assert "shorter than one window" in lines[2]
    assert printed.startswith("6 tracks: 3 measured, 0 fresh already, 3 failed")
    assert len(read(table.out)) == 3


def test_silence_gives_numbers_and_no_warnings(genres, table, recwarn):
    put(genres / "jazz/j.wav", np.zeros(SR))
    code, _, complaints, _ = table()
    assert (code, complaints, len(recwarn)) == (0, "", 0)
    row = read(table.out)[2]
    assert np.isfinite([float(row[name]) for name in COLUMNS[1:-1]]).all()
    assert {row[name] for name in ("rms_mean", "tempo", "harmony_var", "spectral_centroid_mean")} == {"0.0"}


@pytest.mark.skipif(sys.platform != "linux", reason="such names are Linux's")
def test_any_name_makes_a_table_that_programs_can_read(genres, table):
    names = ["a,b.wav", 'a"b.wav', "a\nb.wav", "caf\udce9.wav", "\N{GUITAR}.wav"]
    for name in names:
        put(genres / "jazz" / name, music())
    assert table()[0] == 0
    names_read = [row["filename"] for row in read(table.out)]
    assert sorted(names_read[2:]) == sorted(["j.wav", *(name.replace("\udce9", "\\udce9") for name in names)])
    assert table()[3] == 0


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--jobs", "0"], "--jobs 0: expected"),
        (["--sr", "10"], "--sr 10: expected"),
        (["--segment", "0"], "--segment 0.0: expected"),
        (["--segment", "nan"], "--segment nan: expected"),
        (["--segment", "0.01"], "--segment 0.01: expected seconds, at least 0.093"),
    ],
)
def test_mistakes_are_one_line(table, flags, message):
    code, out, complaints, _ = table(*flags)
    assert code == 2
    assert out == ""
    assert complaints.startswith(f"error: {message}")
    assert complaints.count("\n") == 1


def test_a_table_that_cannot_be_written_is_a_mistake(genres, table):
    out = genres / "jazz/j.wav/t.csv"
    code, _, complaints, _ = table(out=out)
    assert code == 2
    assert complaints.startswith(f"error: {out}: cannot be written (")
    assert complaints.count("\n") == 1


def start(genres, out, jobs):
    call = [sys.executable, "-m", "render.features", genres, "-o", out, "-j", str(jobs)]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of 18 tracks, and its table as two processes make it."""
    root = tmp_path_factory.mktemp("many")
    for number in range(18):
        put(root / f"genres/{'blues' if number % 2 else 'jazz'}/{number}.wav", music(1.0, seed=number))
    put(root / "genres/rock/quiet.wav", np.zeros(SR))
    process = start(root / "genres", root / "t.csv", 2)
    printed, complaints = process.communicate(timeout=60)
    # On a busy machine it takes long enough for a line of progress.
    complaints = [line for line in complaints.splitlines() if not line.startswith("features: ")]
    assert (process.returncode, complaints) == (0, [])
    assert printed.startswith("19 tracks: 19 measured")
    return root / "genres", root / "t.csv"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_a_killed_run_is_completed_and_any_number_of_processes_writes_the_same(many, tmp_path):
    genres, whole = many
    out, state = tmp_path / "t.csv", tmp_path / "t.csv.state.jsonl"
    process = start(genres, out, 1)
    while not state.exists() or state.read_bytes().count(b"\n") < 4:
        assert process.poll() is None
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert not out.exists() or len(read(out)) < 19
    done = [json.loads(line)["track"] for line in state.read_bytes().split(b"\n")[1:-1]]
    assert 0 < len(done) < 18, "killed too late to show anything"
    process = start(genres, out, 1)
    printed, complaints = process.communicate(timeout=60)
    assert process.returncode == 0
    assert all(line.startswith("features: ") for line in complaints.splitlines()), "nothing but progress"
    assert f", {19 - int(printed.split()[2])} fresh already, 0 failed" in printed
    assert int(printed.split()[2]) <= 19 - len(done)
    assert out.read_bytes() == whole.read_bytes()


def test_help_imports_nothing_heavy():
    code = "import sys, runpy\nsys.argv = ['x', '--help']\n"
    code += "try: runpy.run_module('render.features', run_name='__main__')\nexcept SystemExit: pass\n"
    code += "print({'librosa', 'scipy', 'joblib', 'torch', 'matplotlib', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "example: python -m render.features genres/ -o features_30_sec.csv" in done.stdout
    assert done.stdout.endswith("set()\n")


@pytest.mark.parametrize("largest", [1e19, 1e37, 3.4e38])
def test_values_too_large_are_refused_in_our_words(largest):
    y = np.full(3 * SR, largest, np.float32) * np.resize([1, -0.5, 0.25], 3 * SR).astype(np.float32)
    with warnings.catch_warnings(), pytest.raises(AudioError, match="too large for sound"):
        warnings.filterwarnings("error", category=RuntimeWarning)
        measure(y, sr=SR)
