"""Reading the CSV tables that melvision writes; `render.atomic.write_csv` writes them."""

import csv
from pathlib import Path


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """Read a CSV table with a header.

    Parameters
    ----------
    path : str or Path
        A UTF-8 file. Bytes that are not valid UTF-8, as file names may hold, are kept as surrogates.

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
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))
