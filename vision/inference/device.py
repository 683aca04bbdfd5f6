"""What to compute on: device, precision, threads and memory."""

import contextlib
import ctypes
import platform
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch

from render.errors import ParameterError

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def pick_device(name: str = "auto") -> torch.device:
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
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if name == "auto":
        return torch.device(available[0])
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is not None and device.type in available:
        count = torch.cuda.device_count() if device.type == "cuda" else 1
        if (device.index or 0) < count:
            return device
    raise ParameterError("device", name, f"one that is available here: {', '.join(available)}")


def _cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware; where it does not, bf16 was 6 times slower than fp32."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
        return "avx512_bf16" in flags or "amx_bf16" in flags
    except (OSError, IndexError):
        pass
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    # Private, and not in every version of torch.
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check)


def pick_precision(name: str, device: torch.device) -> str:
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


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Return the context in which the network runs: bf16 autocast, or nothing."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def use_threads(n: int | None) -> int:
    """Compute on `n` CPU threads; None leaves torch's choice. Returns the number in use.

    Results depend on it in their last bits, so it is stored with a run.
    """
    if n:
        torch.set_num_threads(n)
    return torch.get_num_threads()


#: Pieces of work per thread that are started before the first result is taken.
AHEAD = 8


def in_order(
    work: Callable[[Piece, threading.Event], Result], pieces: Iterable[Piece], workers: int
) -> Iterator[Result]:
    """Work on several pieces at once in threads, each with its share of torch's own threads.

    Threads that each compute their own piece do not wait for each other. Those over which torch divides one
    computation wait for the slowest of them at every layer, and much longer where the cores have other work.
    Until the last result torch has fewer threads everywhere in the process.

    Parameters
    ----------
    work : callable
        Takes a piece, and a `threading.Event` that is set once its result is not needed any more.
    pieces : iterable
        Taken as they are needed.
    workers : int
        How many threads; at most as many as torch has.

    Yields
    ------
    result : object
        What `work` returned, in the order of the pieces. An exception in it is raised here and ends the iteration.
    """
    remaining, stop, threads = iter(pieces), threading.Event(), torch.get_num_threads()
    with ThreadPoolExecutor(workers) as pool:
        try:
            torch.set_num_threads(threads // workers)
            ahead = deque(pool.submit(work, piece, stop) for piece in islice(remaining, AHEAD * workers))
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(pool.submit(work, piece, stop) for piece in islice(remaining, 1))
        finally:
            stop.set()
            torch.set_num_threads(threads)


#: Of GNU's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

#: Blocks up to so many MiB are kept; older libraries take no more than 32. A batch of 64 windows takes 33 in the
#: first layer.
BLOCKS = (64, 32)

#: MiB that are kept at most.
KEPT = 256


def keep_freed_memory() -> int:
    """Stop glibc from returning freed memory, up to `KEPT` MiB, between batches.

    By default it returns large blocks to the operating system at once, which clears every page before it gives it out
    again. Where layers fill 30 MB each, that was a third of the time of scoring and a tenth of that of training. The
    setting is the whole process's: commands call this, the library does not.

    Returns
    -------
    size : int
        Largest block that is kept, in MiB; 0 with another C library, where nothing is changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS; Alpine; Windows
        return 0
    # In this order: setting one of them stops the other from adjusting itself.
    size = next((size for size in BLOCKS if mallopt(_MMAP_THRESHOLD, size << 20)), 0)
    return size if size and mallopt(_TRIM_THRESHOLD, KEPT << 20) else 0
