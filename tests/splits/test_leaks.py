"""Leaks between folders are found."""

import numpy as np

from tests.conftest import BANDS, spectrogram_of, write_picture
from vision.split import main


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
