"""The command vision.explain."""

import csv
import importlib.util

import matplotlib.image
import numpy as np
import pytest
from PIL import Image

from render import figure
from render.settings import Settings
from tests.conftest import BANDS, spectrogram_of, write_picture
from vision import explain
from vision.attribution.plots import summarise


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def shown(path):
    pixels = matplotlib.image.imread(path)
    assert pixels.ndim == 3 and pixels.std() > 0.05
    return pixels


@pytest.mark.slow
def test_a_folder_of_genres(trained, tmp_path, capsys):
    out = tmp_path / "out"
    assert explain.main([str(trained / "run"), str(trained / "data" / "dev"), "-o", str(out)]) == 0
    out_text = capsys.readouterr().out
    for genre, place in BANDS.items():
        pictures = sorted((out / genre).glob("*.explained.png"))
        assert len(pictures) == 1
        shown(pictures[0])
        assert str(pictures[0]) in out_text and f"{genre} 0.9" in out_text
        mine = [row for row in rows(out / "bands.csv") if row["genre"] == genre]
        assert [int(row["band"]) for row in mine] == list(range(1, 17))
        top = max(mine, key=lambda row: float(row["mean_bits"]))
        low, high = (figure.frequency_at(band, Settings()) for band in (place * 16 - 0.5, place * 16 + 23.5))
        assert float(top["low_hz"]) < high and float(top["high_hz"]) > low
    shown(out / "bands.png")


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_bad_file_does_not_stop_the_others(trained, tmp_path, capsys):
    bad = tmp_path / "in" / "bad\n.png"
    write_picture(tmp_path / "in" / "good.png", spectrogram_of("jazz", 1))
    bad.write_bytes(b"no picture")
    assert explain.main([str(trained / "run"), str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert "failed: " in captured.err and "bad\\n.png: cannot be read" in captured.err
    assert "jazz 0.9" in captured.out and (tmp_path / "out" / "good.explained.png").exists()
    assert explain.main([str(trained / "run"), str(tmp_path / "nothing")]) == 2


@pytest.mark.slow
def test_pictures_of_other_programs_have_no_frequencies(trained, tmp_path, capsys):
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


@pytest.mark.slow
def test_names_of_all_kinds(trained, tmp_path):
    name = "$x^{$<b>\u8caa line\nbreak.png"
    for folder in (tmp_path / "in", tmp_path / "in" / "deep"):
        write_picture(folder / name, spectrogram_of("metal", 3))
    for letter in ("n", "\U0001f3b5"):
        longest = letter * (251 // len(letter.encode())) + ".png"  # the file system takes 255 bytes
        write_picture(tmp_path / "in" / longest, spectrogram_of("metal", 3))
    assert explain.main([str(trained / "run"), str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("*.explained.png"))) == 4


@pytest.mark.slow
def test_audio_is_explained(trained, tmp_path, capsys):
    import soundfile

    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "song.wav", rng.normal(0, 0.1, 6 * 22050), 22050)
    soundfile.write(tmp_path / "short.wav", rng.normal(0, 0.1, 22050 // 2), 22050)
    files = [str(tmp_path / "song.wav"), str(tmp_path / "short.wav")]
    assert explain.main([str(trained / "run"), *files, "-o", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "short.wav: is 0.5 s long; the model gets it repeated" in captured.err and "song.wav" not in captured.err
    assert "song.wav" in captured.out
    shown(tmp_path / "song.explained.png")


def test_without_captum_only_grad_cam_is_missing(trained, tmp_path, capsys, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr("vision.attribution.explain.find_spec", lambda name: None if name == "captum" else real(name))
    track = trained / "images" / "jazz" / "jazz.00000.png"
    assert explain.main([str(trained / "run"), str(track), "-o", str(tmp_path)]) == 0
    assert 'no Grad-CAM: it needs captum: pip install -e ".[explain]"' in capsys.readouterr().err
    assert (tmp_path / "jazz" / "jazz.00000.explained.png").exists()


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_two_panels_in_any_format(trained, tmp_path, capsys, kind):
    [picture] = sorted((trained / "images" / "jazz").glob("*00001.png"))
    flags = ["-o", str(tmp_path), "--simple", "--plots-as", kind]
    assert explain.main([str(trained / "run"), str(picture), *flags]) == 0
    [plot] = tmp_path.rglob(f"*.explained.{kind}")
    begins = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[kind]
    assert plot.read_bytes().startswith(begins)
    assert f"-> {plot}" in capsys.readouterr().out
