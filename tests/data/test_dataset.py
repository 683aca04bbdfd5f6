"""Genre folders as a torchvision data set."""

import os

import pytest

from render.errors import MelvisionError
from tests.conftest import write_tree
from vision.data.dataset import SpectrogramFolder


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_links_that_lead_back_end_and_change_no_genre(images, tmp_path):
    """The first genre's link to the top would make all pictures its own; two of them more paths than can be listed."""
    before = SpectrogramFolder(images).samples
    for genre in ("blues", "jazz"):
        (images / genre / "up").symlink_to("..")
        (images / genre / "self").symlink_to(".")
    (images / "blues" / "metal").symlink_to("../metal")
    assert SpectrogramFolder(images).samples == before
    write_tree(tmp_path / "elsewhere", 1, ["jazz"], start=90)
    (images / "jazz" / "more").symlink_to(tmp_path / "elsewhere")
    added = set(SpectrogramFolder(images).samples) - set(before)
    assert added == {(str(images / "jazz/more/jazz/jazz.00090.png"), 1)}
    (images / "rock").symlink_to(tmp_path / "elsewhere" / "jazz")
    assert SpectrogramFolder(images, ["blues", "jazz", "metal", "pop", "rock"]).empty == ["pop"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_a_genre_folder_may_be_a_link(tmp_path):
    write_tree(tmp_path / "music", 2, ["jazz", "metal"])
    (tmp_path / "images").mkdir()
    for genre in ("jazz", "metal"):
        (tmp_path / "images" / genre).symlink_to(tmp_path / "music" / genre)
    assert [label for _, label in SpectrogramFolder(tmp_path / "images").samples] == [0, 0, 1, 1]


def test_the_folder_above_the_genres_is_named(images, tmp_path):
    (tmp_path / "Data").mkdir()
    images.rename(tmp_path / "Data" / "images_original")
    write_tree(tmp_path / "Data" / "images_3sec", 1)
    for classes in (None, ["blues", "jazz", "metal"]):
        with pytest.raises(MelvisionError, match="images_original look like folders of genres; did you mean"):
            SpectrogramFolder(tmp_path / "Data", classes)
    (tmp_path / "Data" / "images_3sec").rename(tmp_path / "other")
    with pytest.raises(MelvisionError, match="images_original looks like the folder of genres; did you mean that"):
        SpectrogramFolder(tmp_path / "Data")


def test_the_folders_of_a_split_are_no_genres(tmp_path):
    for split in ("train", "val", "test"):
        write_tree(tmp_path / split, 1)
    with pytest.raises(MelvisionError, match="test and train and val folders and not genres"):
        SpectrogramFolder(tmp_path)


def test_flat_folders_are_not_sent_to_a_command_that_refuses_them(images, tmp_path):
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.wav").touch()
    with pytest.raises(MelvisionError, match="holds 1 audio files but no genre folders; expected one folder a genre"):
        SpectrogramFolder(tmp_path / "flat")
    (tmp_path / "flat" / "genres" / "jazz").mkdir(parents=True)
    (tmp_path / "flat" / "a.wav").rename(tmp_path / "flat" / "genres" / "jazz" / "a.wav")
    (tmp_path / "flat" / "genres" / "rock").mkdir()
    (tmp_path / "flat" / "genres" / "rock" / "a.wav").touch()
    with pytest.raises(MelvisionError, match="genres looks like the folder of genres"):
        SpectrogramFolder(tmp_path / "flat")
    with pytest.raises(MelvisionError, match="Draw pictures of it first: python -m render .*genres"):
        SpectrogramFolder(tmp_path / "flat" / "genres")
    with pytest.raises(MelvisionError, match="holds 10 pictures but no genre folders"):
        SpectrogramFolder(images / "jazz")
