"""The command vision.split: flags, exit codes and messages."""

import json
from collections import Counter

import pytest

from tests.conftest import BANDS, DATA, needs_data, spectrogram_of, write_picture, write_tree
from vision.split import main
from vision.splits.assign import SPLITS
from vision.splits.folder import read_rows, split_folder
from vision.splits.groups import read_groups
from vision.splits.leaks import find_leaks


def splits_of(data):
    """Every linked file, and its split."""
    return {
        path.relative_to(data / split).as_posix(): split for split in SPLITS for path in (data / split).rglob("*.png")
    }


def test_a_groups_file_given_later_removes_train_pictures(images, tmp_path, capsys):
    data = tmp_path / "data"
    assert main([str(images), "-o", str(data)]) == 0
    before = splits_of(data)
    tested = next(file for file, side in before.items() if side == "test" and file.startswith("blues"))
    artist = [f"blues.{number:05}" for number in range(5)] + [tested[6:-4]]
    (tmp_path / "artists.csv").write_text("track,group\n" + "".join(f"{name},B. B. King\n" for name in artist))
    assert main([str(images), "-o", str(data), "--groups", str(tmp_path / "artists.csv")]) == 1
    err = capsys.readouterr().err
    after = splits_of(data)
    assert after[tested] == "test"
    for name in artist:
        file = f"blues/{name}.png"
        if before[file] == "train":
            assert file not in after
            assert f"{file}: removed from train, because its group has a test picture" in err
    # Left out, but the row keeps its split.
    assert {row.file: row.split for row in read_rows(data)} == before
    # The groups stay in force when the command is run again without the file.
    assert main([str(images), "-o", str(data)]) == 1
    assert splits_of(data) == after


def test_published_lists(images, tmp_path, capsys):
    (tmp_path / "train.txt").write_text("".join(f"{g}/{g}.{n:05}.wav\n" for g in BANDS for n in range(6)))
    (tmp_path / "dev.txt").write_text("".join(f"{g}{n:05}.png\n" for g in BANDS for n in range(6, 9)) + "jazz.00077\n")
    lists = ["--train-list", str(tmp_path / "train.txt"), "--dev-list", str(tmp_path / "dev.txt")]
    assert main([str(images), "-o", str(tmp_path / "data"), *lists]) == 0
    captured = capsys.readouterr()
    assert "1 track of the dev list has no picture: jazz00077" in captured.err
    assert captured.out.splitlines()[-2].split() == ["all", "18", "9", "0", "3"]
    where = splits_of(tmp_path / "data")
    assert where["jazz/jazz.00005.png"] == "train"
    assert where["jazz/jazz.00006.png"] == "dev"
    assert "jazz/jazz.00009.png" not in where
    write_tree(images, 1, start=10)
    assert main([str(images), "-o", str(tmp_path / "data")]) == 0
    assert splits_of(tmp_path / "data") == where


