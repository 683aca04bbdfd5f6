"""One preprocessing: every path gives the network the same bytes of every kind of input."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from render import png
from tests.conftest import BANDS, DATA, needs_data, spectrogram_of, write_picture, write_tree
from vision.data.borders import RemoveBorder
from vision.data.dataset import SpectrogramFolder, list_pictures, read_folder
from vision.data.pixel_store import PixelStore
from vision.data.preprocess import InputSpec, Preprocessor, learn_input_spec
from vision.inference.predictor import Predictor
from vision.models import checkpoint
from vision.models.spec import ModelSpec

SIZE, SR = 32, 22050
#: A window of 1 s, and whole tracks.
WINDOWS = (1.0, None)


def levels_of(number, n_frames=64):
    """A picture's levels, row 0 the highest band."""
    return png.quantise(spectrogram_of("jazz", number, n_frames), vmin=-80, vmax=0)[::-1].copy()


def in_colormap(levels, cmap):
    return Image.fromarray(png.palette(cmap)[levels])


def with_margins(levels):
    """As matplotlib saves an image of 432x288 pixels: content with a white frame around."""
    canvas = Image.new("RGB", (432, 288), "white")
    canvas.paste(in_colormap(levels, "viridis").resize((335, 221), Image.Resampling.NEAREST), (54, 35))
    return canvas


def write_kinds(folder):
    """Write a picture of every kind, named by its kind."""
    folder.mkdir(parents=True)
    write_picture(folder / "ours.png", spectrogram_of("jazz", 0))
    write_picture(folder / "ours too.png", spectrogram_of("jazz", 1))
    write_picture(folder / "short.png", spectrogram_of("jazz", 2, 12))
    write_picture(folder / "long.png", spectrogram_of("jazz", 3, 600))
    for number in range(4):  # several, so that the margin is learned
        with_margins(levels_of(4 + number)).save(folder / f"margins {number}.png")
    in_colormap(levels_of(8), "inferno").save(folder / "colormap.png")
    in_colormap(levels_of(9), "magma").convert("RGBA").save(folder / "rgba.png")
    in_colormap(levels_of(10), "magma").save(folder / "lossy.jpg", quality=95)
    Image.fromarray(levels_of(11).astype(np.uint16) * 257).save(folder / "16 bit.png")
    Image.fromarray(levels_of(12)).save(folder / "grey.png")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 90, 3), np.uint8)).save(folder / "unknown colours.png")
    return folder


def as_training_reads(folder, window):
    """The spec that training learns from a folder, and what it reads with it: tensors by file name."""
    spec = learn_input_spec(list_pictures(folder), size=SIZE, window=window, channels=1)
    pictures = read_folder(folder, Preprocessor(spec))
    assert not pictures.problems
    names = [path.rpartition("/")[2] for path in pictures.paths]
    return spec, {name: pictures.x[number].clone() for number, name in enumerate(names)}


@pytest.fixture(scope="module", params=WINDOWS, ids=["windows", "whole tracks"])
def read(request, tmp_path_factory):
    """A folder, a run whose model was made for it, and what training reads."""
    root = tmp_path_factory.mktemp("kinds")
    write_kinds(root / "images" / "jazz")
    write_tree(root / "images", 2, ["blues"])
    spec, tensors = as_training_reads(root / "images", request.param)
    model = {"name": "cnn2", "mean": [0.5], "std": [0.3], "dropout": 0.0, "texture": 0}
    model_spec = ModelSpec(["blues", "jazz"], model, spec)
    torch.manual_seed(0)
    checkpoint.save(root / "run" / "model.pt", checkpoint.build(model_spec), model_spec)
    return root, tensors


@pytest.fixture
def seen(monkeypatch):
    """The pictures that any predictor gives to its network, in order."""
    given = []

    def watched(compute):
        def watch(self, x):
            given.extend(x[number].clone() for number in range(len(x)))
            return compute(self, x)

        return watch

    for name in ("probabilities", "answers"):
        monkeypatch.setattr(Predictor, name, watched(getattr(Predictor, name)))
    return given


def files_of(root):
    return sorted((root / "images" / "jazz").iterdir())


def windows_of(x):
    """What is cut out of a picture to score it."""
    store = PixelStore.of(x[None])
    return [x[..., start : start + SIZE] for start in store.starts(0)]


def by_evaluate(root, files, seen):
    from vision import evaluate

    evaluate.main([str(root / "run"), "--data", str(root / "images"), "--device", "cpu"])
    order = sorted(map(str, (root / "images").rglob("*.*")))
    return [seen[order.index(str(path))] for path in files]


