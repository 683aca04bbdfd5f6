"""Genre over time: the parts of a track are found where they change."""

import numpy as np
import pytest

from tests.conftest import spectrogram_of, write_picture
from vision.data.pixel_store import PixelStore
from vision.inference import timeline
from vision.inference.predictor import Predictor


@pytest.fixture(scope="module")
def in_windows(trained):
    """The model with windows of 10 s, which are 32 pixels wide like those that it was trained on."""
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
    segments = timeline.segments(times, probabilities)
    assert [predictor.classes[label] for _, _, label, _ in segments] == ["blues", "metal", "jazz"]
    assert [end for _, end, _, _ in segments] == pytest.approx([30, 60, 90], abs=4)
    assert all(p > 0.5 for *_, p in segments)
    assert segments[0][0] == 0
    assert [start for start, *_ in segments[1:]] == [end for _, end, *_ in segments[:-1]]


def test_a_few_uncertain_windows_are_no_change():
    times = np.stack([np.arange(60.0), np.arange(60.0) + 10], axis=1)
    p = np.full((60, 2), 0.2)
    p[:, 0] = 0.8
    p[30:33] = [[0.4, 0.6]] * 3
    assert [(start, end, k) for start, end, k, _ in timeline.segments(times, p)] == [(0, 69, 0)]
    p[25:50] = [[0.05, 0.95]] * 25
    segments = timeline.segments(times, p)
    assert [k for _, _, k, _ in segments] == [0, 1, 0]
    assert segments[1][:2] == (29.5, 54.5)
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
