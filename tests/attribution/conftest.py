"""Models that tell planted bands and bursts apart."""

import numpy as np
import pytest

from tests.conftest import write_picture
from vision import split, train
from vision.inference.predictor import Predictor


@pytest.fixture(scope="session")
def model(trained):
    """The standard preset's model of three genres, each with a band of its own."""
    return Predictor(trained / "run", "cpu")


def burst_of(genre, number, n_frames=64):
    """A burst in noise, (128, n_frames), 24 bands high and 16 frames long, its lowest band and its first frame.

    "tones" have lines along time at the bottom, "clicks" lines along frequency further up.
    """
    rng = np.random.default_rng([7, number])
    S_db = rng.normal(-60, 6, (128, n_frames))
    low, start = (72 if genre == "clicks" else 24) + rng.integers(0, 8), rng.integers(0, n_frames - 16)
    rows, columns = np.mgrid[:24, :16]
    lines = (rows // 4 if genre == "tones" else columns // 2) % 2
    S_db[low : low + 24, start : start + 16] = np.where(lines, -10, -60) + rng.normal(0, 4, (24, 16))
    return S_db.clip(-80, 0).astype(np.float32), low, start


@pytest.fixture(scope="session")
def bursts(tmp_path_factory):
    """A convolutional network of two genres that differ in a burst only; bursts that are not in its training set."""
    root = tmp_path_factory.mktemp("bursts")
    for genre in ("tones", "clicks"):
        for number in range(12):
            write_picture(root / "images" / genre / f"{genre}.{number:05}.png", burst_of(genre, number)[0])
    assert split.main([str(root / "images"), "-o", str(root / "data")]) == 0
    flags = [
        "--recipe",
        "quick",
        "--no-texture",
        "--epochs",
        "10",
        "--seed",
        "1",
        "--batch-size",
        "8",
        "--threads",
        "1",
    ]
    assert train.main(["--data", str(root / "data"), "--out", str(root / "run"), "--device", "cpu", *flags]) == 0
    predictor = Predictor(root / "run", "cpu")
    tracks = []
    for genre in ("tones", "clicks"):
        for number in range(100, 103):
            S_db, low, start = burst_of(genre, number)
            x = predictor.read(write_picture(root / f"{genre}{number}.png", S_db)).x
            tracks.append((x, predictor.classes.index(genre), low, start))
    return predictor, tracks
