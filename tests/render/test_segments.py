"""Segments of tracks, each drawn as a picture of its own."""

import numpy as np
import pytest
import soundfile
from PIL import Image

from render import __main__ as render
from render import png
from render.errors import MelvisionError
from render.segments import Segments
from vision.splits.keys import is_copy, track_key

SR = 22050


def pictures(out):
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))


def about(path):
    with Image.open(path) as image:
        return png.read_about(image)


@pytest.fixture
def genres(tmp_path):
    """A track of 3.7 s and one of 1.6 s, of noise that grows."""
    rng = np.random.default_rng(0)
    for name, seconds in (("blues.00000", 3.7), ("blues.00001", 1.6)):
        y = rng.normal(0, 0.05, round(seconds * SR)) * np.linspace(0.1, 1, round(seconds * SR))
        path = tmp_path / "genres" / "blues" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, y.astype(np.float32), SR, subtype="FLOAT")
    return tmp_path / "genres"


@pytest.mark.parametrize(("seconds", "hop"), [(1.0, None), (1.0, 0.25), (0.5, 1.3), (3.7, None)])
@pytest.mark.parametrize("block", [1, 777, 10**6])
def test_the_cut_is_that_of_slices(seconds, hop, block):
    sr = 1000
    y = np.arange(3700, dtype=np.float32)
    pieces = (y[at : at + block] for at in range(0, len(y), block))
    found = list(Segments(seconds, hop).cut(pieces, sr))
    size, step = round(seconds * sr), round((hop or seconds) * sr)
    expected = [y[at : at + size] for at in range(0, len(y) - size + 1, step)]
    assert len(found) == len(expected) > 0
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("values", [(0.0,), (-1.0,), (float("nan"),), (1.0, 0.0), (float("inf"),)])
def test_lengths_out_of_range(values):
    with pytest.raises(MelvisionError, match="expected from 0.05"):
        Segments(*values)


def test_a_segment_is_drawn_as_a_clip_cut_by_hand(genres, tmp_path):
    out, by_hand = tmp_path / "out", tmp_path / "clips"
    assert render.main([str(genres), "-o", str(out), "--segment", "1"]) == 0
    assert pictures(out) == [f"blues/blues.00000_seg{n:03}.png" for n in range(3)] + ["blues/blues.00001_seg000.png"]
    y, _ = soundfile.read(genres / "blues" / "blues.00000.wav", dtype="float32")
    (by_hand / "blues").mkdir(parents=True)
    for number in range(3):
        soundfile.write(by_hand / "blues" / f"{number}.wav", y[number * SR : (number + 1) * SR], SR, subtype="FLOAT")
    assert render.main([str(by_hand), "-o", str(tmp_path / "drawn")]) == 0
    for number in range(3):
        ours = np.asarray(Image.open(out / "blues" / f"blues.00000_seg{number:03}.png"))
        assert (ours == np.asarray(Image.open(tmp_path / "drawn" / "blues" / f"{number}.png"))).all()
        assert about(out / "blues" / f"blues.00000_seg{number:03}.png")["offset"] == number


@pytest.mark.slow
def test_they_are_of_one_track(genres, tmp_path):
    out = tmp_path / "out"
    assert render.main([str(genres), "-o", str(out), "--segment", "1.2", "--augment", "1"]) == 0
    names = pictures(out)
    assert {track_key(name) for name in names} == {"blues00000", "blues00001"}
    assert sum(map(is_copy, names)) >= 2
    assert track_key("hot song_seg003.png") == track_key("hot song_seg012+aug2.png") == "hot song"


def test_they_are_kept_and_follow_the_settings(genres, tmp_path, capsys):
    out = tmp_path / "out"

    def run(*flags):
        code = render.main([str(genres), "-o", str(out), *flags])
        return code, capsys.readouterr().out

    assert "2 tracks (4 segments): 2 drawn" in run("--segment", "1")[1]
    assert "0 drawn, 2 fresh" in run("--segment", "1")[1]
    assert "2 drawn" in run("--segment", "1", "--segment-hop", "0.5")[1]
    assert len(pictures(out)) == 6 + 2
    assert "2 drawn" in run("--segment", "1.5")[1]
    assert len(pictures(out)) == 2 + 1, "none is left of shorter segments"
    # What was interrupted lacks its last segment: it is not taken for the whole track.
    last = out / "blues" / "blues.00000_seg001.png"
    last.unlink()
    assert "1 drawn, 1 fresh" in run("--segment", "1.5")[1]
    assert last.exists() and about(last)["segment"]["last"]


def test_what_cannot_be_cut_or_replaced(genres, tmp_path, capsys):
    out = tmp_path / "out"
    assert render.main([str(genres), "-o", str(out), "--segment", "2"]) == 1
    assert "blues.00001.wav: is 1.60 s long, shorter than one segment of 2 s" in capsys.readouterr().err
    foreign = out / "blues" / "blues.00000_seg000.png"
    Image.new("L", (10, 10)).save(foreign)
    assert render.main([str(genres), "-o", str(out), "--segment", "1"]) == 1
    assert Image.open(foreign).size == (10, 10), "not written by melvision"
    assert render.main([str(genres), "-o", str(out), "--segment-hop", "1"]) == 2


def test_silent_segments_are_counted(tmp_path, capsys):
    y = np.random.default_rng(0).normal(0, 0.1, 3 * SR)
    y[SR : 2 * SR] = 0
    path = tmp_path / "genres" / "jazz" / "a.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, y, SR)
    for _ in range(2):  # drawn, then fresh
        assert render.main([str(tmp_path / "genres"), "-o", str(tmp_path / "out"), "--segment", "1"]) == 0
        assert "1 of 3 segments are silent" in capsys.readouterr().err
    pictures = sorted((tmp_path / "out").rglob("*.png"))
    assert [about(path).get("silent", False) for path in pictures] == [False, True, False]
