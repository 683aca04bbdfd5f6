"""Pictures of features, and figures for people."""

import json

import librosa
import numpy as np
import pytest
import soundfile
from PIL import Image

from render import png
from render.__main__ import main
from render.settings import Settings
from render.feature_picture import feature_bands, feature_values
from tests.conftest import write_tree
from vision import predict, split, train
from vision.data.images import load

SR = 22050


def sound(number=0, seconds=1.5):
    """A decaying chord with noise."""
    rng = np.random.default_rng(number)
    t = np.arange(round(seconds * SR)) / SR
    y = sum(np.sin(2 * np.pi * f * t) for f in rng.uniform(100, 2000, 4)) * np.exp(-t) + rng.normal(0, 0.1, len(t))
    return (0.2 * y).astype(np.float32)


@pytest.fixture
def genres(tmp_path):
    for number, name in enumerate(["a", "b", "c"]):
        for genre in ("blues", "jazz"):
            path = tmp_path / "genres" / genre / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, sound(number + 10 * (genre == "jazz")), SR, subtype="FLOAT")
    return tmp_path / "genres"


@pytest.mark.parametrize("settings", [Settings(kind="features"), Settings(kind="features", hop_length=300, htk=True)])
def test_features_are_librosas(settings):
    y = sound()
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


def test_a_features_picture_reads_back_within_half_a_level_of_each_band(genres, tmp_path, draw_here):
    assert main([str(genres), "-o", str(tmp_path / "images"), "--kind", "features"]) == 0
    values, about = png.read(tmp_path / "images" / "blues" / "a.png")
    expected = feature_values(sound(0), Settings(kind="features"))
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


def test_features_train_and_predict_like_any_picture(genres, tmp_path, capsys):
    for number in range(3, 8):
        for genre in ("blues", "jazz"):
            soundfile.write(genres / genre / f"{number}.wav", sound(number + 10 * (genre == "jazz")), SR)
    images, data, run = (str(tmp_path / name) for name in ("images", "data", "run"))
    assert main([str(genres), "-o", images, "--kind", "features"]) == 0
    assert split.main([images, "-o", data]) == 0
    flags = ["--epochs", "1", "--size", "32", "--threads", "1", "--device", "cpu"]
    assert train.main(["--data", data, "--out", run, *flags]) == 0
    capsys.readouterr()
    found = []
    for path in (f"{images}/jazz/a.png", str(genres / "jazz" / "a.wav")):
        assert predict.main([run, path, "--json", "--device", "cpu"]) == 0
        found.append(json.loads(capsys.readouterr().out)[0]["probabilities"])
    assert found[0] == pytest.approx(found[1], abs=1e-6), "audio is drawn as features too"


def test_silence_has_features_and_no_warnings(tmp_path, draw_here, recwarn):
    path = tmp_path / "genres" / "blues" / "a.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.zeros(30000), SR)
    assert main([str(tmp_path / "genres"), "-o", str(tmp_path / "images"), "--kind", "features"]) == 0
    values, about = png.read(tmp_path / "images" / "blues" / "a.png")
    assert about["silent"]
    assert np.isfinite(values).all()
    assert [str(warning.message) for warning in recwarn if issubclass(warning.category, UserWarning)] == []


@pytest.mark.parametrize("kind", ["mel", "features"])
def test_figures_are_drawn_fresh_and_refused_by_vision(genres, tmp_path, capsys, request, kind):
    if kind == "features":  # once through workers is enough
        request.getfixturevalue("draw_here")
    for path in [*genres.glob("*/b.wav"), *genres.glob("*/c.wav")]:
        path.unlink()
    soundfile.write(genres / "blues" / "cost $5 \N{GUITAR}.wav", sound(5), SR)
    flags = [str(genres), "-o", str(tmp_path / "figures"), "--style", "figure", "--kind", kind]
    assert main(flags) == 0
    path = tmp_path / "figures" / "jazz" / "a.png"
    image = Image.open(path)
    assert image.size == (960, 540)
    assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 200
    before = path.read_bytes()
    assert main(flags) == 0
    assert "3 fresh already" in capsys.readouterr().out
    assert main([*flags, "--force"]) == 0
    assert path.read_bytes() == before
    with pytest.raises(png.PictureError, match="figure for people"):
        png.read(path)
    with pytest.raises(png.PictureError, match="without --style figure"):
        load(path)
    # Asked for pixels in the same folder, render draws them anew.
    assert main([str(genres), "-o", str(tmp_path / "figures")]) == 0
    assert Image.open(path).mode == "P"


def test_the_frequency_axis_is_where_a_tone_is(tmp_path):
    """The brightest row of a tone's figure stands at the tick of its frequency."""
    from matplotlib.figure import Figure

    from render.figure import _label_frequencies
    from render.spectrogram import mel_spectrogram

    for settings in (Settings(), Settings(htk=True, fmin=100.0, fmax=8000.0, n_mels=200)):
        axes = Figure().add_subplot()
        _label_frequencies(axes, settings)
        for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True):
            hz = float(label.get_text())
            S_db = mel_spectrogram(np.sin(2 * np.pi * hz * np.arange(SR) / SR).astype(np.float32), settings)
            assert abs(S_db.mean(axis=1).argmax() - place) < 1.5, (settings, hz)


def test_wrong_kinds(tmp_path, capsys):
    write_tree(tmp_path / "images", 1)
    for flags in (["--kind", "mfcc"], ["--style", "art"], ["--kind", "features", "--sr", "8000"]):
        assert main([str(tmp_path), *flags]) == 2
        assert flags[-2] in capsys.readouterr().err
