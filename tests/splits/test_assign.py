"""No group is ever in two splits."""

from hypothesis import given
from hypothesis import strategies as st

from vision.splits.assign import SPLITS, Row, assign_splits, straddling_groups


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.integers(0, 6)), min_size=3, max_size=60),
    st.integers(0, 3),
)
def test_groups_never_straddle(items, seed):
    """Tracks, equal pixels and artists drawn at random, half of them assigned earlier by somebody."""
    rows = [
        Row(f"{genre}/{number}", genre, f"t{track}", "", ["", SPLITS[number % 3]][number % 2], "", f"p{number // 2}")
        for number, (genre, track, _) in enumerate(items)
    ]
    groups = {f"t{track}": f"artist{track % 4}" for _, track, artist in items if artist < 2}
    before = [row.split for row in rows]
    assign_splits(rows, [], lists={}, groups=groups, ratios={"train": 0.8, "dev": 0.1, "test": 0.1}, seed=seed)
    assert straddling_groups(rows) == []
    assert all(row.split for row in rows)
    assert all(was in ("", row.split) for was, row in zip(before, rows, strict=True))
