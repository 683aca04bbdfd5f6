"""Margins and colours, on pictures that matplotlib draws here."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from render import png
from tests.conftest import DATA, needs_data, spectrogram_of, write_picture
from vision.data.borders import RemoveBorder, own_box
from vision.data.colormaps import COLORMAPS, colours_to_levels, read_levels, stretch
from vision.data.dataset import list_pictures
from vision.data.images import load
from vision.data.preprocess import match_channels, resize, to_tensor
from vision.data.survey import fit_border

KAGGLE_BOX = (54, 35, 389, 256)


def plot(path, S_db, cmap="viridis", size=(4.32, 2.88), **savefig):
    """What everybody does: a figure with its axes off, saved with its margins."""
    figure = Figure(figsize=size, dpi=100)
    axes = figure.add_subplot()
    axes.imshow(np.ma.masked_invalid(S_db), origin="lower", aspect="auto", cmap=cmap, interpolation="nearest")
    axes.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, **savefig)
    return path


def levels_of(image):
    return to_tensor(read_levels(image)[0])


def to_input(image, size=64):
    return resize(levels_of(image), size, size)


def plots(folder, n=6, **how):
    return [plot(folder / f"{number}.png", spectrogram_of("jazz", number, 300), **how) for number in range(n)]


def test_default_matplotlib_margins_are_found(tmp_path):
    paths = plots(tmp_path)
    remove_border = fit_border(paths)
    assert [remove_border.box(load(path)) for path in paths] == [(KAGGLE_BOX, True)] * 6
    assert remove_border(load(paths[0])).size == (335, 221)
    assert "432x288" in repr(remove_border)


def test_silence_drawn_white_is_not_cut_off(tmp_path):
    paths = plots(tmp_path)
    quiet = spectrogram_of("jazz", 9, 300)
    quiet[:, :120] = -np.inf
    paths.append(plot(tmp_path / "start.png", quiet))
    assert own_box(load(paths[-1]))[1][0] > 100, "matplotlib no longer draws silence white: the test tests nothing"
    quiet = spectrogram_of("jazz", 10, 300)
    quiet[:, 200:] = -np.inf
    paths.append(plot(tmp_path / "end.png", quiet))
    remove_border = fit_border(paths)
    assert {remove_border.box(load(path)) for path in paths} == {(KAGGLE_BOX, True)}


def test_edges_shared_by_chance_are_not_believed(tmp_path):
    """Two pictures that start, and two that end, with equally long silence, among ten others."""
    paths = plots(tmp_path, n=10)
    for number, part in enumerate([slice(0, 25), slice(0, 25), slice(275, 300), slice(275, 300), slice(200, 300)]):
        quiet = spectrogram_of("jazz", 20 + number, 300)
        quiet[:, part] = -np.inf
        paths.append(plot(tmp_path / f"quiet {number}.png", quiet))
    remove_border = fit_border(paths)
    assert {remove_border.box(load(path)) for path in paths} == {(KAGGLE_BOX, True)}


def test_margins_are_learned_from_all_over_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("vision.data.survey.BORDER_SAMPLE", 20)
    paths = []
    for number in range(30):
        levels = png.quantise(spectrogram_of("jazz", number, 432), vmin=-80, vmax=0)
        paths.append(tmp_path / f"{number:02}.png")
        Image.fromarray(png.palette("viridis")[np.repeat(levels, 3, axis=0)[:288]]).save(paths[-1])
    paths += [plot(tmp_path / f"z{number}.png", spectrogram_of("jazz", number, 300)) for number in range(9)]
    assert fit_border(paths).box(load(paths[-1])) == (KAGGLE_BOX, True)


def test_a_dark_margin_around_dark_music(tmp_path):
    """Quiet top rows are as black as the margin; what is music in some pictures is cut from none."""
    paths = []
    for number in range(8):
        pixels = np.zeros((160, 200), np.uint8)
        levels = png.quantise(spectrogram_of("jazz", number, 150), vmin=-80, vmax=0)[::-1].copy().clip(1)
        if number % 2:
            levels[:5] = 0
        pixels[16:144, 20:170] = levels
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    remove_border = fit_border(paths)
    assert {remove_border.box(load(path)) for path in paths} == {((20, 16, 170, 144), True)}


def test_a_lone_picture_is_cut_by_its_own_edges_and_counted(tmp_path):
    path = plot(tmp_path / "a.png", spectrogram_of("jazz", 0, 300))
    remove_border = fit_border([path])
    assert remove_border.box(load(path)) == (KAGGLE_BOX, False)
    remove_border(load(path))
    assert not remove_border.box(load(path))[1]


def test_several_right_edges_are_kept(tmp_path):
    paths = []
    for number in range(9):
        S_db = spectrogram_of("jazz", number, 300)
        figure = Figure(figsize=(4.32, 2.88), dpi=100)
        axes = figure.add_subplot()
        axes.imshow(S_db, origin="lower", aspect="auto", extent=(0, 300 - 20 * (number % 3), 0, 128))
        axes.set_xlim(0, 300)
        axes.axis("off")
        paths.append(tmp_path / f"{number}.png")
        figure.savefig(paths[-1])
    own = [own_box(load(path))[1] for path in paths]
    assert len({box[2] for box in own}) == 3
    remove_border = fit_border(paths)
    assert [remove_border.box(load(path))[0] for path in paths] == own


def test_transparent_margins_are_margins(tmp_path):
    paths = plots(tmp_path, transparent=True)
    assert load(paths[0]).getpixel((0, 0))[3] == 0
    assert fit_border(paths).box(load(paths[0])) == (KAGGLE_BOX, True)


def test_nothing_to_remove(tmp_path):
    """No margin, constant dark rows on top, and one picture that is dark all around by chance."""
    paths = []
    for number in range(6):
        levels = png.quantise(spectrogram_of("jazz", number), vmin=-80, vmax=0)[::-1].copy()
        levels[:20] = 0
        if number == 5:
            levels[-1], levels[:, 0], levels[:, -1] = 0, 0, 0
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(png.palette("magma")[levels]).save(paths[-1])
    assert own_box(load(paths[5]))[0] is not None
    remove_border = fit_border(paths)
    for path in paths:
        image = load(path)
        assert remove_border(image) is image


def test_our_own_pictures_are_never_cut(tmp_path):
    silent_frame = np.full((128, 64), -80, np.float32)
    silent_frame[30:60, 10:50] = -20
    path = write_picture(tmp_path / "a.png", silent_frame)
    image = load(path)
    assert own_box(image)[0] is not None
    assert RemoveBorder()(image) is image


def test_frames_survive_json(tmp_path):
    import json

    paths = plots(tmp_path)
    frames = json.loads(json.dumps(fit_border(paths).frames))
    assert RemoveBorder(frames).box(load(paths[0])) == (KAGGLE_BOX, True)


@pytest.mark.parametrize("cmap", COLORMAPS)
def test_any_known_colormap_gives_the_same_levels(tmp_path, cmap):
    S_db = spectrogram_of("jazz", 3, 300)
    remove_border = RemoveBorder()
    ours = levels_of(load(write_picture(tmp_path / "ours.png", S_db)))
    path = plot(tmp_path / "theirs.png", S_db, cmap=cmap)
    theirs = levels_of(remove_border(load(path)))
    assert theirs.shape[0] == 1
    resized = to_input(Image.fromarray(theirs[0].numpy())), to_input(Image.fromarray(ours[0].numpy()))
    # matplotlib scales from the picture's own minimum and has no pixel grid of ours.
    assert (resized[0].float() - resized[1].float()).abs().mean() < 4


def test_levels_are_exact_and_white_is_silence():
    levels = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    pixels = png.palette("inferno")[levels].copy()
    pixels[:, :5] = 255
    found, cmap = colours_to_levels(pixels)
    assert cmap == "inferno"
    assert (found[:, 5:] == levels[:, 5:]).all()
    assert (found[:, :5] == 0).all()


@pytest.mark.parametrize(("cmap", "ending"), [("magma", "png"), ("jet", "png"), ("viridis", "jpg")])
def test_blended_colours_are_read_too(tmp_path, cmap, ending):
    """imshow's default interpolation blends colours, and so does JPEG."""
    S_db = spectrogram_of("jazz", 3, 300)
    figure = Figure(figsize=(4.32, 2.88), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(S_db, origin="lower", aspect="auto", cmap=cmap)
    axes.axis("off")
    figure.savefig(tmp_path / f"a.{ending}")
    image = load(tmp_path / f"a.{ending}")
    levels, found = colours_to_levels(np.asarray(image.convert("RGB")))
    assert found == cmap
    ours = to_input(load(write_picture(tmp_path / "ours.png", S_db)))
    theirs = to_input(Image.fromarray(levels))
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("cmap", [None, "twilight", "prism"])
def test_unknown_colours_stay_colours(cmap):
    levels = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    pixels = png.palette(cmap)[levels] if cmap else np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    assert colours_to_levels(pixels) == (None, None)
    assert levels_of(Image.fromarray(pixels)).shape == (3, 40, 50)


def test_a_palette_of_other_order_is_not_taken_for_levels(tmp_path):
    """Tools that compact a palette renumber the pixels."""
    path = write_picture(tmp_path / "a.png", spectrogram_of("jazz", 0))
    image = load(path)
    order = np.arange(255, -1, -1)
    shuffled = Image.fromarray(order[np.asarray(image)].astype(np.uint8), "L")
    shuffled.putpalette(png.palette("magma")[order].tobytes())
    assert torch.equal(levels_of(shuffled), levels_of(image))


def test_stretch():
    levels = np.array([[40, 100], [200, 240]], np.uint8)
    assert stretch(levels).tolist() == [[0, 76], [204, 255]]
    assert stretch(np.full((2, 2), 9, np.uint8)).tolist() == [[0, 0], [0, 0]]


def test_match_channels():
    levels = torch.randint(0, 256, (1, 8, 8), dtype=torch.uint8)
    colours = match_channels(levels, 3)
    assert colours.shape == (3, 8, 8)
    assert (colours[:, 2, 3].numpy() == png.palette("magma")[levels[0, 2, 3]]).all()
    assert match_channels(levels, 1) is levels
    assert match_channels(colours, 1).shape == (1, 8, 8)


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(
    ("source", "boxes"),
    [
        ("thoriqnur", {(90, 86, 648, 630)}),
        ("zwierd", {(10, 9, 506, 379)}),
        ("dacreasy", {(37, 48, right, 488) for right in (572, 579, 584)}),
    ],
)
def test_real_bordered_pictures(source, boxes):
    paths = list_pictures(DATA / "bordered" / source)
    remove_border = fit_border(paths)
    assert {remove_border.box(load(path)) for path in paths} == {(box, True) for box in boxes}


@needs_data
def test_real_pictures_without_margin_are_left_alone():
    paths = list_pictures(DATA / "gtzan_images")[::10]
    remove_border = fit_border(paths)
    assert remove_border.frames == []
    for path in paths:
        image = load(path)
        assert remove_border(image) is image
        assert levels_of(image).shape[0] == 1
