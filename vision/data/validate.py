"""Checking what JSON and CSV files hold before it is used: people edit these files by hand.

What a file may hold is written down as a type, a `TypedDict` or dataclass whose fields may have ranges
(`msgspec.Meta`); msgspec compares. The line that a user gets is made here and nowhere else.
"""

import csv
import json
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from render.errors import MelvisionError
from vision.data.csv_files import open_csv

Kind = TypeVar("Kind")

#: A part of something, such as an accuracy.
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
#: A number of things of which there must be one.
Count = Annotated[int, msgspec.Meta(ge=1)]

#: Bytes of a JSON file, at most, and of a YAML file, which people write themselves.
LARGEST, LARGEST_YAML = 1 << 28, 1 << 20


def one_of(*values: str) -> msgspec.Meta:
    """Allow some words only: `Annotated[str, one_of("train", "dev")]`."""
    return msgspec.Meta(pattern=f"^({'|'.join(values)})$")


def check(value: Any, kind: type[Kind], *, text: bool = False) -> Kind:
    """Check a value that a file held, and convert it.

    Parameters
    ----------
    value : object
        What `json.loads` made of a file, or cells by column.
    kind : type
        What it must be. Keys that a `TypedDict` or dataclass does not have are passed over.
    text : bool
        Whether numbers are written as text, as cells are.

    Returns
    -------
    value : of type `kind`

    Raises
    ------
    ValueError
        When it is none; the message is ``key: found X; expected Y``.
    """
    try:
        return msgspec.convert(value, kind, strict=not text)
    except msgspec.ValidationError as error:
        raise ValueError(_complaint(str(error), value)) from None


def _complaint(message: str, value: Any) -> str:
    """Turn msgspec's message, such as "Expected `int`, got `str` - at `$.epochs`", into ours."""
    message, _, place = message.partition(" - at `$")
    place = place.removesuffix("`")
    key = place.removeprefix(".")
    missing = re.fullmatch(r"Object missing required field `(.+)`", message)
    if missing:
        return f"{key + '.' if key else ''}{missing[1]} is missing"
    expected = re.sub(r", got .*", "", message).replace("`", "").replace("Expected ", "expected ")
    words = re.fullmatch(r"expected str matching regex '\^\((.*)\)\$'", expected)
    if words:  # of `one_of`
        expected = f"expected one of {', '.join(word or 'nothing' for word in words[1].split('|'))}"
    if "[...]" in place:  # in a dictionary: the message does not say at which key
        return f"{key}: {expected}"
    for name, number in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", place):
        value = value[int(number)] if number else value[name]
    shown = repr(value)
    return f"{key + ': ' if key else ''}found {shown if len(shown) <= 60 else shown[:57] + '...'}; {expected}"


def read_json(path: str | Path, kind: type[Kind], todo: str) -> Kind:
    """Read a JSON file, or a YAML file by its ending, and check what it holds.

    Parameters
    ----------
    path : str or Path
        A file in UTF-8.
    kind : type
        As of `check`.
    todo : str
        What the user can do about a missing or damaged file, to end the message with.

    Returns
    -------
    content : of type `kind`

    Raises
    ------
    MelvisionError
        When the file is missing, is no JSON, holds a number that is not finite, or holds something else.
    """
    path = Path(path)
    try:
        is_yaml = path.suffix.lower() in (".yaml", ".yml")
        largest = LARGEST_YAML if is_yaml else LARGEST
        if path.stat().st_size > largest:
            raise ValueError(f"larger than {largest >> 20} MiB")
        text = path.read_text("utf-8")
        if is_yaml:
            return check(_parse_yaml(text), kind)
        return check(json.loads(text, parse_constant=_refuse_number, parse_float=_finite), kind)
    except OSError as error:
        raise MelvisionError(f"{path}: cannot be read ({error.strerror}); {todo}") from None
    except RecursionError:
        raise MelvisionError(f"{path}: damaged (nested too deeply); {todo}") from None
    except json.JSONDecodeError as error:
        raise MelvisionError(f"{path}: is no JSON (line {error.lineno}: {error.msg}); {todo}") from None
    except UnicodeDecodeError:
        raise MelvisionError(f"{path}: is not in UTF-8; {todo}") from None
    except ValueError as error:
        raise MelvisionError(f"{path}: {error}; {todo}") from None


def _parse_yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ValueError('YAML needs an extra: pip install -e ".[yaml]", or write it as JSON') from None

    class Loader(yaml.SafeLoader):
        """YAML 1.1 takes 1e-3, which has no point, for text."""

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ValueError("is no YAML" + (f" (line {mark.line + 1})" if mark else "")) from None


def _refuse_number(text: str) -> float:
    raise ValueError(f"found {text}; expected finite numbers")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text)


def read_rows(path: str | Path, kind: type[Kind], todo: str, columns: Collection[str] = ()) -> list[Kind]:
    """Read a CSV table with a header and check its rows.

    Parameters
    ----------
    path : str or Path
        See `vision.data.csv_files.open_csv`.
    kind : type
        As of `check`, of each row: cells by column name.
    todo : str
        As of `read_json`.
    columns : collection of str
        Columns that must be there though `kind` has a default for them.

    Returns
    -------
    rows : list of `kind`

    Raises
    ------
    MelvisionError
        When the file is missing, is no CSV, or has a row that holds something else; the message names its line.
    """
    line = 1
    try:
        with open_csv(path) as file:
            table = csv.reader(file)
            header = next(table, [])
            if len(set(header)) < len(header):
                raise ValueError("a column is there twice")
            for name in columns:
                if name not in header:
                    raise ValueError(f"there is no column {name}")
            rows = []
            for cells in table:
                line = table.line_num
                if len(cells) != len(header):
                    raise ValueError(f"found {len(cells)} cells; expected {len(header)}")
                rows.append(check(dict(zip(header, cells, strict=True)), kind, text=True))
            return rows
    except OSError as error:
        raise MelvisionError(f"{path}: cannot be read ({error.strerror}); {todo}") from None
    except (ValueError, csv.Error) as error:
        raise MelvisionError(f"{path}, line {line}: {error}; {todo}") from None
