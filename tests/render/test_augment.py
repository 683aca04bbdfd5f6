"""Augmented copies: of the drawn pitch and speed, repeatable, and never in dev or test."""

from collections import Counter

import numpy as np
import pytest
import soundfile

from render import png
from render.__main__ import main
from render.augment import change_audio, draw_change
from vision import split


def test_the_draw_is_repeatable_and_in_range():
    changes = [draw_change(f"track{number}", copy) for number in range(200) for copy in (1, 2)]
    assert changes[0] == draw_change("track0", 1)
    assert len({str(change) for change in changes}) == 400
    semitones, rates = (np.array([change[name] for change in changes]) for name in ("semitones", "rate"))
    assert -2 <= semitones.min() < -1.8 < 1.8 < semitones.max() <= 2
    assert 0.8 <= rates.min() < 0.82 < 1.22 < rates.max() <= 1.25


@pytest.mark.parametrize(("semitones", "rate"), [(2.0, 0.8), (-2.0, 1.25), (0.0, 1.1), (1.5, 1.0)])
def test_pitch_and_length_change_as_drawn(semitones, rate):
    sr = 22050
    y = np.sin(2 * np.pi * 440 * np.arange(2 * sr) / sr).astype(np.float32)
    changed = change_audio(y, sr=sr, semitones=semitones, rate=rate)
    assert len(changed) == pytest.approx(len(y) / rate, rel=0.02)
    spectrum = np.abs(np.fft.rfft(changed * np.hanning(len(changed))))
    peak = spectrum.argmax() * sr / len(changed)
    assert peak == pytest.approx(440 * 2 ** (semitones / 12), rel=0.005)


@pytest.fixture
def genres(tmp_path):
    for number in range(10):
        for genre, pitch in (("high", 3000), ("low", 300)):
            path = tmp_path / "genres" / genre / f"song {number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            y = np.sin(2 * np.pi * (pitch + 10 * number) * np.arange(8000) / 8000)
            soundfile.write(path, 0.5 * y, 8000)
    return tmp_path / "genres"


@pytest.mark.slow
def test_copies_are_drawn_kept_fresh_and_used_in_train_only(genres, tmp_path, capsys, request):
    images, data = tmp_path / "images", tmp_path / "data"
    assert main([str(genres), "-o", str(images), "--augment", "2"]) == 0
    assert "60 pictures: 60 drawn" in capsys.readouterr().out
    copy = images / "low" / "song 3+aug2.png"
    S_db, about = png.read(copy)
    assert about["augment"] == draw_change("song 3", 2)
    assert S_db.shape[1] == pytest.approx(44 / about["augment"]["rate"], abs=2)
    before = copy.read_bytes()
    request.getfixturevalue("draw_here")
    assert main([str(genres), "-o", str(images), "--augment", "2"]) == 0
    assert "60 fresh already" in capsys.readouterr().out
    copy.unlink()
    assert main([str(genres), "-o", str(images), "--augment", "2"]) == 0
    assert "1 drawn, 59 fresh" in capsys.readouterr().out
    assert copy.read_bytes() == before

    assert split.main([str(images), "-o", str(data)]) == 0
    linked = Counter(path.parts[-3] for path in data.rglob("*.png") if "+aug" in path.name)
    assert linked == {"train": 32}
    originals = Counter(path.parts[-3] for path in data.rglob("*.png") if "+aug" not in path.name)
    assert originals == {"train": 16, "dev": 2, "test": 2}
    # The split of the tracks is that which they have without their copies.
    for path in images.rglob("*+aug*"):
        path.unlink()
    assert split.main([str(images), "-o", str(tmp_path / "plain")]) == 0
    plain = {path.relative_to(tmp_path / "plain") for path in (tmp_path / "plain").rglob("*.png")}
    assert plain == {path.relative_to(data) for path in data.rglob("*.png") if "+aug" not in path.name}


def test_a_bad_track_fails_with_its_copies(genres, tmp_path, capsys, draw_here):
    (genres / "low" / "bad.wav").write_bytes(b"nothing")
    assert main([str(genres), "-o", str(tmp_path / "images"), "--augment", "1"]) == 1
    captured = capsys.readouterr()
    assert "bad.wav: cannot be decoded" in captured.err
    assert "bad.wav (copy 1): cannot be decoded" in captured.err
    assert main([str(genres), "--augment", "-1"]) == 2
