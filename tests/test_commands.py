"""What every command does before it imports torch."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_mps_fallback_is_set_before_torch():
    code = "import sys, os; import vision.train; assert 'torch' not in sys.modules\n"
    code += "print(os.environ['PYTORCH_ENABLE_MPS_FALLBACK'])"
    environment = {name: value for name, value in os.environ.items() if name != "PYTORCH_ENABLE_MPS_FALLBACK"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "1", done.stderr