def by_predict(root, files, seen):
    from vision import predict

    assert predict.main([str(root / "run"), *map(str, files), "--device", "cpu"]) == 0
    return seen


def by_library(root, files, seen):
    predictor = Predictor(root / "run", "cpu")
    assert all(predictor.predict(path).genre for path in files)
    return seen


def by_check(root, files, seen):
    """It scores what the model was not trained on, in the order of the folder."""
    from vision import check

    (root / "run" / "split.csv").write_text("split,genre,file\ntrain,blues,blues.00000.png\n")
    check.main([str(root / "images"), "--model", str(root / "run"), "--device", "cpu"])
    order = sorted(map(str, (root / "images").rglob("*.*")))
    order.remove(str(root / "images" / "blues" / "blues.00000.png"))
    return [seen[order.index(str(path))] for path in files]


def by_explain(root, files, seen):
    """Its first call for a track scores the windows of the whole picture."""
    from vision import explain

    for path in files:
        seen.clear()
        flags = ["-o", str(root / "explained"), "--bands-only", "--device", "cpu"]
        assert explain.main([str(root / "run"), str(path), *flags]) == 0
        x = Predictor(root / "run", "cpu").read(path).x
        assert all(torch.equal(a, b) for a, b in zip(seen, windows_of(x), strict=False))
        yield x


def by_serve(root, files, seen):
    from vision.serving.uploads import UploadPredictor

    uploads = UploadPredictor(Predictor(root / "run", "cpu"), max_seconds=1000, jobs=1)
    try:
        for path in files:
            with open(path, "rb") as file:
                [answer] = uploads.predict([(path.name, file)])
            assert "error" not in answer
    finally:
        uploads.stop()
    return seen


def by_watch(root, files, seen):
    from vision.inference import watch

    table = watch.PredictionTable(root / "new.csv", root / "images", ["blues", "jazz"])
    predictions = watch.watch(Predictor(root / "run", "cpu"), root / "images", table, pause=0.01)
    order = [next(predictions).path for _ in range(len(list((root / "images").rglob("*.*"))))]
    (root / "new.csv").unlink()
    return [seen[order.index(path)] for path in files]


def by_exported(root, files, seen):
    pytest.importorskip("onnxruntime", reason="needs the extra export")
    from vision import export

    assert export.main([str(root / "run")]) == 0
    seen.clear()
    predictor = Predictor(root / "run" / "model.onnx")
    assert all(predictor.predict(path).genre for path in files)
    return seen


PATHS = [by_evaluate, by_predict, by_library, by_check, by_explain, by_serve, by_watch, by_exported]


@pytest.mark.slow
@pytest.mark.parametrize("way", PATHS, ids=lambda way: way.__name__)
def test_every_path_gives_the_network_what_training_gave_it(read, seen, way):
    root, trained_on = read
    files = files_of(root)
    for path, x in zip(files, way(root, files, seen), strict=True):
        assert torch.equal(x, trained_on[path.name]), path.name


def test_a_picture_is_read_alike_alone_and_in_any_folder(read, tmp_path):
    root, together = read
    spec = Predictor(root / "run", "cpu").spec
    for path in files_of(root):
        alone = tmp_path / path.stem / "jazz"
        alone.mkdir(parents=True)
        (alone / path.name).symlink_to(path)
        [x] = read_folder(alone.parent, Preprocessor(spec)).x
        assert torch.equal(x, together[path.name])


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.4, 2.3, 40.0])
def test_a_recording_its_picture_and_its_samples_are_one_input(read, tmp_path, seconds):
    from render.__main__ import main as render

    root, _ = read
    predictor = Predictor(root / "run", "cpu")
    rng = np.random.default_rng(1)
    y = (0.2 * rng.standard_normal(round(seconds * SR))).astype(np.float32)
    path = tmp_path / "genres" / "jazz" / "a.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, y, SR, subtype="FLOAT")
    assert render([str(tmp_path / "genres"), "-o", str(tmp_path / "images")]) == 0
    [drawn] = read_folder(tmp_path / "images", predictor.preprocessor).x
    assert torch.equal(predictor.read(path).x, drawn)
    assert torch.equal(predictor.read(y, sr=SR).x, drawn)


def test_a_stream_is_given_what_a_file_of_it_is(read, seen):
    """Up to a window's length; after that, the last window."""
    from vision.inference.stream import predict_stream

    root, _ = read
    predictor = Predictor(root / "run", "cpu")
    y = (0.2 * np.random.default_rng(2).standard_normal(SR)).astype(np.float32)
    assert len(list(predict_stream(predictor, [y[:, None]], SR))) == 1
    expected = predictor.read(y, sr=SR).x
    assert torch.equal(seen[0], expected[..., -SIZE:])


