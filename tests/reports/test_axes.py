"""Ticks of a page's spectrograms: against the Mel scale of librosa, and inside of the axis."""

import librosa
import numpy as np
import pytest

from render.settings import Settings
from vision.reports.axes import frequency_ticks, second_ticks


@pytest.mark.parametrize(
    "settings", [Settings(), Settings(sr=16000, n_mels=96), Settings(fmin=300, fmax=5000, htk=True)]
)
def test_a_frequency_stands_where_its_band_is(settings):
    fmax = settings.fmax or settings.sr / 2
    centres = librosa.mel_frequencies(settings.n_mels + 2, fmin=settings.fmin, fmax=fmax, htk=settings.htk)[1:-1]
    ticks = frequency_ticks(settings)
    assert len(ticks) >= 2
    for share, label in ticks:
        hz = float(label.split()[0]) * (1000 if "kHz" in label else 1)
        nearest = np.abs(centres - hz).argmin()
        assert abs(share * settings.n_mels - (nearest + 0.5)) <= 0.75
        assert settings.fmin <= hz <= fmax


def test_of_an_unknown_axis_only_the_ends_are_named():
    assert [label for _, label in frequency_ticks(None)] == ["low", "high"]


@pytest.mark.parametrize("seconds", [0.3, 3, 7.5, 29.9, 30, 61, 600, 7200])
def test_times_are_round_and_apart(seconds):
    shares = [share for share, _ in second_ticks(seconds)]
    assert 2 <= len(shares) <= 7 and shares[-1] == 1 and shares[0] == 0
    assert np.diff(shares).min() > 0.05
    assert [float(label) for _, label in second_ticks(seconds, 10.0)[:-1]] == pytest.approx(
        [10 + share * seconds for share in shares[:-1]]
    )
