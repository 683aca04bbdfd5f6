"""Plots of any names and lengths, without a change to matplotlib's state."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision.reports import metrics, plots

ROOT = Path(__file__).parents[2]
HOSTILE = ["$\\frac1", "a\nb", "\udcff", "x" * 200, "音楽"]


def size_of(path):
    with Image.open(path) as image:
        assert np.asarray(image).std() > 5, "something is drawn"
        return image.size


@pytest.mark.parametrize("n", [1, 40])
def test_reliability(tmp_path, n):
    rng = np.random.default_rng(1)
    plots.plot_reliability(tmp_path / "a.png", metrics.reliability(rng.integers(0, 3, n), rng.dirichlet(np.ones(3), n)))
    assert size_of(tmp_path / "a.png") == (600, 528)


def test_an_interval_without_room_above_can_be_drawn(tmp_path):
    plots.plot_reliability(tmp_path / "a.png", metrics.reliability([0], [[0.9, 0.1]]))
    size_of(tmp_path / "a.png")


@pytest.mark.parametrize("quantity", ["accuracy", "loss"])
@pytest.mark.parametrize("epochs", [1, 30])
def test_history(tmp_path, quantity, epochs):
    history = [
        {"epoch": epoch, f"train_{quantity}": 1 / epoch, f"dev_{quantity}": 0.5} for epoch in range(1, epochs + 1)
    ]
    plots.plot_history(tmp_path / "a.png", history, quantity, kept=1)
    assert size_of(tmp_path / "a.png") == (768, 480)


@pytest.mark.parametrize("column", ["dev_accuracy", "dev_loss"])
def test_curves_of_many_runs_some_of_one_epoch_and_some_of_none(tmp_path, column):
    long = [{"epoch": epoch, column: 1 / epoch} if epoch % 2 else {"epoch": epoch} for epoch in range(1, 9)]
    histories = {f"{name}{number}": [long, long[:1]] for number, name in enumerate(HOSTILE * 6)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.plot_curves(tmp_path / "a.png", histories | {"none": [[{"epoch": 0}], []]}, column)
    size_of(tmp_path / "a.png")


@pytest.mark.parametrize("n", [2, 10])
def test_confusion_of_hostile_names(tmp_path, monkeypatch, n):
    monkeypatch.setattr(plots, "MOST_SHOWN_GENRES", 5)
    classes = [f"{HOSTILE[number % len(HOSTILE)]}{number}" for number in range(n)]
    counts = np.random.default_rng(0).integers(0, 3, (n, n))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.plot_confusion(tmp_path / "a.png", counts, classes, "cost: $5 or \\$6")
    size_of(tmp_path / "a.png")


def test_of_many_genres_the_most_confused_are_shown(tmp_path, monkeypatch):
    counts = np.diag(np.full(1100, 9))
    counts[700, 3] = counts[5, 1000] = 4
    monkeypatch.setattr(plots, "MOST_SHOWN_GENRES", 4)
    shown = []
    monkeypatch.setattr(plots, "plain_text", lambda text, *rest: shown.append(text) or text)
    plots.plot_confusion(tmp_path / "a.png", counts, [str(number) for number in range(1100)], "test")
    assert shown[:4] == ["3", "5", "700", "1000"] and "4 most confused of 1100 genres" in shown[4]
    assert max(size_of(tmp_path / "a.png")) < 2000


@pytest.mark.parametrize(("n_genres", "seconds"), [(3, 1), (50, 7200), (1, 180)])
def test_timeline_of_any_length_and_names(tmp_path, n_genres, seconds):
    rng = np.random.default_rng(0)
    starts = np.linspace(0, max(0, seconds - 1), 40)
    times = np.stack([starts, starts + 1], axis=1)
    names = [f"$\\frac{number}\n<b>" for number in range(n_genres)]
    # Of many genres, each is predicted at some time.
    p = np.roll(np.eye(n_genres), 1, axis=0)[:40] if n_genres > 40 else rng.dirichlet(np.ones(n_genres), 40)
    plots.plot_timeline(tmp_path / "a.png", times, p, names, "a\n$\udcff.mp3" * 20)
    width, height = size_of(tmp_path / "a.png")
    assert width == 1080 and height < 2000


def test_plain_text():
    assert plots.plain_text("a\nb $5 \udcff") == r"a\nb \$5 ?"
    assert plots.plain_text("x" * 31) == "x" * 27 + "..."


@pytest.mark.slow
def test_matplotlib_is_imported_late_and_left_as_it_is(tmp_path):
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from vision.reports import plots\n"
        "import vision.attribution.plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import matplotlib\n"
        "before = matplotlib.rcParams.copy()\n"  # `dict` would choose a backend
        f"plots.plot_confusion({str(tmp_path / 'a.png')!r}, np.eye(2, dtype=int), ['a', 'b'], 'title')\n"
        "assert matplotlib.rcParams.copy() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
