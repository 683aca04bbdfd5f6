"""`render.atomic`: a reader sees the old file or the new one, never half of one."""

import csv
import json
import os
import time

import pytest

from render import atomic


def test_replacing_is_all_or_nothing(tmp_path):
    path = tmp_path / "new folder" / "a.txt"
    with atomic.replacing(path, "w", encoding="utf-8") as file:
        file.write("first")
        assert not path.exists()
    assert path.read_text() == "first"
    for error in OSError, KeyboardInterrupt:
        with pytest.raises(error), atomic.replacing(path) as file:
            file.write(b"second")
            raise error
        assert path.read_text() == "first"
        assert os.listdir(path.parent) == ["a.txt"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new folder" / "file"


def test_text_is_utf8_with_line_endings_as_given(path):
    atomic.write_text(path, "J\u00fcrgen\r\n\udcff\n")
    assert path.read_bytes() == b"J\xc3\xbcrgen\r\n\xff\n", "bytes of file names that are not UTF-8 come back"


@pytest.mark.parametrize("indent, lines", [(1, 4), (None, 1)])
def test_json(path, indent, lines):
    atomic.write_json(path, {"a": [1.5], "b": "\udcff"}, indent=indent)
    assert json.loads(path.read_text("utf-8")) == {"a": [1.5], "b": "\udcff"}
    assert len(path.read_text("utf-8").splitlines()) >= lines


def test_csv(path):
    atomic.write_csv(path, ["file", "genre"], ([f"{n}, \udcff\n", n] for n in range(2)))
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert list(csv.reader(file)) == [["file", "genre"], ["0, \udcff\n", "0"], ["1, \udcff\n", "1"]]
    assert path.read_bytes().startswith(b"file,genre\r\n")
    atomic.write_csv(path, ["a"], [[1]], lineterminator="\n")
    assert path.read_bytes() == b"a\n1\n"


def test_a_row_that_fails_keeps_the_earlier_table(path):
    atomic.write_csv(path, ["a"], [[1]])
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        atomic.write_csv(path, ["a"], ([1 // n] for n in [1, 0]))
    assert path.read_bytes() == before
    with pytest.raises(TypeError):
        atomic.write_json(path, object())
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["file"]


def test_only_old_temporary_files_are_cleared(tmp_path):
    old, young, other = (tmp_path / name for name in (".melvision-1.part", ".melvision-2.part", "a.part"))
    for file in old, young, other:
        file.touch()
    for file in old, other:
        os.utime(file, (0, time.time() - 4000))
    atomic.clear_leftovers(tmp_path)
    assert not old.exists()
    assert young.exists()
    assert other.exists()