def test_a_picture_from_elsewhere_among_our_short_ones(tmp_path):
    """It spans what --track-seconds says, wherever it is read: 30 s, not the 10 s of the others."""
    n = round(10 * SR / 512)
    for genre in BANDS:
        for number in range(3):
            write_picture(tmp_path / "images" / genre / f"{number}.png", spectrogram_of(genre, number, n))
    in_colormap(levels_of(0, 200), "viridis").save(tmp_path / "images" / "jazz" / "stranger.png")
    spec, tensors = as_training_reads(tmp_path / "images", 10.0)
    assert spec.typical_seconds == pytest.approx(10, abs=0.1)
    assert tensors["stranger.png"].shape[-1] == spec.width(30.0) > 2.9 * SIZE
    alone = Preprocessor(spec).from_file(tmp_path / "images" / "jazz" / "stranger.png").x
    assert torch.equal(alone, tensors["stranger.png"])


def test_a_long_picture_of_a_whole_track_model_is_read_in_pieces_everywhere(tmp_path):
    for number in range(3):
        write_picture(tmp_path / "images" / "jazz" / f"{number}.png", spectrogram_of("jazz", number, 100))
    write_picture(tmp_path / "images" / "jazz" / "long.png", spectrogram_of("jazz", 9, 300))
    _, tensors = as_training_reads(tmp_path / "images", None)
    assert {name: x.shape[-1] for name, x in tensors.items()} == {f"{n}.png": SIZE for n in range(3)} | {
        "long.png": 3 * SIZE
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags", [[], ["--recipe", "classic"], ["--window", "0"]], ids=["standard", "classic", "whole"]
)
def test_predict_and_evaluate_agree(tmp_path, flags):
    """On the same files, to 1e-6, pictures of three lengths and from elsewhere among them."""
    import csv
    import json

    from vision import evaluate, predict, train

    data = tmp_path / "data"
    for split, start in (("train", 0), ("dev", 10), ("test", 20)):
        write_tree(data / split, 4 if split == "train" else 2, start=start)
    for genre in BANDS:
        write_picture(data / "test" / genre / "long.png", spectrogram_of(genre, 30, 300))
        with_margins(levels_of(31)).save(data / "test" / genre / "margins.png")
    small = ["--epochs", "1", "--size", "32", "--threads", "1", "--device", "cpu", "--batch-size", "8"]
    assert train.main(["--data", str(data), "--out", str(tmp_path / "run"), *flags, *small]) == 0
    assert evaluate.main([str(tmp_path / "run"), "--csv", str(tmp_path / "evaluated.csv")]) == 0
    with open(tmp_path / "evaluated.csv", newline="") as file:
        evaluated = {row["file"]: row for row in csv.DictReader(file)}
    predictor = Predictor(tmp_path / "run", "cpu")
    predictions = predictor.predict(sorted((data / "test").rglob("*.png")))
    assert {str(one.path) for one in predictions} == set(evaluated) and len(evaluated) == 12
    pictures = read_folder(data / "test", predictor.preprocessor, classes=predictor.classes)
    scored = dict(zip(pictures.paths, predictor.probabilities(pictures.x), strict=True))
    for one in predictions:
        assert np.abs(one.p - scored[str(one.path)]).max() < 1e-6
        assert all(abs(float(evaluated[str(one.path)][genre]) - p) < 1e-4 for genre, p in one.probabilities.items())
    assert predict.main([str(tmp_path / "run"), str(data / "test"), "--json"]) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["n"] == 12


def ordinary_pictures():
    """Grey levels that use the whole scale, and colours of no colormap, each with a white margin."""
    rng = np.random.default_rng(3)
    for number, mode in itertools.product(range(3), ("L", "RGB")):
        shape = (120, 180) if mode == "L" else (120, 180, 3)
        content = rng.integers(0, 256, shape, np.uint8)
        content.reshape(-1)[:6] = [0, 0, 0, 255, 255, 255]
        content[0, 0], content[-1, -1], content[-1, 0], content[0, -1] = 0, 1, 2, 3
        canvas = Image.new(mode, (240, 160), 255 if mode == "L" else "white")
        canvas.paste(Image.fromarray(content), (30, 20))
        yield number, mode, canvas


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_it_is_torchvisions_compose_on_ordinary_pictures(mode):
    from torchvision.transforms import Compose, PILToTensor, Resize

    from vision import RemoveBorder as Exported

    assert Exported is RemoveBorder
    images = [image for _, of, image in ordinary_pictures() if of == mode]
    remove_border = RemoveBorder.fit(images)
    assert [frame["rights"] for frame in remove_border.frames] == [[210]]
    spec = InputSpec(224, 1 if mode == "L" else 3, frames=remove_border.frames)
    compose = Compose([remove_border, Resize((224, 224)), PILToTensor()])
    for image in images:
        expected, x = compose(image), Preprocessor(spec)(image)
        assert x.shape == expected.shape == (len(x), 224, 224) and x.dtype == expected.dtype == torch.uint8
        # Pillow and torch round a resized pixel each in its own way.
        assert (x.int() - expected.int()).abs().max() <= 1


