"""Run folders that somebody has edited: every command that reads one answers, or refuses it in one line."""

import csv
import importlib
import json
import random
import shutil

import pytest

from vision import crossval

pytestmark = pytest.mark.slow

#: What stands in place of a value; the last one stands for its removal.
VALUES = [None, True, -1, 0, 1e308, 10**30, float("nan"), "", "nope", [], {}, [1, 2, 3], {"a": 1}, "9" * 400, ...]
CELLS = ["", "nan", "-5", "x\0y", "9" * 5000, "../../etc/passwd", "é"]

COMMANDS = {
    "evaluate": ["--split", "dev"],
    "compare": [],
    "report": ["--thesis"],
    "explain": ["PICTURE", "-o", "OUT"],
    "predict": ["PICTURE", "--similar", "2"],
    "embed": ["PICTURE", "-o", "OUT.csv"],
    "train": [],
}


def places(content, path=()):
    """The keys that lead to each value in JSON."""
    inside = content.items() if isinstance(content, dict) else list(enumerate(content))[:1]
    for key, value in inside:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def edited_json(text, draw):
    content = json.loads(text)
    *path, last = draw.choice(list(places(content)))
    inner, value = content, draw.choice(VALUES)
    for key in path:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(content)


def edited_csv(text, draw):
    rows = list(csv.reader(text.splitlines()))
    at, column = draw.randrange(len(rows)), draw.randrange(len(rows[0]))
    match draw.randrange(5):
        case 0:
            rows[at][column] = draw.choice(CELLS)
        case 1:
            del rows[at]
        case 2:
            rows = [row[:column] + row[column + 1 :] for row in rows]
        case 3:
            rows.insert(at, rows[at])
        case 4:
            rows = rows[: draw.choice([0, 1])]
    return "\n".join(",".join(f'"{cell}"' for cell in row) for row in rows)


def edit(folder, name, draw):
    path = folder / name
    change = edited_json if name.endswith(".json") else edited_csv
    path.write_text(change(path.read_text("utf-8"), draw), "utf-8")


@pytest.fixture(scope="module")
def folds(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("folds") / "crossval"
    flags = "--folds 3 --epochs 1 --recipe quick --experts network --size 32 --threads 1 --device cpu".split()
    assert crossval.main([str(trained / "images"), "--out", str(out), *flags]) == 0
    return out


@pytest.mark.parametrize(
    "name", ["config.json", "metrics.json", "split.csv", "predictions.csv", "history.csv", "summary.json"]
)
def test_edits_end_in_an_answer_or_in_one_line(trained, folds, tmp_path, capsys, name):
    draw, refused = random.Random(name), 0
    source = folds if name == "summary.json" else trained / "run"
    picture = next((trained / "data" / "dev").rglob("*.png"))
    for number in range(40):
        command = draw.choice(["compare", "report"] if source is folds else [*COMMANDS])
        shutil.rmtree(tmp_path, ignore_errors=True)
        run = shutil.copytree(source, tmp_path / "run")
        edit(run, name, draw)
        names = {"PICTURE": str(picture), "OUT": str(tmp_path / "out"), "OUT.csv": str(tmp_path / "out.csv")}
        flags = [names.get(flag, flag) for flag in COMMANDS[command]]
        first = ["--resume", str(run)] if command == "train" else [str(run)]
        code = importlib.import_module(f"vision.{command}").main([*first, *flags])
        printed, told = capsys.readouterr()
        shown = (number, command, printed[-500:], told[-500:])
        assert code in (0, 1, 2), shown
        assert "Traceback" not in told and " nan " not in printed, shown
        errors = [line for line in told.splitlines() if line.startswith("error: ")]
        assert len(errors) == (code == 2), shown
        refused += code == 2
    assert refused, "none of the edits was noticed"