def test_lists_and_groups_that_match_nothing_are_reported(images, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("genres_original/blues.00000.wav\n")
    lists = [f"--train-list={tmp_path / 'list.txt'}", f"--dev-list={tmp_path / 'list.txt'}"]
    assert main([str(images), "-o", str(tmp_path / "data"), *lists]) == 2
    assert "no picture is on the train list" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    (tmp_path / "list.txt").write_text("".join(f"{g}\\{g}.0000{n}.wav\n" for g in BANDS for n in range(5)))
    assert main([str(images), "-o", str(tmp_path / "data"), *lists]) == 1
    assert "15 tracks are on two lists" in capsys.readouterr().err
    (tmp_path / "groups.csv").write_text("nobody,knows\n")
    assert main([str(images), "-o", str(tmp_path / "d2"), "--groups", str(tmp_path / "groups.csv")]) == 0
    assert "1 of the 1 tracks in the groups file have no picture" in capsys.readouterr().err


def test_a_folder_that_is_split_already_is_not_split_again(images, tmp_path, capsys):
    split_folder(images, tmp_path / "data")
    (tmp_path / "data" / "train").rename(tmp_path / "data" / "Train")
    assert main([str(tmp_path / "data"), "-o", str(tmp_path / "d2")]) == 2
    assert "is split already" in capsys.readouterr().err


def test_pieces_of_one_track_are_not_three_tracks(images, tmp_path, capsys):
    for number in range(3):
        write_picture(images / "polka" / f"song_seg{number}.png", spectrogram_of("jazz", 70 + number))
    assert main([str(images), "-o", str(tmp_path / "data")]) == 2
    assert "fewer than three tracks in polka (1)" in capsys.readouterr().err


def test_stray_pictures_are_noted_and_bad_outputs_are_one_line(images, tmp_path, capsys):
    write_picture(images / "stray.png", spectrogram_of("jazz", 80))
    (tmp_path / "file").write_text("")
    assert main([str(images), "-o", str(tmp_path / "file" / "x")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert main([str(images), "-o", str(tmp_path / "data")]) == 0
    assert "stray.png: lies outside a genre folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.mkdir(), "no genre folder in it"),
        (lambda root: (root / "jazz").mkdir(parents=True), "no picture in it"),
        (lambda root: root.write_text(""), "it is a file"),
        (lambda root: write_tree(root, 5, ["jazz"]), "1 genre only (jazz)"),
        (lambda root: [write_tree(root, 5, ["jazz", "blues"]), write_tree(root, 2, ["metal"])], "metal (2)"),
        (lambda root: [(root / "jazz").mkdir(parents=True), (root / "jazz" / "a.wav").touch()], "python -m render"),
    ],
)
def test_bad_folders(tmp_path, capsys, make, message):
    make(tmp_path / "images")
    assert main([str(tmp_path / "images"), "-o", str(tmp_path / "data")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_unusable_pictures_and_empty_genres_are_named(images, tmp_path, capsys):
    (images / "jazz" / "bad.png").write_bytes(b"nothing")
    (images / "polka").mkdir()
    assert main([str(images), "-o", str(tmp_path / "data")]) == 1
    err = capsys.readouterr().err
    assert "bad.png: cannot be read" in err
    assert "note: " in err and "polka: no picture in this genre folder" in err
    assert len(splits_of(tmp_path / "data")) == 30


def test_a_folder_split_otherwise_is_not_mixed(images, tmp_path, capsys):
    data = tmp_path / "data"
    assert main([str(images), "-o", str(data)]) == 0
    for other in (["--seed", "1"], ["--ratios", "60/20/20"]):
        assert main([str(images), "-o", str(data), *other]) == 2
        assert "assignments never change" in capsys.readouterr().err
    write_tree(tmp_path / "hand" / "train", 3)
    assert main([str(images), "-o", str(tmp_path / "hand")]) == 2
    assert "split by hand" in capsys.readouterr().err


@pytest.mark.parametrize("ratios", ["80", "80/20", "a/b/c", "0/50/50", "80/0/20", "1/2/inf", "-1/1/1"])
def test_bad_ratios(images, tmp_path, capsys, ratios):
    assert main([str(images), "-o", str(tmp_path / "data"), f"--ratios={ratios}"]) == 2
    assert "80/10/10" in capsys.readouterr().err


@pytest.mark.slow
@needs_data
def test_the_published_filtered_split(tmp_path):
    sources = {"train": "train_filtered.txt", "dev": "valid_filtered.txt"}
    lists = [f"--{side}-list={DATA / 'splits' / name}" for side, name in sources.items()]
    assert main([str(DATA / "gtzan_images"), "-o", str(tmp_path / "data"), *lists]) == 0
    assert Counter(splits_of(tmp_path / "data").values()) == {"train": 442, "dev": 197}
    leaks, problems = find_leaks(tmp_path / "data", read_groups(DATA / "splits" / "GTZANindex.txt"))
    assert problems == []
    print("\n".join(leaks))
    assert not any("track" in leak or "equal" in leak for leak in leaks)
    assert json.loads((tmp_path / "data" / "split.json").read_text())["lists"]
