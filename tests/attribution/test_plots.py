"""Axes, summaries and file names of the plots."""

from pathlib import Path

import numpy as np

from render import figure
from render.settings import Settings
from vision.attribution.explanation import frequencies
from vision.attribution.plots import track_path


def test_frequencies_of_bands_are_those_of_the_mel_axis():
    settings = Settings()
    edges = frequencies(settings, 16)
    assert len(edges) == 17 and (np.diff(edges) > 0).all()
    assert edges[0] >= 0 and edges[-1] <= settings.sr / 2
    # Band k of 128 peaks in the middle of its row, and a group of 8 begins half a band below its lowest.
    places, hz = figure.frequency_ticks(settings)
    for place, frequency in zip(places, hz, strict=True):
        assert np.isclose(figure.frequency_at(place, settings), frequency)
        group = int((place + 0.5) // 8)
        assert edges[group] <= frequency <= edges[group + 1]
    assert frequencies(None, 16) is None
    assert frequencies(Settings(kind="features"), 16) is None


def test_each_track_has_its_own_file_name(tmp_path):
    taken = set()
    paths = [Path("a/x.png"), Path("a/x.wav"), Path("b/x.png"), Path("c/x.png"), Path("a/x.y.png")]
    plots = [track_path(tmp_path, path, taken) for path in paths]
    names = ("x", "x.wav", "x.png", "x.png-2", "x.y")
    assert [path.name for path in plots] == [f"{name}.explained.png" for name in names]
