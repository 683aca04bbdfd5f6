"""Reading the CSV tables that melvision writes; `render.atomic.write_csv` writes them."""

import csv
from pathlib import Path
from typing import TextIO


def open_csv(path: str | Path) -> TextIO:
    """Open a CSV table to read, for `csv.reader`.

    Parameters
    ----------
    path : str or Path
        A UTF-8 file. Bytes that are not valid UTF-8, as file names may hold, become surrogates.
    """
    return open(path, encoding="utf-8", errors="surrogateescape", newline="")


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """Read a CSV table with a header.

    Parameters
    ----------
    path : str or Path
        See `open_csv`.

    Returns
    -------
    rows : list of dict
        Cells by column name; a cell that its row lacks is None.

    Raises
    ------
    OSError
        When the file cannot be read.
    csv.Error
        When it is no CSV.
    """
    with open_csv(path) as file:
        return list(csv.DictReader(file))
