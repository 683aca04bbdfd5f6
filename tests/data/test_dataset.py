"""Genre folders as a torchvision data set."""

import os

import pytest

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
