"""What to compute on: device, precision, threads and memory."""

import contextlib
import ctypes
import platform
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import torch

from render.errors import ParameterError


def pick_device(name="auto"):
    """Return the device to compute on: CUDA, then Apple's MPS, then the CPU.

    Parameters
    ----------
    name : str
        ``"auto"``, or a device to insist on, such as ``"cpu"`` or ``"cuda:1"``.

    Raises
    ------
    ParameterError
        When that device is not available; the message names those that are.
    """
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there.insert(0, "cuda")
    if name == "auto":
        return torch.device(there[0])
    try:
        device = torch.device(name)
        several = torch.cuda.device_count() if device.type == "cuda" else 1
        good = device.type in there and (device.index or 0) < several
    except RuntimeError:
        good = False
    if not good:
        raise ParameterError("device", name, f"one that is available here: {', '.join(there)}")
    return device


def _cpu_has_bf16():
    """Whether this CPU multiplies bf16 in hardware; where it does not, bf16 was 6 times slower than fp32."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
        return "avx512_bf16" in flags or "amx_bf16" in flags
    except (OSError, IndexError):
        pass
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask() for ask in asked if ask)


def pick_precision(name, device):
    """Return ``"bf16"`` where it pays, else ``"fp32"``.

    Parameters
    ----------
    name : str
        ``"auto"``, or a precision to insist on.
    device : torch.device
        On CUDA bf16 where supported, on a CPU with AVX512_BF16 or AMX, else fp32.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"


def autocast(device, precision):
    """Return the context in which the network runs: bf16 autocast, or nothing."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def use_threads(n):
    """Compute on `n` CPU threads; None leaves torch's choice. Returns the number in use.

    Results depend on it in the last bits, so it is stored with a run.
    """
    if n:
        torch.set_num_threads(n)
    return torch.get_num_threads()


#: Pieces of work for each thread that are begun or done before the first result is taken.
AHEAD = 8


def in_order(work, pieces, workers):
    """Do pieces of work in several threads, each on its share of torch's own threads.

    Several threads that each compute their own piece wait for nobody. Those in which torch shares out one
    computation wait for the slowest of them at every layer, and much longer where the cores have other work.
    Until the end torch has fewer threads elsewhere too.

    Parameters
    ----------
    work : callable
        Takes a piece, and a `threading.Event` that is set once nobody wants the result.
    pieces : iterable
        Taken as they are needed.
    workers : int
        How many threads; at most as many as torch has.

    Yields
    ------
    result : object
        What `work` returned, in the order of the pieces. What it raises is raised, and ends it all.
    """
    pieces, stop, threads = iter(pieces), threading.Event(), torch.get_num_threads()
    with ThreadPoolExecutor(workers) as pool:
        try:
            torch.set_num_threads(threads // workers)
            ahead = deque(pool.submit(work, piece, stop) for piece in islice(pieces, AHEAD * workers))
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(pool.submit(work, piece, stop) for piece in islice(pieces, 1))
        finally:
            stop.set()
            torch.set_num_threads(threads)


#: Of GNU's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

#: MiB from which a block is the system's own business; older libraries take no more than 32. A batch of 64 windows is
#: 33 in the first layer.
BLOCKS = (64, 32)

#: MiB that are kept at most.
KEPT = 256


def keep_freed_memory():
    """Tell the C library to keep freed memory, up to `KEPT` MiB, where it is GNU's.

    By default it hands large blocks back at once, and the system clears every page that it hands out again.
    Where layers fill 30 MB each, that was a third of the time of scoring and a tenth of that of training.

    Returns
    -------
    size : int
        MiB that a block may have at most to be kept; 0 where it is another C library's business.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS; Alpine; Windows
        return 0
    # In this order: once one of them is set, the other does not grow by itself any more.
    size = next((size for size in BLOCKS if mallopt(_MMAP_THRESHOLD, size << 20)), 0)
    return size if size and mallopt(_TRIM_THRESHOLD, KEPT << 20) else 0
