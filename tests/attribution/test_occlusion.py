"""Explanations point at what was planted, and their program survives what it is given."""

import csv
import importlib.util
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from PIL import Image

import vision.attribution.grad_cam as grad_cam_module
from render import figure
from render.settings import Settings
from tests.conftest import BANDS, spectrogram_of, write_picture
from vision import explain, split, train
from vision.attribution.grad_cam import feature_layer, grad_cam
from vision.attribution.occlusion import DRAWS, EFFORT, baseline, evidence, occlude, occlusion, saliency
from vision.attribution.plots import frequencies, summarise, track_path
from vision.data import pixel_store
from vision.data.pixel_store import PixelStore, to_pixels
from vision.inference.predictor import Predictor
from vision.inference.windows import predict_proba
from vision.models.classifier import create_model
from vision.models.cnn import MODELS


@pytest.fixture(scope="module")
def model(trained):
    """The standard recipe's model of three genres, each with a band of its own."""
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


@pytest.fixture(scope="module")
def bursts(tmp_path_factory):
    """A convolutional network of two genres that differ in a burst only; bursts it has not learned from."""
    root = tmp_path_factory.mktemp("bursts")
    for genre in ("tones", "clicks"):
        for number in range(12):
            write_picture(root / "images" / genre / f"{genre}.{number:05}.png", burst_of(genre, number)[0])
    assert split.main([str(root / "images"), "-o", str(root / "data")]) == 0
    flags = ["--model", "vgg", "--no-texture", "--epochs", "10", "--seed", "1", "--batch-size", "8", "--threads", "1"]
    assert train.main(["--data", str(root / "data"), "--out", str(root / "run"), "--device", "cpu", *flags]) == 0
    predictor = Predictor(root / "run", "cpu")
    found = []
    for genre in ("tones", "clicks"):
        for number in range(100, 103):
            S_db, low, start = burst_of(genre, number)
            x = predictor.read(write_picture(root / f"{genre}{number}.png", S_db)).x
            found.append((x, predictor.classes.index(genre), low, start))
    return predictor, found


def read(predictor, path, S_db):
    return predictor.read(write_picture(path, S_db)).x


def rows_of(S_db):
    """The lowest of the 16 planted bands of `spectrogram_of`."""
    return int((S_db.mean(axis=1) > -30).argmax())


@pytest.mark.parametrize("genre", BANDS)
def test_the_band_that_decides_is_the_planted_one(model, tmp_path, genre):
    label = model.classes.index(genre)
    for number in (100, 101, 102):
        S_db = spectrogram_of(genre, number)
        low = rows_of(S_db)
        x = read(model, tmp_path / "x.png", S_db)
        drop = occlusion(model.probabilities, x, label, bands=16, times=1)
        assert drop.shape == (16, 1) and drop.dtype == np.float32
        bits = drop[::-1, 0]  # the lowest first; each is of 8 Mel bands
        peak = int(bits.argmax())
        assert peak * 8 < low + 16 and (peak + 1) * 8 > low
        assert bits[peak] > 0.5
        # Elsewhere there is nothing to lose.
        away = [band for band in range(16) if band * 8 >= low + 24 or (band + 1) * 8 <= low - 8]
        assert np.abs(bits[away]).max() < bits[peak] / 3


@pytest.mark.parametrize("genre", BANDS)
def test_what_it_looked_at_is_the_planted_band(model, tmp_path, genre):
    S_db = spectrogram_of(genre, 200)
    low = rows_of(S_db)
    x = read(model, tmp_path / "x.png", S_db)
    heat = saliency(model, x, model.classes.index(genre))
    assert heat.shape == x.shape[1:] and heat.dtype == np.float32
    assert heat.min() >= 0 and heat.max() == 1
    row = (len(heat) - 0.5 - heat.mean(axis=1).argmax()) * 128 / len(heat)  # in Mel bands
    assert low - 8 <= row <= low + 24


def test_occlusion_finds_a_burst_by_band_and_by_time(bursts):
    predictor, found = bursts
    for x, label, low, start in found:
        drop = occlusion(predictor.probabilities, x, label, bands=8, times=4)[::-1]
        band, time = np.unravel_index(drop.argmax(), drop.shape)
        assert band * 16 < low + 24 and (band + 1) * 16 > low
        assert time * 16 < start + 16 and (time + 1) * 16 > start


