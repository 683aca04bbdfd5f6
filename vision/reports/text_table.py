"""Tables as lines of text."""

from collections.abc import Iterable, Sequence

from render.cli import one_line
from vision.splits.folder import SplitResult


def text_table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    """Format a table as lines of text; the first column is aligned left, the others right.

    Parameters
    ----------
    header : sequence
        Names of the columns.
    rows : iterable of sequences
        Cells in the order of the header.

    Returns
    -------
    lines : list of str
        The header first.
    """
    cells = [[one_line(cell) for cell in row] for row in [header, *rows]]
    first, *widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([f"{row[0]:{first}}", *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths, strict=True))])
        for row in cells
    ]


def split_lines(result: SplitResult) -> list[str]:
    """Format the number of pictures by genre and split, and of the tracks where several pictures are of one.

    Parameters
    ----------
    result : SplitResult

    Returns
    -------
    lines : list of str
        One a genre, between a header and the totals.
    """
    counts, tracks = result.counts(), result.tracks()
    columns = list(next(iter(counts.values())))
    totals = {name: sum(row[name] for row in counts.values()) for name in columns}
    rows = [[genre, *row.values()] for genre, row in counts.items()] + [["all", *totals.values()]]
    if any(tracks[split] < totals[split] for split in tracks):
        rows.append(["tracks", *(tracks.get(name, "") for name in columns)])
    return text_table(["genre", *columns], rows)
