"""Lists, groups files and connected components."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.errors import MelvisionError
from vision.splits.groups import connected_components, look_up, merge_groups, read_groups, read_list
from vision.splits.keys import track_key


@given(st.lists(st.tuples(st.integers(0, 8), st.one_of(st.none(), st.integers(0, 4))), min_size=1, max_size=40))
def test_components_are_exactly_what_is_connected(items):
    groups = connected_components([one for one, _ in items], [other for _, other in items])
    # The same by brute force: spread the smallest number until nothing changes.
    expected = list(range(len(items)))
    for _ in items:
        for a, left in enumerate(items):
            for b, right in enumerate(items):
                if left[0] == right[0] or (left[1] is not None and left[1] == right[1]):
                    expected[a] = expected[b] = min(expected[a], expected[b])
    assert groups == expected


def test_lists_and_groups_with_and_without_genre(tmp_path):
    (tmp_path / "list.txt").write_text("rock/01.wav\n\nplain 7.mp3\n")
    keys = read_list(tmp_path / "list.txt")
    assert look_up(keys, "rock", "01")
    assert not look_up(keys, "blues", "01")
    assert look_up(keys, "blues", track_key("plain 7.png"))
    (tmp_path / "index.txt").write_text("rock.00001.wav ::: The  Who ::: My Generation\nrock.00002.wav ::: ::: \n")
    assert read_groups(tmp_path / "index.txt") == {"rock00001": "the who"}
    for text in ("", "one column\n"):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(MelvisionError, match=r"track,group"):
            read_groups(tmp_path / "bad.csv")
    with pytest.raises(MelvisionError, match="cannot be read"):
        read_list(tmp_path / "nowhere.txt")


def test_merged_groups_keep_together_what_either_file_does(tmp_path):
    artists = {"rock00001": "queen", "metal00001": "dio", "pop/x": "queen"}
    near = {"rock/rock00001": "recording of a", "metal/metal00009": "recording of a", "blues/b": "recording of b"}
    groups = merge_groups([artists, near])
    tied = {look_up(groups, "rock", "rock00001"), look_up(groups, "metal", "metal00009"), look_up(groups, "pop", "x")}
    assert len(tied) == 1
    assert look_up(groups, "metal", "metal00001") == "dio"
    assert look_up(groups, "blues", "b") == "recording of b"
    assert merge_groups([artists]) == artists
    assert merge_groups([{"a": "1"}, {"b": "1"}]) == {"a": "1", "b": "1"}


@given(st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("1234"), min_size=1), min_size=1))
def test_merging_keeps_every_group_together(tables):
    groups = merge_groups(tables)
    assert set(groups) == {key for table in tables for key in table}
    for table in tables:
        for a in table:
            for b in table:
                assert table[a] != table[b] or groups[a] == groups[b]


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "groups.csv").write_bytes("a,b\n".encode("utf-16"))
    with pytest.raises(MelvisionError, match="is no text"):
        read_groups(tmp_path / "groups.csv")
