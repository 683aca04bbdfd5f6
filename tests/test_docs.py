"""The documentation runs: Python snippets, command lines and the notebook, each as written."""

import argparse
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: The words of a fence's info string that keep a block from being run, and name shells.
NOT_TESTED, SHELL = "notest", ("bash", "sh", "console", "powershell")

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```", re.M | re.S)
COMMAND = re.compile(r"python3? -m (render|vision|benchmarks)(\.[a-z_]+)*(?!\.?\w)[^\n`]*")  # not vision.NAME


def blocks(page, language):
    """Each block of one language that is to be run: its first line in the page, and its text."""
    text = page.read_text("utf-8")
    for match in FENCE.finditer(text):
        words = match[1].split()
        if words[:1] == [language] and NOT_TESTED not in words:
            yield text.count("\n", 0, match.start()) + 2, match[2]


def command_lines(page):
    """Each ``python -m`` line, in fences and in running text, as a list of words without comments."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    for match in COMMAND.finditer(text):
        line = match[0].split(" #")[0].split(" | ")[0].split("; ")[0].split(" > ")[0].split(" && ")[0].rstrip(" .,:)")
        yield shlex.split(line)


SNIPPETS = [pytest.param(code, id=f"{page.name}:{line}") for page in PAGES for line, code in blocks(page, "python")]
COMMANDS = sorted({(page.name, *words) for page in PAGES for words in command_lines(page)})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The folder that the documentation speaks of: genres/, images_original/, data/ and runs/standard-001."""
    from render import __main__ as render_command
    from render import demo
    from vision import split, train

    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert demo.main(["genres", "--tracks", "4", "--seconds", "4", "--jobs", "1"]) == 0
        assert render_command.main(["genres", "--jobs", "1"]) == 0
        assert split.main(["images_original"]) == 0
        assert train.main(["--epochs", "1", "--device", "cpu", "--precision", "fp32"]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("code", SNIPPETS)
def test_python_snippets_run(home, code):
    """In the order of the page, in one folder: a snippet may use what an earlier one has made."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "-c", code], cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def parser_of(module, monkeypatch):
    """The argument parser of a command, which is stopped when it parses."""
    parsers = []

    def remember(parser, args=None, namespace=None):
        parsers.append(parser)
        raise SystemExit

    loaded = importlib.import_module(module)
    if hasattr(loaded, "get_parser"):
        return loaded.get_parser()
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", remember)
        with pytest.raises(SystemExit):
            loaded.main()
    return parsers[0]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_command_lines_parse(words, monkeypatch, capsys):
    """The command exists, and has every flag, with a value that fits it. Running text may leave out the files."""
    _, _, _, module, *args = words
    parser = parser_of({"render": "render.__main__", "vision": "vision.__main__"}.get(module, module), monkeypatch)
    for action in parser._actions:
        action.required = False
    try:
        parser.parse_args(args)
    except SystemExit as stop:
        assert stop.code == 0, capsys.readouterr().err


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """On fewer and shorter tracks than the outputs that are saved in it."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel"), pytest.importorskip("pandas")
    path = ROOT / "docs" / "walkthrough.ipynb"
    notebook = nbformat.read(path, 4)
    assert path.stat().st_size < 400 << 10
    assert all(cell.outputs or cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    setup = next(cell for cell in notebook.cells if "TRACKS, SECONDS, EPOCHS" in cell.source)
    setup.source, replaced = re.subn(
        r"(?m)^TRACKS, SECONDS, EPOCHS = .*$", "TRACKS, SECONDS, EPOCHS = 5, 6, 1", setup.source
    )
    assert replaced == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("TMPDIR", str(tmp_path))
        client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
        client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum(bool({"image/png", "image/jpeg"} & set(output.get("data", ()))) for output in outputs) == 4
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
