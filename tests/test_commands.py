"""What every command does before it imports torch."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Those that compute on the device; vision.export computes on the CPU.
COMMANDS = [
    "check",
    "train",
    "crossval",
    "tune",
    "evaluate",
    "predict",
    "explain",
    "embed",
    "map",
    "organise",
    "listen",
    "serve",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_mps_fallback_is_set_before_torch_is_imported(command):
    code = f"import sys, os; import vision.{command}; assert 'torch' not in sys.modules\n"
    code += "print(os.environ['PYTORCH_ENABLE_MPS_FALLBACK'])"
    environment = {name: value for name, value in os.environ.items() if name != "PYTORCH_ENABLE_MPS_FALLBACK"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "1", done.stderr


@pytest.mark.slow
def test_one_command_runs_all(tmp_path):
    """``melvision train`` is ``python -m vision.train``, with its exit code."""
    scripts = Path(sys.executable).parent
    program = shutil.which("melvision", path=str(scripts))
    assert program, f"pip install has made no melvision in {scripts}"

    def run(*arguments):
        return subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True)

    listed = run()
    assert listed.returncode == 0 and "python -m vision.train" in listed.stdout
    for name, module in (("render", "render"), ("train", "vision.train"), ("split", "vision.split")):
        helped = run(name, "--help")
        assert helped.returncode == 0 and helped.stdout.startswith(f"usage: python -m {module} ")
    wrong = run("evaluate", "runs/none")
    assert wrong.returncode == 2 and "there is none in runs yet" in wrong.stderr and wrong.stderr.count("\n") == 1
    unknown = run("tarin")
    assert unknown.returncode == 2 and "tarin" in unknown.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_freed_memory_is_kept_by_commands_only(command):
    """It is a setting of the whole process, so the library leaves it alone; see `keep_freed_memory`."""
    source = (ROOT / "vision" / f"{command}.py").read_text("utf-8")
    assert source.count("keep_freed_memory()") == 1
    others = [path for path in (ROOT / "vision").glob("*/*.py") if "keep_freed_memory()" in path.read_text("utf-8")]
    assert [path.name for path in others] == ["device.py"], "where it is defined"
