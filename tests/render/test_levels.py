"""The folder above the folder of genres, and the folders of a split, are named and not taken for genres."""

from pathlib import Path

import pytest

from render.levels import wrong_level


def check(names, root="Data"):
    files = {}
    for name in names:
        files.setdefault(name.split("/")[0], []).append(Path(root, name))
    return wrong_level(Path(root), files, "run")


@pytest.mark.parametrize(
    "names",
    [
        ["genres_original/blues/blues.00000.wav", "genres_original/jazz/jazz.00000.wav"],
        ["fma/Folk/1.mp3", "fma/Hip-Hop/2.mp3", "fma/Chiptune/3.mp3"],
        ["audio/Forró/a.wav", "audio/Sertão/b.wav"],
        ["x/y/zydeco/zydeco.00001.wav", "x/y/cajun/cajun_2.wav"],
        ["images_3sec/a/1.png", "images_3sec/b/1.png", "songs/u/1.png", "songs/v/1.png"],
        ["images/train/a/1.png", "images/test/a/2.png"],
    ],
)
def test_a_folder_above_the_genres_is_named(names):
    problem = check(names)
    folder = "Data/x/y" if names[0].startswith("x") else "Data/" + names[0].split("/")[0]
    assert folder in problem and "did you mean" in problem


@pytest.mark.parametrize("dev", ["val", "validation", "dev", "test", "Test"])
def test_folders_of_a_split_are_named(dev):
    assert "Data/train" in check(["train/blues/a.wav", f"{dev}/blues/b.wav"])
    assert "Data/train" in check(["train/a.wav", f"{dev}/b.wav"])


@pytest.mark.parametrize(
    "names",
    [
        ["blues/a.wav", "jazz/b.wav"],
        ["rock/Artist A/1.wav", "rock/Artist B/1.wav"],
        ["Schlager/Queen/1.wav", "Schlager/Jazz/1.wav", "Schlager/C/1.wav"],
        ["electronic/house/1.wav", "electronic/techno/1.wav", "rock/punk/1.wav", "rock/metal/1.wav"],
        ["rock/CD1/1.wav", "rock/CD2/1.wav", "jazz/CD1/1.wav", "jazz/CD2/1.wav"],
        ["World Music/A/1.wav", "World Music/B/1.wav"],
        ["own/album/1.wav"],
        ["train/a.wav", "blues/b.wav"],
        ["rock/a.wav", "rock/b.wav", "various/jazz/a.wav", "various/blues/a.wav"],
        [],
    ],
)
def test_genres_with_artists_albums_and_styles_below_are_genres(names):
    assert check(names) is None
