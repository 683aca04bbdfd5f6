"""Small picture trees, built in temporary folders."""

import csv
import os
import signal
import tempfile
from pathlib import Path

from render.worker_process import THREADS

# Before numpy and torch are imported: threads that wait for each other make tests many times slower where others
# compute as well, such as the tests in another process.
os.environ.update({name: os.environ.get(name, n) for name, n in THREADS.items()})

# numba mixes up what several processes store at a time, and whoever reads it later crashes: one store for each process
# that runs tests.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
os.environ["NUMBA_CACHE_DIR"] = str(Path(tempfile.gettempdir(), f"numba-of-tests-{os.getppid()}-{_worker}"))

# A shell starts what it puts in the background deaf to Ctrl-C, and every process that is started from it: the tests
# of Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from render import png, workers  # noqa: E402
from render.spectrogram import Settings  # noqa: E402

# A slow or busy machine is no failure.
hypothesis.settings.register_profile(
    "any speed", hypothesis.settings(), deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any speed")

DATA = Path(os.environ.get("MELVISION_DATA", Path(__file__).parents[2] / "shared" / "data"))

needs_data = pytest.mark.skipif(
    not (DATA / "gtzan_images").is_dir(), reason=f"no real data at {DATA}; set MELVISION_DATA to its folder"
)

#: Genres that a small network tells apart in seconds: each has its own bright band of 16 Mel bands.
BANDS = {"blues": 0, "jazz": 2, "metal": 5}


def spectrogram_of(genre, number, n_frames=64):
    """Noise at about -60 dB with the genre's band at about -10 dB, (128, n_frames)."""
    rng = np.random.default_rng([BANDS[genre], number])
    S_db = rng.normal(-60, 6, (128, n_frames))
    low = BANDS[genre] * 16 + rng.integers(0, 8)
    S_db[low : low + 16] = rng.normal(-10, 4, (16, n_frames))
    return S_db.clip(-80, 0).astype(np.float32)


def write_picture(path, S_db, settings=None):
    """Write a picture the way `python -m render` does."""
    about = png.describe(settings or Settings(), {"name": path.stem + ".wav", "size": 1, "hash": "0"}, "magma")
    png.write(path, S_db, about, colours=png.palette("magma"))
    return path


def write_tree(root, n, genres=tuple(BANDS), start=0):
    """Write `n` pictures a genre, named as GTZAN's."""
    for genre in genres:
        for number in range(start, start + n):
            write_picture(root / genre / f"{genre}.{number:05}.png", spectrogram_of(genre, number))
    return root


def read_pictures(root, *, classes=None, **spec):
    """Decode a folder by a spec learned from it; `spec` as of `learn_input_spec`."""
    from vision.data.dataset import list_pictures, read_folder
    from vision.data.preprocess import Preprocessor, learn_input_spec

    return read_folder(root, Preprocessor(learn_input_spec(list_pictures(root), **spec)), classes=classes)


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


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


@pytest.fixture
def draw_here(monkeypatch):
    """Have `render` draw in this process and not in workers, each of which would import what is imported here."""

    def run(function, tasks, jobs, **kwargs):
        return ((number, function(*task)) for number, task in enumerate(tasks))

    monkeypatch.setattr(workers, "run", run)


@pytest.fixture
def images(tmp_path):
    """A folder of 3 genres with 10 pictures each."""
    return write_tree(tmp_path / "images", 10)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with ``images``, ``data`` and a finished ``run``, trained through the command lines."""
    from vision import split, train

    root = tmp_path_factory.mktemp("trained")
    write_tree(root / "images", 12)
    assert split.main([str(root / "images"), "-o", str(root / "data")]) == 0
    flags = [
        "--recipe",
        "quick",
        "--epochs",
        "12",
        "--size",
        "32",
        "--batch-size",
        "8",
        "--threads",
        "1",
        "--device",
        "cpu",
    ]
    assert train.main(["--data", str(root / "data"), "--out", str(root / "run"), *flags]) == 0
    return root
