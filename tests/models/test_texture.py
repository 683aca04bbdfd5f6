"""Texture statistics: each filter answers to its own ripple, and all of it in float32."""

import math

import numpy as np
import pytest
import scipy.fft
import torch

from vision.models.texture import (
    BANDS,
    COEFFICIENTS,
    DECIBELS,
    NARROWEST,
    POOLED,
    QUALITY,
    RATES,
    SCALES,
    Texture,
    _averages,
    gabor,
)

SIDE = 64


@pytest.fixture(scope="module")
def statistics():
    """The statistics of pictures (B, H, W), `SIDE` high and wide."""
    found = Texture(SIDE, SIDE)
    return lambda *pictures: found(torch.stack([torch.as_tensor(x) for x in pictures])[:, None].float())


def noise(*shape):
    return np.random.default_rng(0).uniform(0.2, 0.8, shape).astype(np.float32)


def ripple(scale, rate, side=SIDE):
    """A cosine over frequency and time; with both above zero its crests climb, row 0 being the highest."""
    rows, columns = np.mgrid[:side, :side]
    return 0.5 + 0.2 * np.cos(2 * np.pi * (scale * rows + rate * columns))


def answers(row):
    """The filters' mean magnitudes in decibels, over all bands: {(scale, rate, direction): value}."""
    found, at = {}, 3 * BANDS + COEFFICIENTS * (COEFFICIENTS + 1) // 2 + COEFFICIENTS
    for scale in SCALES:
        for direction in (0, 1) if scale else (0,):
            rates = RATES if scale and not direction else RATES[1:]
            means = row[at : at + POOLED * len(rates)].view(POOLED, len(rates)).exp().mean(dim=0)
            found |= {(scale, rate, direction): float(value) for rate, value in zip(rates, means, strict=True)}
            at += 2 * POOLED * len(rates)  # their deviations follow
    assert at == len(row)
    return found