def share_inside(heat, low, start):
    """How much of the heat lies in the burst, by how much would lie there of a flat one."""
    n = len(heat)
    inside = heat[::-1][low * n // 128 : (low + 24) * n // 128, start * n // 64 : (start + 16) * n // 64]
    return inside.sum() / heat.sum() / (inside.size / heat.size)


def test_heat_lies_in_the_burst(bursts):
    predictor, found = bursts
    for x, label, low, start in found:
        assert share_inside(saliency(predictor, x, label), low, start) > 2
        assert share_inside(grad_cam(predictor.models, x, label), low, start) > 2


@pytest.mark.parametrize(("first", "then"), [("blues", "jazz"), ("metal", "blues")])
def test_a_long_track_is_explained_where_the_genre_is(model, tmp_path, first, then):
    halves = [spectrogram_of(genre, 300 + number) for number, genre in enumerate((first, first, then, then))]
    x = read(model, tmp_path / "x.png", np.concatenate(halves, axis=1))
    assert x.shape[-1] == 4 * model.spec.size
    half = x.shape[-1] // 2
    for genre, mine, other in ((first, slice(0, half), slice(half, None)), (then, slice(half, None), slice(0, half))):
        label = model.classes.index(genre)
        drop = np.split(occlusion(model.probabilities, x, label, bands=1, times=4)[0], 2)
        # The other genre's half speaks against it.
        assert drop[mine.start > 0].min() > 0.05 > 0 > drop[other.start > 0].max()
        for heat in (saliency(model, x, label), grad_cam(model.models, x, label)):
            assert heat[:, mine].mean() > 3 * heat[:, other].mean()


def test_results_do_not_depend_on_batches(model, tmp_path, monkeypatch):
    x = read(model, tmp_path / "x.png", spectrogram_of("jazz", 1, n_frames=200))
    grid = {"bands": 5, "times": 7}
    drop = occlusion(model.probabilities, x, 1, **grid)
    cam = grad_cam(model.models, x, 1)
    monkeypatch.setattr(pixel_store, "EVAL_BATCH", 3)
    monkeypatch.setattr(grad_cam_module, "GRADIENT_BATCH", 1)
    assert np.allclose(occlusion(model.probabilities, x, 1, **grid), drop, atol=1e-4)
    assert np.allclose(grad_cam(model.models, x, 1), cam, atol=1e-4)


def test_occlusion_is_what_hiding_in_the_whole_track_gives(model, tmp_path):
    # Windows that are not touched are not computed again: the sum must come out the same. Widths with a rest
    # have windows that overlap, and gaps.
    for n_frames in (64, 105, 150):
        x = read(model, tmp_path / "x.png", spectrogram_of("metal", 2, n_frames=n_frames))
        bands, times = 4, 3
        whole, occluded = occlude(model.probabilities, x, bands=bands, times=times)
        assert np.allclose(whole, model.probabilities(PixelStore.of(x[None]))[0], atol=1e-5)
        draws = [baseline(x, seed) for seed in range(DRAWS)]
        columns = np.linspace(0, x.shape[-1], times + 1).round().astype(int)
        for band, time in ((1, 0), (1, 1), (3, 2)):
            hidden = []
            for instead in draws:
                changed = x.clone()
                place = (slice(None), slice(8 * band, 8 * band + 8), slice(columns[time], columns[time + 1]))
                changed[place] = instead[place]
                hidden.append(changed)
            n = len(PixelStore.of(x[None]).starts(0))
            used = min(DRAWS, EFFORT // (bands * max(times, n)))
            expected = model.probabilities(PixelStore.of(torch.stack(hidden[:used]))).mean(axis=0)
            assert np.allclose(occluded[band, time], expected, atol=1e-4)


def test_a_neutral_picture_has_nothing_special(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(150, 10, (1, 64, 200))
    x -= np.arange(64)[:, None]
    plain = torch.from_numpy(x.round().clip(0, 255).astype(np.uint8))
    special = plain.clone()
    special[:, 20:32] = 250
    found = baseline(special)
    assert found.shape == special.shape and found.dtype == torch.uint8
    # The loud band is gone, and the rest is where it was.
    assert (found.float().mean(dim=2) - plain.float().mean(dim=2)).abs().max() < 12
    assert torch.equal(found, baseline(special))
    assert not torch.equal(found, baseline(special, 1))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_track_without_content_has_no_evidence(model, level):
    x = torch.full((1, 32, 40), level, dtype=torch.uint8)
    assert torch.equal(baseline(x), x)
    assert not saliency(model, x, 0).any()
    drop = occlusion(model.probabilities, x, 0, bands=4, times=2)
    assert np.abs(drop).max() < 1e-4


def test_colours_have_maps_too():
    torch.manual_seed(0)
    built = create_model(3, name="cnn3", channels=3, size=32, mean=[0.5] * 3, std=[0.2] * 3, dropout=0.0, texture=0)
    x = torch.randint(0, 256, (3, 32, 80), dtype=torch.uint8)

    def predict(store):
        return predict_proba(built, store).numpy()

    assert occlusion(predict, x, 2, bands=3, times=5).shape == (3, 5)
    assert grad_cam([built], x, 2).shape == (32, 80)


@pytest.mark.parametrize(("bands", "times"), [(0, 1), (1, 0), (33, 1), (1, 41)])
def test_a_grid_finer_than_the_picture_is_refused(model, bands, times):
    x = torch.zeros(1, 32, 40, dtype=torch.uint8)
    with pytest.raises(ValueError, match=f"{bands} bands and {times} times; the picture has 32 rows, 40 columns"):
        occlusion(model.probabilities, x, 0, bands=bands, times=times)


def test_evidence_is_in_bits():
    assert np.allclose(evidence(np.array([0.5, 2 / 3, 1 / 3, 0.8])), [0, 1, -1, 2])
    assert np.isfinite(evidence(np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize("texture", [0, 5])
@pytest.mark.parametrize(
    "name", [*MODELS, "resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "alexnet"]
)
def test_every_model_has_a_map(name, texture):
    torch.manual_seed(0)
    size = 64
    built = create_model(3, name=name, channels=1, size=size, mean=[0.4], std=[0.2], dropout=0.5, texture=texture)
    built.eval()
    layer = feature_layer(built, size)
    shapes = []
    hook = layer.register_forward_hook(lambda _, __, output: shapes.append(output.shape[2:]))
    x = torch.randint(0, 256, (1, size, 150), dtype=torch.uint8)
    heat = grad_cam([built], x, 1)
    hook.remove()
    assert min(shapes[0]) > 1
    assert heat.shape == (size, 150) and heat.dtype == np.float32
    assert heat.min() >= 0 and heat.max() in (0, 1)
    # Nothing of it stays: no hooks, no gradients on the weights.
    assert not any(part._forward_hooks or part._backward_hooks for part in built.modules())
    assert all(weight.grad is None for weight in built.parameters())


def test_grad_cam_is_the_formula_of_the_paper():
    torch.manual_seed(3)
    built = create_model(4, name="vgg", channels=1, size=64, mean=[0.4], std=[0.2], dropout=0.5, texture=5).eval()
    x = torch.randint(0, 256, (1, 64, 64), dtype=torch.uint8)
    maps = built.net.features(built.normalize(to_pixels(x[None], torch.device("cpu")))).detach().requires_grad_()
    pooled = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
    built.net.classifier(pooled)[0, 2].backward()
    expected = (maps.grad.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1, keepdim=True).relu().detach()
    expected = torch.nn.functional.interpolate(expected, size=(64, 64), mode="bilinear")[0, 0].numpy()
    assert expected.max() > 0
    assert np.allclose(grad_cam([built], x, 2), expected / expected.max(), atol=1e-5)


def test_a_transformer_has_no_map():
    built = create_model(3, name="vit_b_32", channels=1, size=224, mean=[0.4], std=[0.2], dropout=0.0, texture=0)
    with pytest.raises(ValueError, match="no convolutional network"):
        feature_layer(built.eval(), 224)


def test_several_models_count_alike(model, tmp_path):
    x = read(model, tmp_path / "x.png", spectrogram_of("blues", 5))
    once = grad_cam(model.models, x, 0)
    assert np.allclose(grad_cam(model.models * 2, x, 0), once, atol=1e-5)


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


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def shown(path):
    pixels = matplotlib.image.imread(path)
    assert pixels.ndim == 3 and pixels.std() > 0.05
    return pixels


def test_a_folder_of_genres(trained, tmp_path, capsys):
    out = tmp_path / "out"
    assert explain.main([str(trained / "run"), str(trained / "data" / "dev"), "-o", str(out)]) == 0
    told = capsys.readouterr().out
    for genre, place in BANDS.items():
        pictures = sorted((out / genre).glob("*.explained.png"))
        assert len(pictures) == 1
        shown(pictures[0])
        assert str(pictures[0]) in told and f"{genre} 0.9" in told
        mine = [row for row in rows(out / "bands.csv") if row["genre"] == genre]
        assert [int(row["band"]) for row in mine] == list(range(1, 17))
        top = max(mine, key=lambda row: float(row["mean_bits"]))
        low, high = (figure.frequency_at(band, Settings()) for band in (place * 16 - 0.5, place * 16 + 23.5))
        assert float(top["low_hz"]) < high and float(top["high_hz"]) > low
    shown(out / "bands.png")


def test_means_and_intervals_over_tracks(trained, tmp_path):
    out = tmp_path / "out"
    assert explain.main([str(trained / "run"), str(trained / "data" / "train"), "-o", str(out), "--bands-only"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["bands.csv", "bands.png"]
    for row in rows(out / "bands.csv"):
        assert row["tracks"] == "10"
        assert float(row["low_bits"]) <= float(row["mean_bits"]) <= float(row["high_bits"])
    one = summarise([np.arange(3.0)])
    assert one["n"] == 1 and np.isnan(one["low"]).all()
    two = summarise([np.zeros(2), np.ones(2)])
    assert np.allclose(two["high"] - two["mean"], 12.706 * 0.5, atol=1e-2)  # Student's t of one degree of freedom


def test_another_genre_than_the_predicted(trained, tmp_path, capsys):
    path = next((trained / "data" / "dev" / "blues").iterdir())
    assert explain.main([str(trained / "run"), str(path), "-o", str(tmp_path), "--genre", "metal"]) == 0
    assert "; metal 0.0" in capsys.readouterr().out
    assert not (tmp_path / "bands.png").exists()  # one track is no folder
    assert explain.main([str(trained / "run"), str(path), "--genre", "polka"]) == 2
    assert "the model knows blues, jazz, metal" in capsys.readouterr().err


def test_a_bad_file_costs_itself_only(trained, tmp_path, capsys):
    bad = tmp_path / "in" / "bad\n.png"
    write_picture(tmp_path / "in" / "good.png", spectrogram_of("jazz", 1))
    bad.write_bytes(b"no picture")
    assert explain.main([str(trained / "run"), str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 1
    told = capsys.readouterr()
    assert "failed: " in told.err and "bad\\n.png: cannot be read" in told.err
    assert "jazz 0.9" in told.out and (tmp_path / "out" / "good.explained.png").exists()
    assert explain.main([str(trained / "run"), str(tmp_path / "nothing")]) == 2


def test_pictures_of_other_programs_name_no_frequencies(trained, tmp_path, capsys):
    for number, genre in enumerate(BANDS):
        levels = ((spectrogram_of(genre, number)[::-1] + 80) / 80 * 255).astype(np.uint8)
        Image.fromarray(levels, "L").save(tmp_path / f"{number}.png")
    files = [str(tmp_path / f"{number}.png") for number in range(3)]
    out = tmp_path / "out"
    assert explain.main([str(trained / "run"), *files, "-o", str(out), "--bands-only"]) == 0
    assert {row["low_hz"] for row in rows(out / "bands.csv")} == {""}
    assert explain.main([str(trained / "run"), *files[:2], "-o", str(out), "--fmin", "20", "--fmax", "8000"]) == 0
    assert 8000 > max(float(row["high_hz"]) for row in rows(out / "bands.csv")) > 7000
    assert " Hz" in capsys.readouterr().out
    for wrong in (["--fmax", "nan"], ["--fmax", "-5"], ["--fmin", "20"], ["--fmin", "900", "--fmax", "800"]):
        assert explain.main([str(trained / "run"), *files, *wrong]) == 2


def test_names_of_all_kinds(trained, tmp_path):
    name = "$x^{$<b>\u8caa line\nbreak.png"
    for folder in (tmp_path / "in", tmp_path / "in" / "deep"):
        write_picture(folder / name, spectrogram_of("metal", 3))
    assert explain.main([str(trained / "run"), str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("*.explained.png"))) == 2


def test_each_track_gets_a_name_of_its_own(tmp_path):
    taken = set()
    paths = [Path("a/x.png"), Path("a/x.wav"), Path("b/x.png"), Path("c/x.png"), Path("a/x.y.png")]
    found = [track_path(tmp_path, path, taken) for path in paths]
    names = ("x", "x.wav", "x.png", "x.png-2", "x.y")
    assert [path.name for path in found] == [f"{name}.explained.png" for name in names]


def test_audio_is_explained(trained, tmp_path, capsys):
    import soundfile

    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "song.wav", rng.normal(0, 0.1, 6 * 22050), 22050)
    soundfile.write(tmp_path / "short.wav", rng.normal(0, 0.1, 22050 // 2), 22050)
    files = [str(tmp_path / "song.wav"), str(tmp_path / "short.wav")]
    assert explain.main([str(trained / "run"), *files, "-o", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert "short.wav: is 0.5 s long; the model hears it repeated" in told.err and "song.wav" not in told.err
    assert "song.wav" in told.out
    shown(tmp_path / "song.explained.png")


def test_a_model_without_layers_is_explained_by_occlusion(model, tmp_path):
    # As of an exported file: all that is known are answers.
    x = read(model, tmp_path / "x.png", spectrogram_of("jazz", 9))

    class Answers:
        probabilities = model.probabilities

    assert np.array_equal(saliency(Answers, x, 1), saliency(model, x, 1))


def test_without_captum_all_but_grad_cam_is_there(trained, tmp_path, capsys, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "captum" else real(name))
    track = trained / "images" / "jazz" / "jazz.00000.png"
    assert explain.main([str(trained / "run"), str(track), "-o", str(tmp_path)]) == 0
    assert 'no Grad-CAM: it needs captum: pip install -e ".[explain]"' in capsys.readouterr().err
    assert (tmp_path / "jazz" / "jazz.00000.explained.png").exists()
