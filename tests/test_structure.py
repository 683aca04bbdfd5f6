"""The rules of the design that can be read off the source."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Top to bottom: inside a package a module imports only what stands above it.
RENDER = [
    "cli", "atomic", "audio", "tracks", "settings", "spectrogram", "stack", "png", "augment", "figure",
    "child", "workers", "batch", "features", "demo", "__main__",
]  # fmt: skip
VISION = [
    "groups", "assign", "colours", "transforms", "pixels", "genres", "files", "store", "pictures", "leaks", "split",
    "similar", "traits", "doubts", "health",
    "config", "texture", "kernel", "models", "augment", "engine", "second", "calibration", "parallel", "metrics",
    "recipe", "checkpoint", "attribution", "exported", "memory", "threads", "predictor", "wording", "timeline",
    "stream", "watch",
    "plots", "heatmaps", "page", "run_page", "health_page", "report",
    "pooled", "learn", "run", "seeds", "answers", "web",
]  # fmt: skip
#: Thin command lines: nothing imports them.
PROGRAMS = ["check", "train", "crossval", "evaluate", "explain", "predict", "listen", "export", "serve"]
COMMANDS = ["render", "render.demo", "render.features", "vision"]
COMMANDS += ["vision.split", *(f"vision.{name}" for name in PROGRAMS)]


def imports(path):
    """Modules of ours that a file imports, anywhere in it, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" if "." not in node.module else node.module for name in node.names}
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


def test_every_module_is_in_the_order():
    assert {path.stem for path in (ROOT / "render").glob("*.py")} - {"__init__"} == set(RENDER)
    assert {path.stem for path in (ROOT / "vision").glob("*.py")} - {"__init__", "__main__"} == {*VISION, *PROGRAMS}


def test_the_list_of_commands_is_whole():
    told = subprocess.run([sys.executable, "-m", "vision"], capture_output=True, text=True, cwd=ROOT).stdout
    assert set(re.findall(r"python -m vision\.(\w+)", told)) == {"split", *PROGRAMS}


@pytest.mark.parametrize("name", RENDER)
def test_render_imports_only_upwards(name):
    found = imports(ROOT / "render" / f"{name}.py")
    assert not any(module.split(".")[0] in ("vision", "torch", "torchvision") for module in found)
    below = {f"render.{other}" for other in RENDER[RENDER.index(name) :]}
    assert not found & below


@pytest.mark.parametrize("name", VISION + PROGRAMS)
def test_vision_imports_only_upwards(name):
    found = imports(ROOT / "vision" / f"{name}.py")
    above = VISION[: VISION.index(name)] if name in VISION else VISION
    allowed = {f"vision.{other}" for other in above}
    assert {module for module in found if module.startswith("vision.")} <= allowed


@pytest.mark.parametrize("name", VISION + PROGRAMS)
def test_vision_reads_pictures_but_audio_only_in_the_predictor(name):
    found = {module for module in imports(ROOT / "vision" / f"{name}.py") if module.startswith("render.")}
    free = {"render.png", "render.settings", "render.cli", "render.atomic", "render.__version__"}
    if name == "predictor":
        free |= {"render.audio", "render.tracks", "render.batch"}
    if name == "stream":  # sound that is no file: new frames only are drawn
        free |= {"render.audio", "render.batch", "render.spectrogram"}
    if name == "heatmaps":  # frequencies are named as on the figures that render draws
        free |= {"render.figure"}
    if name == "genres":  # links are followed as render follows them
        free |= {"render.tracks"}
    if name == "files":  # which files are audio
        free |= {"render.audio", "render.tracks"}
    modules = {module for module in found if module.count(".") == 1}
    assert {".".join(module.split(".")[:2]) for module in modules} <= free


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


def test_modules_stay_short():
    for path in [*(ROOT / "render").glob("*.py"), *(ROOT / "vision").glob("*.py")]:
        assert path.read_text("utf-8").count("\n") <= 300, path


def test_public_things_have_docstrings():
    for path in [*(ROOT / "render").glob("*.py"), *(ROOT / "vision").glob("*.py")]:
        tree = ast.parse(path.read_text("utf-8"))
        assert ast.get_docstring(tree), path
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node) or node.name == "get_parser", f"{path}: {node.name}"