@pytest.mark.parametrize("length", [32, 64, 128, 224])
@pytest.mark.parametrize("centre", sorted({*RATES, *SCALES}))
def test_a_filter_answers_to_its_frequency_and_not_to_far_ones(length, centre):
    """A cosine is two waves, of which the filter lets through one: half."""
    matrix = gabor(length, centre, 1 / 64)
    deviation = max(centre / QUALITY, 1 / 64)

    def gain(frequency):
        wave = torch.cos(2 * math.pi * frequency * (torch.arange(length) - length / 2))
        return float((matrix @ wave.to(torch.complex64)).abs()[len(matrix) // 2])

    assert matrix.dtype == torch.complex64
    assert gain(0) == pytest.approx(math.exp(-0.5 * (centre / deviation) ** 2), abs=0.02)
    reach = 2.5 / (2 * math.pi * deviation)
    if 0 < centre <= 0.25 and length / 2 > reach:  # of 0.4, and of none, the second wave is not far enough
        assert gain(centre) == pytest.approx(0.5, abs=0.02)
        assert gain(centre + deviation) == pytest.approx(0.5 * math.exp(-0.5), abs=0.03)
        assert gain(min(0.5, centre + 4 * deviation)) < 0.1
    if centre == 0 and length / 2 > reach:
        assert gain(4 * deviation) < 0.02


@pytest.mark.parametrize("length", [32, 64, 101])
@pytest.mark.parametrize("centre", RATES)
def test_filters_mirror_the_picture_at_its_ends_and_are_evenly_placed(length, centre):
    deviation = max(centre / QUALITY, NARROWEST[1])
    spread = 1 / (2 * math.pi * deviation)
    reach = math.ceil(2.5 * spread)
    offsets = np.arange(-reach, reach + 1)
    window = np.exp(-0.5 * (offsets / spread) ** 2)
    wave = window / window.sum() * np.exp(2j * np.pi * centre * offsets)
    signal = noise(length)
    everywhere = np.correlate(np.pad(signal.astype(complex), reach, "reflect"), wave.conj(), "valid")
    found = (gabor(length, centre, NARROWEST[1]) @ torch.from_numpy(signal).to(torch.complex64)).numpy()
    places = np.abs(found[:, None] - everywhere).argmin(axis=1)
    assert np.abs(found - everywhere[places]).max() < 1e-5
    steps = set(np.diff(places).tolist())
    assert len(steps) <= 1
    assert not steps or steps.pop() <= max(1, spread * 2), "no ripple is missed between two places"
    assert 0 <= length - 1 - places[-1] - places[0] <= 1, "as far from one end as from the other"


@pytest.mark.parametrize("rate", [1 / 16, 1 / 8, 1 / 4])
def test_a_ripple_along_time_lights_its_rate(statistics, rate):
    found = answers(statistics(ripple(0, rate))[0])
    assert max(found, key=found.get) == (0.0, rate, 0)
    assert found[0.0, rate, 0] == pytest.approx(0.2 * DECIBELS / 2, rel=0.1), "half its height in decibels"


@pytest.mark.parametrize("scale", SCALES[1:])
def test_a_ripple_along_frequency_lights_its_scale(statistics, scale):
    """Rate 0 is narrow, the other rates are far off."""
    found = answers(statistics(ripple(scale, 0))[0])
    assert max(found, key=found.get) == (scale, 0.0, 0)
    assert found[scale, 0.0, 0] > 2 * max(value for (_, rate, _), value in found.items() if rate > 0)


@pytest.mark.parametrize("scale", SCALES[1:])
@pytest.mark.parametrize("rate", [1 / 16, 1 / 8, 1 / 4])
def test_rising_and_falling_ripples_are_told_apart(statistics, scale, rate):
    rising, falling = (answers(row) for row in statistics(ripple(scale, rate), ripple(scale, -rate)))
    one = max(rising, key=rising.get)
    other = max(falling, key=falling.get)
    assert {one, other} == {(scale, rate, 0), (scale, rate, 1)}
    assert rising[one] > 3 * rising[other] and falling[other] > 3 * falling[one]
    assert one[2] == 0, "the same one at every scale and rate"


def test_a_mirrored_picture_has_rising_and_falling_exchanged(statistics):
    x = 0.6 * ripple(1 / 8, 1 / 8) + 0.4 * ripple(1 / 16, -1 / 4) + 0.2 * (noise(SIDE, SIDE) - 0.5)
    plain, backwards, upside_down = (answers(row) for row in statistics(x, x[:, ::-1].copy(), x[::-1].copy()))
    for mirrored in (backwards, upside_down):
        for (scale, rate, direction), value in plain.items():
            other = 1 - direction if scale and rate else 0
            assert mirrored[scale, rate, other] == pytest.approx(value, rel=0.1, abs=0.05)
    assert plain[1 / 8, 1 / 8, 0] != pytest.approx(plain[1 / 8, 1 / 8, 1], rel=1)


def test_answers_are_found_in_the_band_of_the_ripple(statistics):
    """Half a picture ripples: so do half of the bands."""
    x = ripple(0, 1 / 8)
    x[SIDE // 2 :] = 0.5
    at = 3 * BANDS + COEFFICIENTS * (COEFFICIENTS + 1) // 2 + COEFFICIENTS
    bands = statistics(x)[0][at : at + POOLED * 5].view(POOLED, 5)[:, RATES.index(1 / 8) - 1].exp()
    assert bands[:6].min() > 5 and bands[-4:].max() < 0.5


@pytest.mark.parametrize("side", [32, 64, 128, 224])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_and_channels(side, channels):
    module = Texture(side, side)
    x = torch.from_numpy(noise(2, channels, side, side))
    found = module(x)
    assert found.shape == (2, module.n_statistics)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert torch.allclose(found, module(x.mean(dim=1, keepdim=True)), atol=1e-3), "channels count the same"
    assert torch.allclose(found[1], module(x[1:])[0], atol=1e-3), "whatever else is in the batch"
    assert not list(module.parameters()) and not module.state_dict(), "nothing to learn or to store"
    assert {buffer.dtype for name, buffer in module.named_buffers() if name != "upper"} == {torch.float32}


@pytest.mark.parametrize("level", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("side", [32, 128])
def test_silent_and_constant_pictures(side, level):
    found = Texture(side, side)(torch.full((1, 1, side, side), level))[0]
    assert found.isfinite().all()
    assert found[:BANDS].tolist() == pytest.approx([level * DECIBELS] * BANDS, rel=1e-5)
    assert found[BANDS:].max() < 10 and max(answers(found).values()) < 0.05, "nothing moves"


@pytest.mark.parametrize("scale", SCALES[1:])
def test_a_steady_sound_does_not_deviate(statistics, scale):
    """Float32 must not leave rounding where nothing changes: it would differ from machine to machine."""
    row, at = statistics(ripple(scale, 0))[0], 3 * BANDS + COEFFICIENTS * (COEFFICIENTS + 1) // 2 + COEFFICIENTS
    for n_rates in (len(RATES) - 1, *(len(RATES), len(RATES) - 1) * (len(SCALES) - 1)):
        deviations = row[at + POOLED * n_rates : at + 2 * POOLED * n_rates]
        assert torch.allclose(deviations, torch.tensor(1e-2 + 1e-4).log(), atol=2e-3)
        at += 2 * POOLED * n_rates
    assert at == len(row)


def test_float32_also_where_the_network_computes_in_bf16():
    module, x = Texture(SIDE, SIDE), torch.from_numpy(noise(2, 1, SIDE, SIDE))
    plain = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x[0, 0] @ x[0, 0]).dtype == torch.bfloat16
        found = module(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, plain)
    assert torch.allclose(module(x.bfloat16()), plain, atol=0.5), "and of pixels in bf16"


def test_levels_of_the_bands(statistics):
    x = noise(SIDE, SIDE)
    bands = x.reshape(BANDS, 2, SIDE).mean(axis=1) * DECIBELS
    expected = [bands.mean(axis=1), bands.std(axis=1), np.abs(np.diff(bands, axis=1)).mean(axis=1)]
    assert np.allclose(statistics(x)[0][: 3 * BANDS], np.concatenate(expected), atol=1e-3)


def test_covariances_of_the_dct_are_scipys(statistics):
    x = noise(SIDE, SIDE)
    coefficients = scipy.fft.dct(x.astype(np.float64) * DECIBELS, axis=0, norm="ortho")[:COEFFICIENTS]
    covariance = np.cov(coefficients, bias=True)[np.triu_indices(COEFFICIENTS)]
    expected = np.sign(covariance) * np.log1p(np.abs(covariance))
    found = statistics(x)[0][3 * BANDS :].numpy()
    assert np.allclose(found[: len(expected)], expected, atol=2e-3)
    steps = np.log(np.diff(coefficients, axis=1).std(axis=1) + 0.01)
    assert np.allclose(found[len(expected) : len(expected) + COEFFICIENTS], steps, atol=1e-3)


def test_averages_share_places_at_borders():
    assert _averages(5, 2)[0].tolist() == pytest.approx([0.4, 0.4, 0.2, 0, 0])
    assert _averages(5, 2)[1].tolist() == pytest.approx([0, 0, 0.2, 0.4, 0.4])
    assert _averages(2, 4).tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    for n in (7, 32, 33):
        assert torch.allclose(_averages(n, BANDS).sum(dim=1), torch.ones(BANDS))
