"""Files, folders and patterns."""

import pytest

from render.errors import MelvisionError
from vision.data.folders import find_files


@pytest.fixture
def songs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = "a.wav|b.mp3|notes.txt|deep/er/c.wav|song [live].wav|.hidden.wav|deep/er/d.wav.part"
    for name in names.split("|"):
        path = tmp_path / "songs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "songs"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["songs"], ["a.wav", "b.mp3", "deep/er/c.wav", "song [live].wav"]),
        (["songs/*.wav"], ["a.wav", "song [live].wav"]),
        (["songs/*"], ["a.wav", "b.mp3", "deep/er/c.wav", "song [live].wav"]),
        (["songs/**"], ["a.wav", "b.mp3", "deep/er/c.wav", "song [live].wav"]),
        (["songs/**/*.wav"], ["a.wav", "deep/er/c.wav", "song [live].wav"]),
        (["songs/[ab].*"], ["a.wav", "b.mp3"]),
        (["songs/song [live].wav"], ["song [live].wav"]),
        (["songs/notes.txt"], ["notes.txt"]),
        (["songs/b.mp3", "songs/?.*", "songs/b.mp3"], ["b.mp3", "a.wav"]),
    ],
)
def test_patterns_that_the_shell_left(songs, given, expected):
    found = [path.relative_to("songs").as_posix() for path in find_files(given)]
    assert sorted(found) == sorted(expected)
    assert found[0] == expected[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("songs/*.flac", "no file matches"),
        ("songs/*.txt", "nothing is a picture or audio"),
        ("nowhere/**", "no file matches"),
        ("songs/a.mp3", "no such file"),
    ],
)
def test_patterns_that_match_nothing(songs, given, message):
    with pytest.raises(MelvisionError, match=message):
        find_files([given])


def test_a_broken_link_is_listed(songs):
    (songs / "gone.wav").symlink_to("nowhere.wav")
    assert [path.name for path in find_files([songs / "gone.wav"])] == ["gone.wav"]
