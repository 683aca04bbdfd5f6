"""Sounds, folders of tracks, and the command on them, for the tests of render."""

import numpy as np
import pytest
import soundfile

from render import png, workers
from render.__main__ import main
from render.worker_process import Limits
from tests.render.tasks import call

SR = 22050
SOON = Limits(cpu_seconds=1.0, wall_seconds=60.0)


SMALL = Limits(cpu_seconds=20.0, memory_bytes=1 << 29)


def run_tasks(*tasks, jobs=2, limits=SOON, **kwargs):
    """Results in the order of the tasks, each of which must have come exactly once."""
    pairs = list(workers.run(call, tasks, jobs, limits=limits, **kwargs))
    assert sorted(number for number, _ in pairs) == list(range(len(tasks)))
    return [result for _, result in sorted(pairs, key=lambda pair: pair[0])]


def make_sound(seconds=0.3, sr=SR, channels=1, seed=0):
    """A tone of its own for each seed, with some noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * sr)) / sr
    y = 0.4 * np.sin(2 * np.pi * rng.uniform(100, 3000) * t)[:, None]
    return y + 0.02 * rng.standard_normal((len(t), channels))


def put(path, y=None, sr=SR, **kwargs):
    """Write a sound, or raw bytes; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(y, bytes):
        path.write_bytes(y)
    else:
        soundfile.write(path, make_sound(seed=len(str(path.name))) if y is None else y, sr, **kwargs)
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def render(genres, out, capsys, draw_here):
    """Run the command on `genres`; returns its exit code, what it printed and what it complained of.

    In this process and not in workers, so that tests can put something else in the place of a function.
    """

    def run(*flags, genres=genres, out=out):
        code = main([str(genres), "-o", str(out), "-j1", *map(str, flags)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


def pictures(out):
    """Everything under `out`, hidden files too: path -> (bytes, identity, time)."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {
        str(path.relative_to(out)): (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) for path in files
    }


def about(path):
    return png.read(path)[1]


def lines_about(complaints, path):
    return [line for line in complaints.splitlines() if line.startswith((f"failed: {path}: ", f"note: {path}: "))]


@pytest.fixture
def genres(tmp_path):
    """Three tracks of two genres."""
    put(tmp_path / "genres/blues/blues.00000.wav", make_sound(1.0, seed=0))
    put(tmp_path / "genres/blues/cd 2/b.FLAC", make_sound(0.5, sr=44100, channels=2, seed=1), 44100)
    put(tmp_path / "genres/jazz/j.au", make_sound(0.3, seed=2))
    return tmp_path / "genres"


def make_chord(number=0, seconds=1.5):
    """A decaying chord with noise."""
    rng = np.random.default_rng(number)
    t = np.arange(round(seconds * SR)) / SR
    y = sum(np.sin(2 * np.pi * f * t) for f in rng.uniform(100, 2000, 4)) * np.exp(-t) + rng.normal(0, 0.1, len(t))
    return (0.2 * y).astype(np.float32)


@pytest.fixture
def chords(tmp_path):
    for number, name in enumerate(["a", "b", "c"]):
        for genre in ("blues", "jazz"):
            path = tmp_path / "genres" / genre / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, make_chord(number + 10 * (genre == "jazz")), SR, subtype="FLOAT")
    return tmp_path / "genres"


@pytest.fixture
def nine_tracks(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(9):
        path = tmp_path / f"genres/g{number % 2}/{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.standard_normal(11025) * 0.1, 22050)
    return tmp_path / "genres"
