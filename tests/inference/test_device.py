"""The choice of device and precision; freed memory is kept, or left to a C library that is not GNU's."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vision.inference import device
from vision.inference.device import keep_freed_memory, pick_device, pick_precision

ROOT = Path(__file__).parents[2]

#: Fills blocks larger than GNU's library keeps by itself, over and over; tells how many pages the system had to clear.
FILL = """
import resource, sys, torch
from vision.inference.device import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else 0
for number in range(30):
    if number == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    parts = [torch.ones(40 << 20, dtype=torch.uint8) for _ in range(3)]
    del parts
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def fill(how):
    done = subprocess.run([sys.executable, "-c", FILL, how], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    kept, pages = map(int, done.stdout.split())
    return kept, pages


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no such count")
def test_what_is_freed_is_filled_again_without_the_system():
    kept, pages = fill("keep")
    if kept < 64:
        pytest.skip("not GNU's C library, or an old one")
    _, otherwise = fill("leave")
    assert otherwise > 20 * 3 * 10  # in pages of up to 4 MiB
    assert pages < otherwise / 10


def test_other_c_libraries_are_left_alone(monkeypatch):
    class Other:
        def __init__(self, name):
            pass

    monkeypatch.setattr(device.ctypes, "CDLL", Other)
    assert keep_freed_memory() == 0


@pytest.mark.parametrize(
    ("largest", "expected"),
    [(64, [(-3, 64), (-1, 256)]), (32, [(-3, 64), (-3, 32), (-1, 256)]), (0, [(-3, 64), (-3, 32)])],
)
def test_an_older_library_takes_smaller_blocks_or_is_left_alone(largest, expected, monkeypatch):
    """Half a setting would be worse than none: the one threshold would stay at 128 KiB for good."""
    asked = []

    class Library:
        def __init__(self, name):
            pass

        def mallopt(self, parameter, value):
            asked.append((parameter, value >> 20))
            return int(parameter == -1 or value >> 20 <= largest)

    monkeypatch.setattr(device.ctypes, "CDLL", Library)
    assert keep_freed_memory() == largest
    assert asked == expected


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_device_choice(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device().type == expected
    assert pick_device("cpu").type == "cpu"
    if not mps:
        with pytest.raises(ValueError, match="device='mps'"):
            pick_device("mps")


def test_precision_follows_the_hardware(monkeypatch):
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: True)
    assert pick_precision("auto", torch.device("cpu")) == "bf16"
    assert pick_precision("fp32", torch.device("cpu")) == "fp32"
    assert pick_precision("auto", torch.device("mps")) == "fp32"
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: False)
    assert pick_precision("auto", torch.device("cpu")) == "fp32"
