"""Lists, groups files and connected components."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.errors import MelvisionError
from vision.splits.groups import connected_components, look_up, read_groups, read_list
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
