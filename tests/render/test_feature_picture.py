"""Pictures of features, and figures for people."""

import json

import librosa
import numpy as np
import pytest
import soundfile

from render import png
from render.__main__ import main
from render.feature_picture import feature_bands, feature_values
from render.settings import Settings
from tests.render.conftest import make_chord
from vision import predict, split, train

SR = 22050


@pytest.mark.parametrize("settings", [Settings(kind="features"), Settings(kind="features", hop_length=300, htk=True)])
def test_features_are_librosas(settings):
    y = make_chord()
    values = feature_values(y, settings)
    frames = {"n_fft": 2048, "hop_length": settings.hop_length}
    S = librosa.feature.melspectrogram(y=y, sr=SR, htk=settings.htk, **frames)
    expected = [
        librosa.feature.mfcc(S=librosa.power_to_db(S, ref=np.max), n_mfcc=20),
        librosa.feature.chroma_stft(y=y, sr=SR, **frames),
        librosa.feature.spectral_contrast(y=y, sr=SR, **frames),
        librosa.feature.spectral_rolloff(y=y, sr=SR, **frames),
        librosa.feature.zero_crossing_rate(y, frame_length=2048, hop_length=settings.hop_length),
    ]
    np.testing.assert_allclose(values, np.concatenate(expected), atol=0.01, rtol=1e-4)
    assert sum(band["rows"] for band in feature_bands(settings)) == len(values)


def test_a_features_picture_reads_back_within_half_a_level_of_each_band(chords, tmp_path, draw_here):
    assert main([str(chords), "-o", str(tmp_path / "images"), "--kind", "features"]) == 0
    values, about = png.read(tmp_path / "images" / "blues" / "a.png")
    expected = feature_values(make_chord(0), Settings(kind="features"))
    assert about["kind"] == "features"
    row = 0
    for band in about["bands"]:
        part = slice(row, row + band["rows"])
        step = (band["vmax"] - band["vmin"]) / 255
        clipped = expected[part].clip(band["vmin"], band["vmax"])
        assert np.abs(values[part] - clipped).max() <= step * 0.501, band["name"]
        # The range fits: little is clipped, and more than a few levels are used.
        assert np.abs(clipped - expected[part]).max() <= step
        assert np.ptp(values[part]) > 2 * step
        row += band["rows"]
    assert row == len(values)


@pytest.mark.slow
def test_features_train_and_predict_like_any_picture(chords, tmp_path, capsys):
    for number in range(3, 8):
        for genre in ("blues", "jazz"):
            soundfile.write(chords / genre / f"{number}.wav", make_chord(number + 10 * (genre == "jazz")), SR)
    images, data, run = (str(tmp_path / name) for name in ("images", "data", "run"))
    assert main([str(chords), "-o", images, "--kind", "features"]) == 0
    assert split.main([images, "-o", data]) == 0
    flags = ["--epochs", "1", "--size", "32", "--threads", "1", "--device", "cpu"]
    assert train.main(["--data", data, "--out", run, *flags]) == 0
    capsys.readouterr()
    probabilities = []
    for path in (f"{images}/jazz/a.png", str(chords / "jazz" / "a.wav")):
        assert predict.main([run, path, "--json", "--device", "cpu"]) == 0
        probabilities.append(json.loads(capsys.readouterr().out)[0]["probabilities"])
    assert probabilities[0] == pytest.approx(probabilities[1], abs=1e-6), "audio is drawn as features too"


def test_silence_has_features_and_no_warnings(tmp_path, draw_here, recwarn):
    path = tmp_path / "genres" / "blues" / "a.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.zeros(30000), SR)
    assert main([str(tmp_path / "genres"), "-o", str(tmp_path / "images"), "--kind", "features"]) == 0
    values, about = png.read(tmp_path / "images" / "blues" / "a.png")
    assert about["silent"]
    assert np.isfinite(values).all()
    assert [str(warning.message) for warning in recwarn if issubclass(warning.category, UserWarning)] == []
