"""One epoch of training, and probabilities for pictures. No files, no printing."""

import contextlib
import os
import platform
from pathlib import Path

import torch

from vision import augment

#: Pictures scored at a time; it changes no result, only the memory taken.
EVAL_BATCH = 64


def pick_device(name="auto"):
    """Return the device to compute on: CUDA, then Apple's MPS, then the CPU.

    Parameters
    ----------
    name : str
        ``"auto"``, or a device to insist on, such as ``"cpu"`` or ``"cuda:1"``.

    Raises
    ------
    ValueError
        When that device is not to be had; the message names those that are.
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
        raise ValueError(f"--device {name}: not available here; there is {', '.join(there)}")
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


def to_pixels(x, device):
    """Bring stored pictures to the network: uint8 to float32 in [0, 1], (B, C, H, W), channels last."""
    # Moved as bytes, a quarter of the traffic of floats. MPS knows no float64, so never by a numpy scalar.
    return x.to(device).float().div_(255).contiguous(memory_format=torch.channels_last)


def batches(order, batch_size, world=1):
    """Cut an order into batches, of which none is too small to be shared out.

    Parameters
    ----------
    order : torch.Tensor, shape (n,), int64
        The order to take pictures in.
    batch_size : int
        Pictures a step.
    world : int
        Processes that share each batch.

    Returns
    -------
    batches : list of torch.Tensor
        Batch norm needs two a process: a smaller last batch joins the one before.
    """
    cut = list(order.split(batch_size))
    if len(cut) > 1 and len(cut[-1]) < 2 * world:
        cut[-2:] = [torch.cat(cut[-2:])]
    return cut


def train_one_epoch(
    model, x, y, *, order, batch_size, criterion, optimizer, n_classes,
    precision="fp32", stretch=0.0, shift=0.0, colour=0.0, mixup=0.0, masks=0, set_lr=None, step=iter, rank=0, world=1,
):  # fmt: skip
    """Train on a random window of every picture once.

    Parameters
    ----------
    model : nn.Module
        On its device, in which memory format one likes. Its logits are (B, n_classes).
    x : Store
        Pictures.
    y : torch.Tensor, shape (n,), int64
        Labels.
    order : torch.Tensor, shape (n,), int64
        The order to take them in; the same in every process.
    batch_size : int
        Pictures a step, over all processes.
    criterion : callable
        Logits (B, n_classes) and targets (B, n_classes) to a summed loss.
    optimizer : torch.optim.Optimizer
        Of the model's parameters.
    n_classes : int
        Genres.
    precision : str
        ``"fp32"`` or ``"bf16"``.
    stretch, shift : float
        As in `Store.random_windows`.
    colour, mixup : float
    masks : int
        As in `augment`.
    set_lr : callable, optional
        Takes the share of the epoch that is done, before each step.
    step : callable
        Wraps the list of batches, for a progress bar.
    rank, world : int
        Which of how many processes this is; each takes its share of every batch.

    Returns
    -------
    loss, accuracy : float
        Means over this process's share of the epoch, as the network was while it learned (dropout
        on, pictures blended, no second opinion).
    """
    model.train()
    device = next(model.parameters()).device
    todo = batches(order, batch_size, world)
    total = torch.zeros(3, device=device)
    for number, chosen in enumerate(step(todo)):
        if set_lr:
            set_lr(number / len(todo))
        mine = chosen[rank::world]
        labels = y[mine].to(device)
        target = torch.nn.functional.one_hot(labels, n_classes).float()
        pixels = augment.colour(to_pixels(x.random_windows(mine, stretch, shift), device), colour)
        pixels, target = augment.mixup(pixels, target, mixup)
        pixels = augment.mask(pixels, masks).contiguous(memory_format=torch.channels_last)
        with autocast(device, precision):
            logits = model(pixels)
        # The mean over the whole batch: processes average their gradients afterwards.
        loss = criterion(logits.float(), target) * world / len(chosen)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        correct = (logits.detach().argmax(dim=1) == labels).sum()
        total += torch.stack([loss.detach() * len(chosen) / world, correct.float(), torch.ones_like(loss) * len(mine)])
    loss, correct, n = total.tolist()
    return loss / n, correct / n


@torch.inference_mode()
def predict_proba(model, x, numbers=None, *, precision="fp32", second=None):
    """Probabilities of the genres for each picture: the mean over its windows.

    Parameters
    ----------
    model : nn.Module
        Put into evaluation mode.
    x : Store
        Pictures.
    numbers : sequence of int, optional
        Which of them; by default all.
    precision : str
        ``"fp32"`` or ``"bf16"``.
    second : torch.Tensor, shape (n_windows, n_classes), optional
        `second.opinions` of the same pictures, so that they are not asked for again.

    Returns
    -------
    probabilities : torch.Tensor, shape (n, n_classes), float32
        On the CPU; rows sum to 1. Shape (0, 0) where there is nothing to do.
    """
    return x.mean_over_windows(
        lambda windows: predict_windows(model, x, windows, precision=precision, second=second), numbers
    )


@torch.inference_mode()
def predict_windows(model, x, windows, *, precision="fp32", second=None):
    """Probabilities for single windows.

    Parameters
    ----------
    model : nn.Module
        Put into evaluation mode.
    x : Store
        Pictures.
    windows : list of (int, int)
        Number of the picture, left edge.
    precision : str
        ``"fp32"`` or ``"bf16"``.
    second : torch.Tensor, shape (len(windows), n_classes), optional
        What `second.opinions` said of them.

    Yields
    ------
    part : list of (int, int)
        Some of the windows, in order.
    probabilities : torch.Tensor, shape (len(part), n_classes), float32
        On the CPU.
    """
    model.eval()
    device = next(model.parameters()).device
    for first in range(0, len(windows), EVAL_BATCH):
        part = windows[first : first + EVAL_BATCH]
        pixels = to_pixels(x.cut(*zip(*part, strict=True)), device)
        said = () if second is None else (second[first : first + EVAL_BATCH],)
        with autocast(device, precision):
            logits = model(pixels, *said)
        yield part, logits.float().softmax(dim=1).cpu()


def seed_everything(seed, epoch, rank=0):
    """Seed torch for one epoch, so that a resumed run draws what an uninterrupted one would have."""
    torch.manual_seed((seed * 100003 + epoch + rank * 7919 * 100003) % (1 << 63))


def use_threads(n):
    """Compute on `n` CPU threads; None leaves torch's choice. Returns the number in use.

    Results depend on it in the last bits, so it is stored with a run.
    """
    if n:
        torch.set_num_threads(n)
    return torch.get_num_threads()


def versions():
    """Return what a result depends on besides its settings: a dict of versions and hardware."""
    import torchvision

    from render import __version__

    return {
        "melvision": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
