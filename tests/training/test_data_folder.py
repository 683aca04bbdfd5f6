"""The data folder is made, brought up to date, or checked for leaks."""

import shutil

import pytest

from render.errors import MelvisionError
from tests.conftest import BANDS, write_tree
from tests.training.runs import QUICK
from vision import split, train
from vision.training.data_folder import prepare_data

pytestmark = pytest.mark.usefixtures("no_plots")


def test_problems_of_the_split_are_reported(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "images_original", 4)
    (tmp_path / "images_original" / "jazz" / "bad.png").write_bytes(b"nothing")
    assert train.main(["--epochs", "1", *QUICK]) == 1
    assert "bad.png: cannot be read" in capsys.readouterr().err
    assert train.main(["--images", "elsewhere", *QUICK]) == 2
    assert "was made of" in capsys.readouterr().err
    assert train.main(["--resume", "runs/standard-001", "--epochs", "3"]) == 2
    assert "give no other flags" in capsys.readouterr().err


def test_data_without_its_images_is_trained_on_as_it_is(tmp_path, capsys):
    write_tree(tmp_path / "images", 4)
    assert split.main([str(tmp_path / "images"), "-o", str(tmp_path / "data")]) == 0
    for genre in BANDS:
        shutil.rmtree(tmp_path / "images" / genre)
    (tmp_path / "images" / "README.md").write_text("as in a fresh clone")
    assert train.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--epochs", "1", *QUICK]) == 0
    assert "training on" in capsys.readouterr().err


def test_split_by_hand_is_used_and_its_leaks_reported(trained, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(trained / "data", data)
    (data / "split.csv").unlink()
    (data / "dev").rename(data / "validation")
    leaked = next((data / "train" / "jazz").iterdir())
    shutil.copy(leaked, data / "test" / "jazz")
    assert train.main(["--data", str(data), "--out", str(tmp_path / "run"), "--epochs", "1", *QUICK]) == 0
    printed = capsys.readouterr()
    assert "LEAKS: 1 " in printed.err
    assert leaked.name in printed.err
    assert "3 dev, 4 test" in printed.out


def test_the_library_returns_what_the_command_prints(tmp_path, capsys):
    write_tree(tmp_path / "images", 4)
    (tmp_path / "images" / "jazz" / "bad.png").write_bytes(b"nothing")
    assert split.main([str(tmp_path / "images"), "-o", str(tmp_path / "data")]) == 1
    write_tree(tmp_path / "images", 1, start=4)
    capsys.readouterr()
    lines = []
    folder = prepare_data(tmp_path / "data", progress=lines.append)
    assert folder.path == tmp_path / "data"
    assert len(folder.problems) == 1 and "bad.png: cannot be read" in folder.problems[0]
    assert len(lines) == 1 and "3 pictures added to" in lines[0]
    assert folder.notes == []
    assert prepare_data(tmp_path / "data").problems == folder.problems
    assert capsys.readouterr().out == "", "nothing is printed"


def test_pictures_and_a_data_folder_that_is_not_there(images, tmp_path):
    """With --images and --data, the folder is made of the pictures: neither message sends to the other."""
    made = prepare_data(tmp_path / "new", images)
    assert (tmp_path / "new" / "split.csv").exists() and made.path == tmp_path / "new"
    with pytest.raises(MelvisionError, match="name a new folder with --data"):
        prepare_data(tmp_path / "new", tmp_path / "other")
