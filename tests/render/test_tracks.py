"""`render.tracks` finds every audio file of a music folder and says what it skips."""

import os

import pytest

from render.errors import MelvisionError
from render.passed_over import PassedOver
from render.tracks import find_tracks


def make_files(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def test_tracks_are_found_in_any_case_and_depth(tmp_path):
    wanted = ["blues/b.WAV", "blues/a.au", "blues/album/cd 1/c.Flac", "jazz/a.mp3", "jazz/x.y.OGG", "rock/a.aIFf"]
    make_files(tmp_path, [*wanted, "blues/notes.txt", "blues/cover.jpg", "jazz/no ending", "rock/.wav"])
    tracks, empty, stray = find_tracks(tmp_path)
    assert sorted(str(track.path.relative_to(tmp_path)) for track in tracks) == sorted(wanted)
    assert {(track.genre, track.track_id) for track in tracks} == {
        ("blues", "a"), ("blues", "b"), ("blues", "c"), ("jazz", "a"), ("jazz", "x.y"), ("rock", "a"),
    }  # fmt: skip
    assert [track.genre for track in tracks] == sorted(track.genre for track in tracks)
    assert (empty, stray) == ([], [])


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    make_files(tmp_path, ["blues/a.wav", "blues/._a.wav", "blues/.cache/b.wav", ".trash/c.wav", ".d.wav"])
    tracks, empty, stray = find_tracks(tmp_path)
    assert [track.path for track in tracks] == [tmp_path / "blues/a.wav"]
    assert (empty, stray) == ([], [])


def test_empty_genres_and_stray_files_are_named(tmp_path):
    make_files(tmp_path, ["blues/a.wav", "jazz/notes.txt", "stray.wav", "readme.txt"])
    (tmp_path / "rock" / "album").mkdir(parents=True)
    tracks, empty, stray = find_tracks(tmp_path)
    assert len(tracks) == 1
    assert empty == ["jazz", "rock"]
    assert stray == [tmp_path / "stray.wav"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_links_that_lead_back_end(tmp_path):
    make_files(tmp_path, ["genres/blues/album/a.wav", "elsewhere/b.wav"])
    blues = tmp_path / "genres" / "blues"
    (blues / "album" / "back").symlink_to(blues)
    (blues / "self").symlink_to(".")
    (blues / "out").symlink_to(tmp_path / "elsewhere")
    tracks, _, _ = find_tracks(tmp_path / "genres")
    assert sorted(track.track_id for track in tracks) == ["a", "b"]


@pytest.mark.parametrize(
    "names, root, message",
    [
        ([], "missing", "no such folder"),
        (["genres.wav"], "genres.wav", "is a file"),
        (["genres/notes.txt"], "genres", "no audio file"),
        (["genres/blues/notes.txt"], "genres", "no audio file"),
        (["genres/a.wav", "genres/b.wav"], "genres", "2 audio files .* no genre folders"),
        (
            ["Data/genres_original/blues/a.wav", "Data/genres_original/jazz/b.wav", "Data/images_original/blues/a.png"],
            "Data",
            "Data/genres_original looks like the folder of genres; did you mean that",
        ),
        (["music/train/blues/a.wav", "music/val/blues/b.wav"], "music", "train and val .* python -m render .*train"),
        (["genres/blues/a.PNG", "genres/jazz/b.jpg"], "genres", "2 pictures and no audio.*python -m vision.split"),
    ],
)
def test_a_root_without_tracks_is_an_error_that_says_what_it_holds(tmp_path, names, root, message):
    make_files(tmp_path, names)
    with pytest.raises(MelvisionError, match=message) as caught:
        find_tracks(tmp_path / root)
    assert str(tmp_path / root) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_system_folders_are_no_genres_and_vanished_folders_are_named(tmp_path):
    names = ["rock/a.wav", "rock/@eaDir/a.wav", "$RECYCLE.BIN/S-1-5/b.wav", "System Volume Information/c.wav"]
    names += ["jazz/d.wav", "jazz/._d.wav", "lost+found/e.wav", "__MACOSX/jazz/._d.wav", "found.000/f.wav"]
    make_files(tmp_path, [*names, ".stfolder/x", "#recycle/jazz/old.wav"])
    (tmp_path / "pop").symlink_to(tmp_path / "gone")
    (tmp_path / "rock" / "album").symlink_to(tmp_path / "gone")
    passed = PassedOver()
    tracks, empty, stray = find_tracks(tmp_path, passed)
    assert [(track.genre, track.track_id) for track in tracks] == [("jazz", "d"), ("rock", "a")]
    assert (empty, stray) == ([], [])
    assert passed.system.total() == 9 and passed.covers == 0
    assert list(passed.unreadable) == [tmp_path / "pop", tmp_path / "rock" / "album"]
