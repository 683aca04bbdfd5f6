"""Occlusion points at the bands and times that were planted."""

import numpy as np
import pytest
import torch

import vision.attribution.grad_cam as grad_cam_module
from tests.conftest import BANDS, spectrogram_of, write_picture
from vision.attribution.grad_cam import grad_cam
from vision.attribution.occlusion import (
    DRAW_BUDGET,
    LONGEST,
    MAX_DRAWS,
    baseline,
    evidence,
    occlude,
    occlusion,
    saliency,
)
from vision.data import pixel_store
from vision.data.pixel_store import PixelStore
from vision.inference.windows import predict_proba
from vision.models.classifier import create_model


def read(predictor, path, S_db):
    return predictor.read(write_picture(path, S_db)).x


def rows_of(S_db):
    """The lowest of the 16 planted bands of `spectrogram_of`."""
    return int((S_db.mean(axis=1) > -30).argmax())


@pytest.mark.parametrize("genre", BANDS)
def test_the_band_with_most_evidence_is_the_planted_one(model, tmp_path, genre):
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
def test_saliency_is_highest_in_the_planted_band(model, tmp_path, genre):
    S_db = spectrogram_of(genre, 200)
    low = rows_of(S_db)
    x = read(model, tmp_path / "x.png", S_db)
    heat = saliency(model, x, model.classes.index(genre))
    assert heat.shape == x.shape[1:] and heat.dtype == np.float32
    assert heat.min() >= 0 and heat.max() == 1
    row = (len(heat) - 0.5 - heat.mean(axis=1).argmax()) * 128 / len(heat)  # in Mel bands
    assert low - 8 <= row <= low + 24


@pytest.mark.slow
def test_occlusion_finds_a_burst_by_band_and_by_time(bursts):
    predictor, tracks = bursts
    for x, label, low, start in tracks:
        drop = occlusion(predictor.probabilities, x, label, bands=8, times=4)[::-1]
        band, time = np.unravel_index(drop.argmax(), drop.shape)
        assert band * 16 < low + 24 and (band + 1) * 16 > low
        assert time * 16 < start + 16 and (time + 1) * 16 > start


def share_inside(heat, low, start):
    """Share of the heat that is in the burst, divided by the share of the area that the burst has."""
    n = len(heat)
    inside = heat[::-1][low * n // 128 : (low + 24) * n // 128, start * n // 64 : (start + 16) * n // 64]
    return inside.sum() / heat.sum() / (inside.size / heat.size)


@pytest.mark.slow
def test_heat_lies_in_the_burst(bursts):
    predictor, tracks = bursts
    for x, label, low, start in tracks:
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


def test_windows_that_are_not_occluded_need_not_be_computed_again(model, tmp_path):
    # The sum must be the same. Widths that are no multiple have windows that overlap, and gaps.
    for n_frames in (64, 105, 150):
        x = read(model, tmp_path / "x.png", spectrogram_of("metal", 2, n_frames=n_frames))
        bands, times = 4, 3
        whole, occluded = occlude(model.probabilities, x, bands=bands, times=times)
        assert np.allclose(whole, model.probabilities(PixelStore.of(x[None]))[0], atol=1e-5)
        draws = [baseline(x, seed) for seed in range(MAX_DRAWS)]
        columns = np.linspace(0, x.shape[-1], times + 1).round().astype(int)
        for band, time in ((1, 0), (1, 1), (3, 2)):
            occluded_tracks = []
            for replacement in draws:
                changed = x.clone()
                place = (slice(None), slice(8 * band, 8 * band + 8), slice(columns[time], columns[time + 1]))
                changed[place] = replacement[place]
                occluded_tracks.append(changed)
            n = len(PixelStore.of(x[None]).starts(0))
            used = min(MAX_DRAWS, DRAW_BUDGET // (bands * max(times, n)))
            expected = model.probabilities(PixelStore.of(torch.stack(occluded_tracks[:used]))).mean(axis=0)
            assert np.allclose(occluded[band, time], expected, atol=1e-4)


def test_the_baseline_has_no_special_band_or_time(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(150, 10, (1, 64, 200))
    x -= np.arange(64)[:, None]
    plain = torch.from_numpy(x.round().clip(0, 255).astype(np.uint8))
    special = plain.clone()
    special[:, 20:32] = 250
    result = baseline(special)
    assert result.shape == special.shape and result.dtype == torch.uint8
    # The loud band is removed, and the rest keeps its level.
    assert (result.float().mean(dim=2) - plain.float().mean(dim=2)).abs().max() < 12
    assert torch.equal(result, baseline(special))
    assert not torch.equal(result, baseline(special, 1))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_track_without_content_has_no_evidence(model, level):
    x = torch.full((1, 32, 40), level, dtype=torch.uint8)
    assert torch.equal(baseline(x), x)
    assert not saliency(model, x, 0).any()
    drop = occlusion(model.probabilities, x, 0, bands=4, times=2)
    assert np.abs(drop).max() < 1e-4


def test_pictures_in_colour():
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


def test_a_model_without_layers_is_explained_by_occlusion(model, tmp_path):
    # Such as an exported file: only probabilities are known.
    x = read(model, tmp_path / "x.png", spectrogram_of("jazz", 9))

    class Exported:
        probabilities = model.probabilities

    assert np.array_equal(saliency(Exported, x, 1), saliency(model, x, 1))


def test_a_long_song_is_explained_in_longer_stretches(model, tmp_path, monkeypatch):
    """No single window of many matters to the whole: hidden one at a time, an hour of music would explain nothing."""
    S_db = np.concatenate([spectrogram_of("metal", number, 300) for number in range(60)], axis=1)
    x = model.read(write_picture(tmp_path / "metal.png", S_db)).x
    n = len(PixelStore.of(x[None]).starts(0))
    assert n > 2 * LONGEST
    label = model.classes.index("metal")
    times = []

    def watched(*args, **how):
        times.append(how["times"])
        return occlusion(*args, **how)

    monkeypatch.setattr("vision.attribution.occlusion.occlusion", watched)
    assert saliency(model, x, label).max() == 1
    assert times == [LONGEST]
