"""What is passed over in a walk is counted, and unusual endings are read."""

import numpy as np
import pytest
from PIL import Image

from render.passed_over import PassedOver
from render.tracks import find_tracks
from vision.data.dataset import list_pictures
from vision.data.preprocess import Preprocessor


def test_files_of_other_kinds_are_counted(tmp_path):
    for name in ("a.wav", "b.MOV", "c.mpga", "d.txt", "e.txt", "f", "g.pdf"):
        (tmp_path / "jazz" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "jazz" / name).touch()
    passed = PassedOver()
    tracks, _, _ = find_tracks(tmp_path, passed)
    assert [track.path.name for track in tracks] == ["a.wav", "b.MOV", "c.mpga"]
    assert passed.others == {".txt": 2, ".pdf": 1, "f": 1}
    assert "4 files of other kinds (.txt" in passed.notes(tmp_path)[0]


@pytest.mark.parametrize("ending", [".jpe", ".jfif", ".dib", ".pbm"])
def test_pictures_of_unusual_endings_are_read(tmp_path, ending):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300), np.uint8)
    path = tmp_path / "jazz" / f"a{ending}"
    path.parent.mkdir()
    kind = {".jpe": "JPEG", ".jfif": "JPEG", ".dib": "BMP", ".pbm": "PPM"}[ending]
    Image.fromarray(pixels).save(path, kind)
    assert list_pictures(tmp_path) == [str(path)]
    assert Preprocessor().from_file(path).x.shape == (1, 224, 224)