def test_it_is_the_transform_of_an_image_folder(images):
    spec = replace(learn_input_spec(list_pictures(images), size=SIZE, window=1.0), channels=1)
    folder = SpectrogramFolder(images, transform=Preprocessor(spec))
    from torchvision.datasets import ImageFolder

    assert isinstance(folder, ImageFolder)
    pictures = read_folder(images, Preprocessor(spec))
    for number, (x, label) in enumerate(folder):
        assert torch.equal(x, pictures.x[number]) and label == pictures.y[number]


def test_channels_left_open_are_settled_by_the_first_coloured_picture(tmp_path):
    """Levels read before it are shown in magma, as if they had been read as colours."""
    write_tree(tmp_path, 3, ["blues", "metal"])
    rng = np.random.default_rng(0)
    (tmp_path / "jazz").mkdir()
    Image.fromarray(rng.integers(0, 255, (64, 90, 3), np.uint8)).save(tmp_path / "jazz" / "a.png")
    spec = learn_input_spec(list_pictures(tmp_path), size=SIZE)
    assert spec.channels is None
    opened, decided = (read_folder(tmp_path, Preprocessor(replace(spec, channels=c))) for c in (None, 3))
    assert opened.x.channels == 3
    assert all(torch.equal(opened.x[number], decided.x[number]) for number in range(7))
    assert any("colours of no known colormap: taken as colours" in note for note in opened.notes)


def opened_per_file(monkeypatch):
    """Count how often each file is opened as a picture, by its inode."""
    import os
    from collections import Counter

    counts, real = Counter(), Image.open

    def count(path, *args, **how):
        counts[os.stat(path).st_ino] += 1
        return real(path, *args, **how)

    monkeypatch.setattr(Image, "open", count)
    return counts


@pytest.mark.parametrize("how", ["split by hand", "without arguments"])
def test_a_picture_is_opened_at_most_twice_before_the_first_epoch(tmp_path, monkeypatch, how):
    from vision import train

    monkeypatch.chdir(tmp_path)
    if how == "split by hand":
        for split, start in (("train", 0), ("dev", 10), ("test", 20)):
            write_tree(tmp_path / "data" / split, 4 if split == "train" else 2, start=start)
    else:
        write_tree(tmp_path / "images_original", 12)
    pictures = [path for path in tmp_path.rglob("*.png") if "test" not in path.parts]
    counts = opened_per_file(monkeypatch)
    small = ["--epochs", "1", "--size", "32", "--threads", "1", "--device", "cpu", "--batch-size", "8", "--no-texture"]
    assert train.main(small) == 0
    assert {counts[path.stat().st_ino] for path in pictures} <= {1, 2}


@needs_data
def test_a_model_of_whole_gtzan_tracks_sees_them_as_before():
    """Pictures of the other program are read to the same bytes as when these sums were noted."""
    import hashlib

    paths = sorted((DATA / "gtzan_images" / "blues").glob("*.png"))[:3]
    spec = InputSpec(128, 1, window=10.0)
    digest = hashlib.sha256()
    for path in paths:
        digest.update(Preprocessor(spec).from_file(path).x.numpy().tobytes())
    assert digest.hexdigest() == "79343ec0442c88e145f4b1759af7289c12465742381e1fcdd269a4011211d28a"


def test_what_is_wrong_with_a_recording_is_among_the_notes(tmp_path):
    path = tmp_path / "a.ogg"
    soundfile.write(path, np.random.default_rng(0).standard_normal(22050 * 3) / 10, 22050)
    preprocessor = Preprocessor(InputSpec())
    assert preprocessor.from_file(path).notes == []
    path.write_bytes(path.read_bytes()[:-5000])
    (note,) = preprocessor.from_file(path).notes
    assert "cut off" in note
