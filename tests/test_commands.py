"""What every command does before it imports torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Those that compute on the device; vision.export computes on the CPU.
COMMANDS = ["check", "train", "crossval", "evaluate", "predict", "explain", "embed", "map", "listen", "serve"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_mps_fallback_is_set_before_torch_is_imported(command):
    code = f"import sys, os; import vision.{command}; assert 'torch' not in sys.modules\n"
    code += "print(os.environ['PYTORCH_ENABLE_MPS_FALLBACK'])"
    environment = {name: value for name, value in os.environ.items() if name != "PYTORCH_ENABLE_MPS_FALLBACK"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "1", done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_freed_memory_is_kept_by_commands_only(command):
    """It is a setting of the whole process, so the library leaves it alone; see `keep_freed_memory`."""
    source = (ROOT / "vision" / f"{command}.py").read_text("utf-8")
    assert source.count("keep_freed_memory()") == 1
    others = [path for path in (ROOT / "vision").glob("*/*.py") if "keep_freed_memory()" in path.read_text("utf-8")]
    assert [path.name for path in others] == ["device.py"], "where it is defined"
