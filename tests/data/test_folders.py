"""Files, folders and patterns."""

import errno
import os

import pytest

from render.errors import MelvisionError
from render.passed_over import PassedOver
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


def test_folders_of_systems_and_cover_art_are_passed_over_and_counted(tmp_path):
    names = ["rock/01.wav", "rock/01.png", "rock/cover.jpg", "rock/Front.png", "rock/AlbumArtSmall.jpg"]
    names += ["rock/@eaDir/01.wav/SYNOPHOTO_THUMB_XL.jpg", "rock/scans/page.png", "$RECYCLE.BIN/x.png", "._a.wav"]
    names += ["set/folder.jpg", "set/CD1/a.wav", "set/Artwork/back.jpg", "drawn/cover.png", "drawn/front.png"]
    names += [".Trash-1000/files/b.png", "rock/cover song.png", "rock/folder.wav", "rock/folder.png", "Thumbs.db"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    passed = PassedOver()
    kept = [path.relative_to(tmp_path).as_posix() for path in find_files([tmp_path], passed)]
    assert kept == [
        "drawn/cover.png", "drawn/front.png", "rock/01.png", "rock/01.wav", "rock/cover song.png", "rock/folder.png",
        "rock/folder.wav", "set/CD1/a.wav",
    ]  # fmt: skip
    assert passed.system == {"@eaDir": 1, "$RECYCLE.BIN": 1, "._a.wav": 1, ".Trash-1000": 1}
    (note,) = passed.notes(tmp_path)
    assert "4 folders or files" in note and "6 cover pictures" in note
    pattern = find_files([f"{tmp_path}/**/*.jpg"], passed := PassedOver())
    assert all("@eaDir" not in str(path) for path in pattern) and passed.system == {"@eaDir": 1}
    assert find_files([tmp_path / "$RECYCLE.BIN"]) == [tmp_path / "$RECYCLE.BIN" / "x.png"], "it is named"


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_folders_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    (tmp_path / "rock" / "locked").mkdir(parents=True)
    (tmp_path / "rock" / "a.wav").touch()
    (tmp_path / "rock" / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "rock" / "notes.txt").symlink_to(tmp_path / "nowhere.txt")
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    passed = PassedOver()
    assert [path.name for path in find_files([tmp_path], passed)] == ["a.wav"]
    assert set(passed.failures()) == {
        f"{tmp_path}/rock/locked: cannot be read (Permission denied)",
        f"{tmp_path}/rock/gone: is a link to what is not there",
    }
    with pytest.raises(MelvisionError, match="Permission denied"):
        find_files([tmp_path / "rock" / "locked"])
