"""What the benchmarks share: calls timed in turns, so that a busy machine slows all of them alike."""

import os
import platform
import statistics
import time


def in_turns(calls, rounds):
    """Time some calls, after each was made once untimed.

    Parameters
    ----------
    calls : dict of str to callable
        What to time, by name.
    rounds : int
        How often.

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


def spread(values, digits=1):
    """Median and range as text."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def machine(device, precision):
    """A line that says what was measured on."""
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
    told = f"{device.type}, {precision}, {os.cpu_count()} cores ({name}), {torch.get_num_threads()} threads"
    return f"{told}, torch {torch.__version__}"
