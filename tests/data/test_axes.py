"""Figures with labels, ticks, titles and colour bars, as matplotlib and librosa draw them."""

import librosa.display
import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from render import png
from tests.conftest import spectrogram_of, write_picture
from vision.data.borders import RemoveBorder, own_box
from vision.data.colormaps import read_levels
from vision.data.images import load
from vision.data.preprocess import InputSpec, Preprocessor
from vision.data.survey import fit_border

THEMES = ["default", "dark_background", "ggplot", "seaborn-v0_8-white", "bmh"]


def figure_of(path, S_db, *, theme="default", dpi=100, cmap="magma", bar=True, size=(10, 4), **savefig):
    """A spectrogram with all that people put around it; returns the box of its axes in pixels."""
    with matplotlib.style.context(theme):
        figure = Figure(figsize=size, dpi=dpi)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.grid(False)
        levels = np.ma.masked_invalid(S_db)
        image = axes.imshow(
            levels, origin="lower", aspect="auto", cmap=cmap, extent=(0, 30, 0, 11), interpolation="nearest"
        )
        axes.set(title="a song", xlabel="seconds", ylabel="kHz")
        if bar:
            figure.colorbar(image, ax=axes, format="%+2.0f dB")
        figure.savefig(path, dpi=dpi, **savefig)
        extent = axes.get_window_extent()
    height = round(figure.get_figheight() * dpi)
    return extent.x0, height - extent.y1, extent.x1, height - extent.y0


def is_near(box, truth, pixels=3):
    return np.abs(np.subtract(box, truth)).max() <= pixels


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("dpi", [60, 100, 200])
def test_the_axes_are_found(tmp_path, theme, dpi):
    truth = figure_of(tmp_path / "a.png", spectrogram_of("jazz", 0, 300), theme=theme, dpi=dpi)
    box, _ = RemoveBorder().box(load(tmp_path / "a.png"))
    assert is_near(box, truth, 3 if dpi < 200 else 5)


@pytest.mark.parametrize(
    "how", [{"bar": False}, {"cmap": "gray"}, {"cmap": "jet"}, {"transparent": True}, {"size": (4.32, 2.88)}]
)
def test_with_and_without_a_bar_in_any_colours(tmp_path, how):
    truth = figure_of(tmp_path / "a.png", spectrogram_of("jazz", 0, 300), **how)
    margin = own_box(load(tmp_path / "a.png"))
    assert margin.certain and is_near(margin.box, truth)


@pytest.mark.parametrize("ending", ["jpg", "webp"])
@pytest.mark.parametrize(("theme", "cmap"), [("default", "viridis"), ("dark_background", "magma"), ("ggplot", "jet")])
def test_lossy_compression_hides_no_axes(tmp_path, ending, theme, cmap):
    path = tmp_path / f"a.{ending}"
    truth = figure_of(path, spectrogram_of("jazz", 0, 300), theme=theme, cmap=cmap)
    assert is_near(RemoveBorder().box(load(path))[0], truth, 5)


def test_silence_inside_axes_is_kept(tmp_path):
    """matplotlib draws it white, as the paper is."""
    S_db = spectrogram_of("jazz", 0, 300)
    S_db[:, :100], S_db[100:] = -np.inf, -np.inf
    truth = figure_of(tmp_path / "a.png", S_db)
    assert RemoveBorder().box(load(tmp_path / "a.png")) == (own_box(load(tmp_path / "a.png")).box, True)
    assert is_near(own_box(load(tmp_path / "a.png")).box, truth)


def test_librosas_own_figures(tmp_path):
    figure = Figure(figsize=(10, 4))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    mesh = librosa.display.specshow(spectrogram_of("jazz", 0, 300), x_axis="time", y_axis="mel", sr=22050, ax=axes)
    figure.colorbar(mesh, ax=axes, format="%+2.0f dB")
    figure.savefig(tmp_path / "a.png")
    extent = axes.get_window_extent()
    margin = own_box(load(tmp_path / "a.png"))
    assert margin.certain and is_near(margin.box, (extent.x0, 400 - extent.y1, extent.x1, 400 - extent.y0))


def test_a_figure_gives_the_levels_of_ours(tmp_path):
    S_db = spectrogram_of("jazz", 3, 300)
    figure_of(tmp_path / "theirs.png", S_db, cmap="viridis")
    write_picture(tmp_path / "ours.png", S_db)
    preprocess = Preprocessor(InputSpec(size=64))
    ours, theirs = (preprocess(load(tmp_path / f"{name}.png")).float() for name in ("ours", "theirs"))
    assert (ours - theirs).abs().mean() < 5


