"""`render.spectrogram` gives librosa's values, however the signal is cut, and refuses what has none."""

import math
import warnings

import hypothesis
import librosa
import numpy as np
import pytest
from hypothesis import strategies as st

from render import spectrogram
from render.errors import AudioError
from render.settings import WINDOWS, Settings
from render.spectrogram import mel_filters, mel_power, mel_spectrogram, power_to_db

SR = 22050


def tone(t, rng):
    return 0.5 * np.sin(2 * np.pi * 440 * t)


def loud_tones(t, rng):
    return 1.5 * np.sin(2 * np.pi * 110 * t) + np.sin(2 * np.pi * 6000 * t)


def chirp(t, rng):
    return 0.8 * np.sin(2 * np.pi * (50 * t + 10000 / (2 * t[-1]) * t**2))


def white_noise(t, rng):
    return 0.3 * rng.standard_normal(len(t))


def quiet_noise(t, rng):
    return 1e-3 * rng.standard_normal(len(t))


def clicks(t, rng):
    y = np.zeros(len(t))
    y[rng.integers(0, len(t), 20)] = rng.uniform(-1, 1, 20)
    return y


def half_silent(t, rng):
    return np.where(t < t[-1] / 2, 0.3 * rng.standard_normal(len(t)), 0)


def music(t, rng):
    """A decaying harmonic note every 250 ms over a drum of noise every 500 ms."""
    since = t % 0.25
    root = 110 * 2 ** (rng.integers(0, 24, 1 + int(t[-1] / 0.25))[(t / 0.25).astype(int)] / 12)
    notes = sum(np.sin(2 * np.pi * k * root * since) * np.exp(-4 * k * since) / k for k in range(1, 9))
    drums = rng.standard_normal(len(t)) * np.exp(-30 * (t % 0.5))
    return 0.3 * notes + 0.4 * drums


SIGNALS = [tone, loud_tones, chirp, white_noise, quiet_noise, clicks, half_silent, music]

SETTINGS = [
    Settings(),
    Settings(hop_length=256),
    Settings(hop_length=2048),
    Settings(n_fft=1023, hop_length=200, n_mels=64),
    Settings(n_mels=40),
    Settings(n_mels=500, n_fft=512),
    Settings(fmin=300.0, fmax=8000.0),
    Settings(top_db=40.0),
    Settings(sr=16000, n_fft=400, hop_length=160, n_mels=80),
    Settings(win_length=1200),
    Settings(n_fft=1024, win_length=601, hop_length=300, htk=True),
    Settings(htk=True, fmin=50.0),
    Settings(power=1.0),
    Settings(power=1.5, n_mels=64),
    Settings(ref=1.0),
    Settings(ref=3e4, top_db=60.0),
    *(Settings(window=name, n_fft=1024) for name in WINDOWS),
]


def make_signal(kind, n_samples, sr=SR):
    return kind(np.arange(n_samples) / sr, np.random.default_rng(7)).astype(np.float32)


def librosa_mel(y, s):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Empty filters")
        return librosa.feature.melspectrogram(
            y=y, sr=s.sr, n_fft=s.n_fft, hop_length=s.hop_length, n_mels=s.n_mels, fmin=s.fmin, fmax=s.fmax,
            win_length=s.win_length, window=s.window, htk=s.htk, power=s.power,
        )  # fmt: skip


def librosa_db(y, s):
    if s.ref == "max":
        return librosa.power_to_db(librosa_mel(y, s), ref=np.max, top_db=s.top_db)
    # With a fixed reference librosa's top_db would still count from the track's own peak.
    return librosa.power_to_db(librosa_mel(y, s), ref=s.ref, top_db=None).clip(-s.top_db, 0)


def as_id(value):
    if not isinstance(value, Settings):
        return None
    changed = [f"{k}{v}" for k, v in value.to_dict().items() if v != getattr(Settings(), k)]
    return "-".join(changed) or "default"


@pytest.mark.filterwarnings("ignore:Empty filters")
@pytest.mark.parametrize(
    "values",
    [
        {"sr": 22050, "n_fft": 2048, "n_mels": 128},
        {"sr": 44100, "n_fft": 4096, "n_mels": 256},
        {"sr": 16000, "n_fft": 401, "n_mels": 40},
        {"sr": 8000, "n_fft": 256, "n_mels": 1},
        {"sr": 22050, "n_fft": 2048, "n_mels": 96, "fmin": 20.0, "fmax": 8000.0},
        {"sr": 22050, "n_fft": 2048, "n_mels": 32, "fmin": 1000.0},
        {"sr": 22050, "n_fft": 2048, "n_mels": 20, "fmin": 2000.0, "fmax": 4000.0},
        {"sr": 22050, "n_fft": 2048, "n_mels": 20, "fmax": 900.0},
        {"sr": 22050, "n_fft": 16, "n_mels": 128},
        {"sr": 22050, "n_fft": 2048, "n_mels": 128, "htk": True},
        {"sr": 16000, "n_fft": 512, "n_mels": 40, "htk": True, "fmin": 80.0, "fmax": 7600.0},
    ],
    ids=lambda values: "-".join(f"{k}{v:g}" for k, v in values.items()),
)
def test_mel_filters_are_librosas(values):
    expected = librosa.filters.mel(**values)
    weights = mel_filters(**values)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-6 * expected.max())


