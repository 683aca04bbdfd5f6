"""Every kind of file of a small corpus goes right through all commands, or is refused in one line."""

import shutil
import sys

import pytest

from render import __main__ as render
from tests import corpus
from tests.conftest import rows_of
from vision import check, predict, split, train
from vision.inference.predictor import Predictor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg"),
    pytest.mark.skipif(sys.platform == "win32", reason="its file names allow less"),
]


def test_sounds_through_all_commands(trained, tmp_path, monkeypatch, capsys, draw_here):
    cases = corpus.make(tmp_path / "corpus")
    monkeypatch.chdir(tmp_path / "corpus")
    assert render.main(["genres"]) == 1
    lines = capsys.readouterr().err.splitlines()
    for case in cases:
        seconds, said = corpus.outcome(case, tmp_path / "corpus" / "images_original", lines)
        assert (seconds is None) == (case.seconds is None), case.kind
        assert seconds is None or abs(seconds - case.seconds) < 0.25, case.kind
        assert case.says in " ".join(said), case.kind
        assert len(said) <= 1 and (case.seconds or said[0].startswith("failed: ")), case.kind
    assert any("plain.mp3" in line for line in lines), "the same track in another format"
    assert any("@eaDir" in line and ".txt" in line and "cover" in line for line in lines), "passed over, and counted"

    assert split.main(["images_original", "--groups-from-folders"]) == 0
    assert split.main(["data", "--check"]) == 0
    rows = rows_of(tmp_path / "corpus" / "data" / "split.csv")
    assert len({row["track"] for row in rows if "Artist" in row["file"]}) == 2
    assert check.main(["images_original"]) == 1
    assert "silent" in capsys.readouterr().out
    assert train.main(["--epochs", "1", "--size", "32", "--batch-size", "4", "--device", "cpu", "--no-texture"]) == 0

    predictions = {one.path.name: one for one in Predictor(trained / "run", "cpu").predict(
        [tmp_path / "corpus" / "genres" / case.path for case in cases])}  # fmt: skip
    for case in cases:
        prediction = predictions[case.path.split("/")[-1]]
        if case.seconds is None or case.says == "silent":
            assert prediction.genre is None and prediction.error, case.kind
        elif case.kind != "8 kHz":  # half of its picture is empty
            assert prediction.genre == "jazz", case.kind
    capsys.readouterr()
    assert predict.main([str(trained / "run"), "genres", "--csv", "genres.csv"]) == 1
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and "nothing.wav" in out
    table = {row["file"]: row for row in rows_of(tmp_path / "corpus" / "genres.csv")}
    assert {file for file in table if "\x1b" in file}, "tables hold names as they are"


def test_pictures_of_every_kind(trained, tmp_path, capsys):
    made = corpus.pictures(tmp_path / "pictures" / "jazz", shutil.which("convert"), shutil.which("pngquant"))
    predictor = Predictor(trained / "run", "cpu")
    right = predictor.predict(made[0][1])
    for kind, path, usable in made:
        prediction = predictor.predict(path)
        assert (prediction.genre == right.genre) is usable, (kind, prediction)
        assert usable or prediction.error, kind
        if "pngquant" in kind or "ImageMagick" in kind:
            assert prediction.notes, kind
    assert predict.main([str(trained / "run"), str(tmp_path / "pictures")]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 + sum(usable for _, _, usable in made), "one line each; white.png is silent"
    assert len([line for line in err.splitlines() if line.startswith("failed: ")]) == 3
