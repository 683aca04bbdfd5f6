"""Genres that differ only in how they are written are named, and a class is known in any Unicode form."""

import shutil
import unicodedata

from tests.conftest import spectrogram_of, write_picture
from tests.training.runs import QUICK
from vision import check, train
from vision.data.dataset import SpectrogramFolder
from vision.data.genres import match_genre, similar_genres
from vision.split import main
from vision.splits.groups import look_up

NFC, NFD = (unicodedata.normalize(form, "Forró") for form in ("NFC", "NFD"))


def test_similar_genres():
    assert similar_genres("images", ["rock", "pop", "r&b", "rb", "jazz 1", "jazz 2"]) == []
    (line,) = similar_genres("images", ["Rock", "rock", "rock ", NFC, NFD, "Hip Hop", "hip-hop", "blues"])
    assert line.startswith("images: ") and "'Rock', 'rock', 'rock '" in line and "'Hip Hop', 'hip-hop'" in line
    assert "'Forr\\xf3'" in line and "'Forro\\u0301'" in line and "blues" not in line


def test_match_genre():
    assert match_genre(NFD, ["jazz", NFC]) == NFC
    assert match_genre(NFD, [NFC, NFD]) == NFD
    assert match_genre("Jazz", ["jazz"]) is None
    assert look_up({f"{NFD.casefold()}/a": "x", f"{NFC.casefold()}/b": "y"}, NFC, "a") == "x"
    assert look_up({f"{NFD.casefold()}/a": "x", f"{NFC.casefold()}/b": "y"}, NFD, "b") == "y"


def test_check_split_and_train_name_them_and_other_forms_are_evaluated(tmp_path, capsys):
    for number in range(4):
        for genre, name in (("blues", "rock"), ("jazz", "Rock"), ("metal", NFC)):
            write_picture(tmp_path / "images" / name / f"{name}.{number:05}.png", spectrogram_of(genre, number))
    words = "genres that differ only in case, spaces or Unicode form: 'Rock', 'rock'"
    assert check.main([str(tmp_path / "images")]) == 1
    assert words in capsys.readouterr().out
    assert main([str(tmp_path / "images"), "-o", str(tmp_path / "data")]) == 0
    assert capsys.readouterr().err.count(words) == 1
    flags = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--epochs", "1", *QUICK]
    assert train.main(flags) == 0
    assert capsys.readouterr().err.count(words) == 1
    shutil.copytree(tmp_path / "data" / "train", tmp_path / "other")
    before = SpectrogramFolder(tmp_path / "other", ["Rock", "rock", NFC, "pop"]).targets
    (tmp_path / "other" / NFC).rename(tmp_path / "other" / NFD)
    folder = SpectrogramFolder(tmp_path / "other", ["Rock", "rock", NFC, "pop"])
    assert folder.targets == before
    assert folder.classes == ["Rock", "rock", NFC, "pop"] and folder.empty == ["pop"]
