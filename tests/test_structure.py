"""Rules of the design that can be checked in the source."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Commands that nothing imports.
PROGRAMS = ["check", "train", "crossval", "tune", "evaluate", "compare", "report", "explain", "predict", "embed", "map"]
PROGRAMS += ["organise", "listen", "export", "serve"]
COMMANDS = ["render", "render.demo", "render.features", "vision"]
COMMANDS += ["vision.split", *(f"vision.{name}" for name in PROGRAMS)]


def test_the_list_of_commands_is_whole():
    listing = subprocess.run([sys.executable, "-m", "vision"], capture_output=True, text=True, cwd=ROOT).stdout
    assert set(re.findall(r"python -m vision\.(\w+)", listing)) == {"split", *PROGRAMS}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_quick_because_nothing_heavy_is_imported(command):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['{command}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('{command}', run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0\n"
        "heavy = {'torch', 'torchvision', 'librosa', 'matplotlib', 'scipy', 'sklearn', 'joblib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "example: python -m " in done.stdout


def public_functions(tree):
    """Public functions of a module, and methods of its public classes, `__init__` and `__call__` among them."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
            not node.name.startswith("_") or node.name in ("__init__", "__call__")
        ):
            yield node


SOURCES = [path for package in ("render", "vision") for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_public_things_have_docstrings_and_types(path):
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node) or node.name == "get_parser", node.name
    for function in public_functions(tree):
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        untyped = [one.arg for one in arguments if one.annotation is None and one.arg not in ("self", "cls")]
        assert not untyped, f"{function.name}: {untyped}"
        assert function.returns is not None or function.name == "__init__", f"{function.name}: returns what?"
