"""Real recordings, where there are some: our values are librosa's for every setting."""

import librosa
import numpy as np
import pytest

from render.batch import compute
from render.settings import Settings
from tests.conftest import DATA, needs_data

SETTINGS = [
    Settings(),
    Settings(sr=16000, n_fft=1024, hop_length=256, n_mels=64),
    Settings(sr=44100, n_mels=256),
    Settings(win_length=1024, window="hamming", htk=True),
    Settings(fmin=50.0, fmax=8000.0, power=1.0, top_db=40.0),
    Settings(offset=7.5, duration=10.0),
    Settings(ref=100.0),
]


@needs_data
@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
@pytest.mark.parametrize("track", ["classical/classical.00002", "metal/metal.00001"])
def test_real_tracks_are_as_librosa_draws_them(track, settings):
    path = DATA / "gtzan_audio" / f"{track}.wav"
    S_db, silent = compute(path, settings)
    y, sr = librosa.load(path, sr=settings.sr, offset=settings.offset, duration=settings.duration)
    S = librosa.feature.melspectrogram(
        y=y, sr=sr, n_fft=settings.n_fft, hop_length=settings.hop_length, win_length=settings.win_length,
        window=settings.window, power=settings.power, n_mels=settings.n_mels, fmin=settings.fmin,
        fmax=settings.fmax, htk=settings.htk,
    )  # fmt: skip
    if settings.ref == "max":
        expected = librosa.power_to_db(S, ref=np.max, top_db=settings.top_db)
    else:
        expected = librosa.power_to_db(S, ref=settings.ref, top_db=None).clip(-settings.top_db, 0)
    assert not silent
    np.testing.assert_allclose(S_db, expected, rtol=0, atol=0.01)