@pytest.mark.parametrize("settings", SETTINGS, ids=as_id)
@pytest.mark.parametrize("kind", SIGNALS, ids=lambda kind: kind.__name__)
def test_mel_spectrogram_is_librosas(kind, settings):
    y = make_signal(kind, 40000, settings.sr)
    S_db = mel_spectrogram(y, settings)
    expected = librosa_db(y, settings)
    assert S_db.dtype == np.float32
    assert S_db.shape == expected.shape
    if settings.ref == "max":
        assert S_db.max() == pytest.approx(0, abs=1e-4)
    assert -settings.top_db <= S_db.min() <= S_db.max() <= 0
    # Further below the peak than this both are rounding errors of a float32 transform.
    peak = 0 if settings.ref == "max" else 10 * np.log10(librosa_mel(y, settings).max() / settings.ref)
    sound = expected >= max(peak - 100 * settings.power / 2, -80)
    assert sound.mean() > 0.01
    np.testing.assert_allclose(S_db[sound], expected[sound], rtol=0, atol=0.01)
    assert S_db[~sound].max(initial=-300) <= expected[sound].max()


@pytest.mark.parametrize("n_fft", [512, 513])
@pytest.mark.parametrize("extra", [0, 1, 127, 128, 129, 255, 256, 1000, 33000])
def test_frames_at_every_length_are_librosas(n_fft, extra):
    settings = Settings(n_fft=n_fft, hop_length=128, n_mels=32)
    y = make_signal(white_noise, n_fft + extra)
    expected = librosa_db(y, settings)
    S_db = mel_spectrogram(y, settings)
    assert S_db.shape == expected.shape
    np.testing.assert_allclose(S_db, expected, rtol=0, atol=0.01)


@hypothesis.settings(max_examples=40)
@hypothesis.given(
    n_samples=st.integers(257, 20000),
    cuts=st.lists(st.integers(0, 20000), max_size=30),
    window=st.sampled_from([(256, 64), (256, 256), (255, 100), (33, 7)]),
)
def test_cutting_the_signal_changes_nothing(n_samples, cuts, window):
    settings = Settings(n_fft=window[0], hop_length=window[1], n_mels=8)
    y = make_signal(white_noise, n_samples)
    whole, _ = mel_power([y], settings)
    S, counted = mel_power(np.split(y, sorted(min(cut, n_samples) for cut in cuts)), settings)
    assert counted == n_samples
    assert S.shape == whole.shape
    np.testing.assert_allclose(power_to_db(S), power_to_db(whole), rtol=0, atol=1e-3)


def test_one_sample_at_a_time():
    settings = Settings(n_fft=64, hop_length=16, n_mels=4)
    y = make_signal(music, 500)
    S, _ = mel_power(np.split(y, len(y)), settings)
    np.testing.assert_allclose(power_to_db(S), mel_spectrogram(y, settings), rtol=0, atol=1e-3)


@pytest.mark.parametrize("level", [0, 1e-9])
@pytest.mark.parametrize("top_db", [80.0, 35.0])
def test_silence_has_no_peak_and_is_all_lowest(level, top_db):
    y = np.full(4000, level, np.float32)
    assert (mel_spectrogram(y, Settings(top_db=top_db)) == -top_db).all()


@pytest.mark.parametrize("n_samples, message", [(0, "no samples"), (1, "shorter than"), (2047, "shorter than")])
def test_too_short_is_refused(n_samples, message):
    with pytest.raises(ValueError, match=message):
        mel_spectrogram(np.zeros(n_samples, np.float32))


def test_no_pieces_at_all_is_refused():
    with pytest.raises(ValueError, match="no samples"):
        mel_power([], Settings())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_placed_in_seconds(bad):
    y = make_signal(tone, 2 * SR)
    y[SR + SR // 2 :] = bad
    with pytest.raises(ValueError, match=r"NaN or infinity, first at 1\.500 s"):
        mel_power(np.array_split(y, 7), Settings())


def test_too_long_is_refused_before_it_takes_memory(monkeypatch):
    monkeypatch.setattr(spectrogram, "MAX_PIXELS", 128 * 100)

    def endless():
        for _ in range(1000):
            yield np.zeros(10 * 512, np.float32)
        pytest.fail("read on after the limit")

    with pytest.raises(AudioError, match="longer than .* duration"):
        mel_power(endless(), Settings())


@pytest.mark.parametrize("largest", [1e19, 1e37, 3.4e38])
def test_values_too_large_are_refused_without_a_warning(largest):
    y = np.full(4000, largest, np.float32) * np.resize([1, -0.5, 0.25], 4000).astype(np.float32)
    with warnings.catch_warnings(), pytest.raises(AudioError, match="too large for sound"):
        warnings.simplefilter("error")
        power_to_db(mel_power([y], Settings())[0])
