"""Files that people edit by hand: what is found, where, and what was expected."""

import json
from typing import Annotated, NotRequired, TypedDict

import pytest

from render.errors import MelvisionError
from vision.data.validate import Count, Share, check, one_of, read_json, read_rows


class Part(TypedDict):
    n: Count
    ends: tuple[Share, Share]


class Whole(TypedDict):
    name: str
    split: Annotated[str, one_of("train", "dev", "")]
    parts: NotRequired[list[Part]]
    by_name: NotRequired[dict[str, int]]


GOOD = {"name": "a", "split": "dev", "parts": [{"n": 1, "ends": [0, 1]}], "by_name": {"x": 1}, "other": None}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": 3}, "name: found 3; expected str"),
        ({"name": None}, "name: found None; expected str"),
        ({"split": "valid"}, "split: found 'valid'; expected one of train, dev, nothing"),
        ({"parts": {}}, "parts: found {}; expected array"),
        ({"parts": [{"n": 0, "ends": [0, 1]}]}, "parts[0].n: found 0; expected int >= 1"),
        ({"parts": [{"n": True, "ends": [0, 1]}]}, "parts[0].n: found True; expected int"),
        ({"parts": [{"n": 1, "ends": [0, 2]}]}, "parts[0].ends[1]: found 2; expected float <= 1.0"),
        ({"parts": [{"n": 1, "ends": [0]}]}, "parts[0].ends: found [0]; expected array of length 2"),
        ({"parts": [{"n": 1}]}, "parts[0].ends is missing"),
        ({"by_name": {"x": "y"}}, "by_name[...]: expected int"),
    ],
)
def test_the_key_what_was_found_and_what_was_expected(tmp_path, change, told):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(GOOD))
    read = read_json(path, Whole, "restore it")
    assert read["parts"] == [{"n": 1, "ends": (0, 1)}] and "other" not in read
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(MelvisionError) as refused:
        read_json(path, Whole, "restore it")
    assert str(refused.value) == f"{path}: {told}; restore it"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"[" * 100_000, b"\xff\xfe", b'{"name": "a", "split": 1e999}', b'{"x": NaN}', b"9" * 5000],
)
def test_what_is_no_such_file(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(MelvisionError, match="a.json: .*; restore it$"):
        read_json(path, Whole, "restore it")


def test_a_long_value_is_cut():
    with pytest.raises(ValueError, match=r"found 'y{50,60}\.\.\.;"):
        check({"name": "a", "split": "y" * 10_000}, Whole)


class Line(TypedDict):
    split: Annotated[str, one_of("train", "dev")]
    size: int


def test_rows_are_numbered_as_an_editor_numbers_them(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('split,size,other\ntrain,3,"two\nlines"\ndev,4,\n')
    assert read_rows(path, Line, "restore it") == [{"split": "train", "size": 3}, {"split": "dev", "size": 4}]
    for content, told in {
        'split,size,other\ntrain,3,"two\nlines"\ndev,x,\n': "line 4: size: found 'x'; expected int",
        "split,size\ntrain,3\ntest,3\n": "line 3: split: found 'test'; expected one of train, dev",
        "split,size\ntrain\n": "line 2: found 1 cells; expected 2",
        "split,size\ntrain,3,4\n": "line 2: found 3 cells; expected 2",
        "split\ntrain\n": "line 2: size is missing",
        "split,split,size\ntrain,dev,3\n": "line 1: a column is there twice",
    }.items():
        path.write_text(content)
        with pytest.raises(MelvisionError) as refused:
            read_rows(path, Line, "restore it")
        assert str(refused.value) == f"{path}, {told}; restore it"
    with pytest.raises(MelvisionError, match=r"No such file.*; restore it$"):
        read_rows(tmp_path / "b.csv", Line, "restore it")
