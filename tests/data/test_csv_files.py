"""CSV tables are read back as `render.atomic.write_csv` writes them."""

import pytest

from render import atomic
from vision.data.csv_files import read_csv


def test_any_cell_comes_back(tmp_path):
    rows = [["a, b", 'c "d"'], ["line\nbreak\r\n", "\udcff é 音"]]
    atomic.write_csv(tmp_path / "a.csv", ["x", "y"], rows)
    assert read_csv(tmp_path / "a.csv") == [dict(zip("xy", row, strict=True)) for row in rows]


def test_empty_and_missing_files(tmp_path):
    (tmp_path / "a.csv").write_text("")
    assert read_csv(tmp_path / "a.csv") == []
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "b.csv")
