"""Leaks between folders are found."""

import numpy as np

from tests.conftest import BANDS, read_pictures, spectrogram_of, write_picture, write_tree
from vision.split import main
from vision.splits import leaks


def test_check_finds_planted_leaks(images, tmp_path, capsys):
    data = tmp_path / "data"
    for split, numbers in (("train", range(5)), ("val", range(5, 7)), ("test", range(7, 9))):
        for genre in BANDS:
            for number in numbers:
                write_picture(data / split / genre / f"{genre}.{number:05}.png", spectrogram_of(genre, number))
    assert main([str(data), "--check"]) == 0
    assert "0 leaks" in capsys.readouterr().out
    write_picture(data / "test" / "jazz" / "other name.png", spectrogram_of("jazz", 0))
    write_picture(data / "val" / "jazz" / "jazz00001.seg2.png", np.zeros((128, 64), np.float32))
    (tmp_path / "groups.csv").write_text("metal.00000,X\nmetal.00007,X\n")
    assert main([str(data), "--check", "--groups", str(tmp_path / "groups.csv")]) == 1
    out = capsys.readouterr().out
    assert "equal pictures in test and train" in out
    assert "the same track in dev and train" in out
    assert "one group (x) in test and train" in out
    assert "3 leaks" in out
    assert main([str(images), "--check"]) == 2


def test_leaks_are_seen_by_name_and_by_pixels(tmp_path):
    write_tree(tmp_path / "train", 3)
    write_tree(tmp_path / "dev", 2, start=10)
    clean = {split: read_pictures(tmp_path / split, size=32) for split in ("train", "dev")}
    assert leaks.compare(clean) == {"tracks": [], "equal_across": [], "equal_within": []}
    write_picture(tmp_path / "dev" / "blues" / "other.png", spectrogram_of("blues", 1))
    write_picture(tmp_path / "dev" / "jazz" / "jazz.00002_seg1.png", spectrogram_of("jazz", 77))
    write_picture(tmp_path / "train" / "metal" / "again.png", spectrogram_of("metal", 0))
    found = leaks.compare({split: read_pictures(tmp_path / split, size=32) for split in ("train", "dev")})
    assert found["tracks"] == ["jazz/jazz00002"]
    across = [[name.split("/")[-1] for name in pair] for pair in found["equal_across"]]
    assert across == [["blues.00001.png", "other.png"]]
    assert {name.split("/")[-1] for name in found["equal_within"][0]} == {"again.png", "metal.00000.png"}
