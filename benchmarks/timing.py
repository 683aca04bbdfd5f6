"""What the benchmarks share: calls are timed in turns, so that a busy machine slows all of them alike."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def in_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time some calls in turns, after calling each once untimed.

    Parameters
    ----------
    calls : dict of str to callable
        What to time, by name.
    rounds : int
        How often each is timed.

    Returns
    -------
    times : dict of str to list of float
        Seconds of each round.
    """
    for call in calls.values():
        call()
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return times


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return the median and the range as text."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def machine(device: "torch.device", precision: str) -> str:
    """Return a line that names the hardware and the version of torch."""
    import torch

    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = platform.processor() or platform.machine()
        try:
            with open("/proc/cpuinfo", encoding="utf-8") as file:
                name = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
        except (OSError, StopIteration):
            pass
    hardware = f"{device.type}, {precision}, {os.cpu_count()} cores ({name}), {torch.get_num_threads()} threads"
    return f"{hardware}, torch {torch.__version__}"