def test_margins_of_figures_are_learned_for_those_that_are_not_decoded(tmp_path):
    paths = []
    for number in range(4):
        paths.append(tmp_path / f"{number}.png")
        truth = figure_of(paths[-1], spectrogram_of("jazz", number, 300))
    width, height = fit_border(paths).content_size((1000, 400), None)
    assert abs(width - (truth[2] - truth[0])) <= 4 and abs(height - (truth[3] - truth[1])) <= 4


def test_two_panels_are_no_axes(tmp_path):
    """Which of them is the spectrogram cannot be told by their place."""
    figure = Figure(figsize=(6, 6))
    FigureCanvasAgg(figure)
    for axes, number in zip(figure.subplots(2, 1), range(2), strict=True):
        axes.imshow(spectrogram_of("jazz", number, 300), origin="lower", aspect="auto", cmap="magma")
    figure.savefig(tmp_path / "a.png")
    left, top, right, bottom = own_box(load(tmp_path / "a.png")).box
    assert bottom - top > 400 and right - left > 400


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0)])
def test_silence_between_sounds_is_no_margin(tmp_path, colour):
    """Without axes around them, the parts of a picture are all music."""
    levels = png.quantise(spectrogram_of("jazz", 0, 300), vmin=-80, vmax=0)[::-1]
    pixels = np.full((180, 400, 3), colour, np.uint8)
    pixels[20:148, 50:350] = png.palette("viridis")[levels]
    pixels[20:148, 150:230] = colour
    pixels[60:66, 180:186] = png.palette("viridis")[200]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert own_box(load(tmp_path / "a.png")).box == (50, 20, 350, 148)


@pytest.mark.parametrize("cmap", ["gray", "magma", "viridis"])
def test_quiet_music_without_a_margin_is_no_figure(tmp_path, cmap):
    """Sounds in the dark look like letters around axes, and a tone that is held like a bar."""
    rng = np.random.default_rng(0)
    levels = np.zeros((200, 400), np.uint8)
    levels[60:150, 80:300] = rng.integers(1, 255, (90, 220)) * (rng.random((90, 220)) > 0.1)
    levels[170:176, 40:380] = np.arange(100, 106)[:, None]
    for row, column in zip(rng.integers(2, 40, 30), rng.integers(2, 390, 30), strict=True):
        levels[row : row + 6, column : column + 5] = rng.integers(1, 255)
    path = tmp_path / "a.png"
    Image.fromarray(png.palette(cmap)[levels]).save(path)
    assert RemoveBorder().box(load(path))[0] == (0, 0, 400, 200)
    levels[0, 100:130] = 90
    Image.fromarray(png.palette(cmap)[levels]).save(path)
    assert RemoveBorder().box(load(path))[0] == (0, 0, 400, 200)


def test_a_million_speckles_are_not_looked_at_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr("scipy.ndimage.find_objects", None)
    pixels = np.full((3000, 3000, 3), 255, np.uint8)
    pixels[10:-10:3, 10:-10:3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert own_box(load(tmp_path / "a.png")).box == (10, 10, 2990, 2990)


@pytest.mark.parametrize(("cmap", "colour", "certain"), [
    ("magma", (0, 0, 0), True), ("viridis", (128, 128, 128), True), ("viridis", (68, 1, 84), False),
    ("gray", (0, 0, 0), False), ("jet", (30, 30, 30), True),
])  # fmt: skip
def test_a_margin_in_a_colour_that_the_colormap_has_not(tmp_path, cmap, colour, certain):
    levels = png.quantise(spectrogram_of("jazz", 0, 300), vmin=-80, vmax=0)[::-1]
    pixels = np.full((180, 400, 3), colour, np.uint8)
    pixels[20:148, 50:350] = png.palette(cmap)[levels]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = load(tmp_path / "a.png")
    assert RemoveBorder().box(image)[0] == ((50, 20, 350, 148) if certain else (0, 0, 400, 180))
    assert own_box(image).certain == certain


@pytest.mark.parametrize("cmap", ["magma", "viridis", "inferno", "plasma", "cividis", "turbo", "coolwarm", "afmhot"])
@pytest.mark.parametrize("ending", ["jpg", "webp", "jpg.png"])
def test_colours_after_lossy_compression(tmp_path, cmap, ending):
    """Also where a JPEG was saved as a PNG."""
    levels = png.quantise(spectrogram_of("jazz", 0, 400), vmin=-80, vmax=0)[::-1]
    levels = np.asarray(Image.fromarray(levels).resize((400, 300), Image.Resampling.BICUBIC))
    first = ending.split(".")[0]
    Image.fromarray(png.palette(cmap)[levels]).save(tmp_path / f"a.{first}")
    if ending != first:
        Image.open(tmp_path / f"a.{first}").save(tmp_path / f"a.{ending}")
    found, name = read_levels(load(tmp_path / f"a.{ending}"))
    assert name == cmap
    assert np.abs(found.astype(float) - levels).mean() < 8
