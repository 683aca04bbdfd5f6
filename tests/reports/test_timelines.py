"""Plots of genre over time."""

import numpy as np
import pytest
from PIL import Image

from vision.reports import plots


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
