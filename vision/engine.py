"""One epoch of training, and probabilities for pictures. No files, no printing."""

import contextlib
import os
import platform
from pathlib import Path

import torch

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


def train_one_epoch(model, x, y, *, order, batch_size, criterion, optimizer, precision="fp32", step=iter):
    """Train on every picture once.

    Parameters
    ----------
    model : nn.Module
        On its device, in which memory format one likes.
    x : torch.Tensor, shape (n, C, H, W), uint8
        Pictures.
    y : torch.Tensor, shape (n,), int64
        Labels.
    order : torch.Tensor, shape (n,), int64
        The order to take them in.
    batch_size : int
        Pictures a step. A last batch of one joins the one before: batch norm needs two.
    criterion : callable
        Logits (B, n_classes) and labels (B,) to a mean loss.
    optimizer : torch.optim.Optimizer
        Of the model's parameters.
    precision : str
        ``"fp32"`` or ``"bf16"``.
    step : callable
        Wraps the list of batches, for a progress bar.

    Returns
    -------
    loss, accuracy : float
        Means over the epoch, as the network was while it learned (dropout on).
    """
    model.train()
    device = next(model.parameters()).device
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    total = torch.zeros(2, device=device)
    for chosen in step(batches):
        labels = y[chosen].to(device)
        with autocast(device, precision):
            logits = model(to_pixels(x[chosen], device))
        loss = criterion(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += torch.stack([loss.detach() * len(chosen), (logits.argmax(dim=1) == labels).sum().float()])
    loss, correct = (total / len(y)).tolist()
    return loss, correct


@torch.inference_mode()
def predict_proba(model, x, *, precision="fp32"):
    """Probabilities of the genres for each picture.

    Parameters
    ----------
    model : nn.Module
        Put into evaluation mode.
    x : torch.Tensor, shape (n, C, H, W), uint8
        Pictures.
    precision : str
        ``"fp32"`` or ``"bf16"``.

    Returns
    -------
    probabilities : torch.Tensor, shape (n, n_classes), float32
        On the CPU; rows sum to 1.
    """
    model.eval()
    device = next(model.parameters()).device
    found = []
    for part in x.split(EVAL_BATCH):
        with autocast(device, precision):
            logits = model(to_pixels(part, device))
        found.append(logits.float().softmax(dim=1).cpu())
    return torch.cat(found)


def seed_everything(seed, epoch):
    """Seed torch for one epoch, so that a resumed run draws what an uninterrupted one would have."""
    torch.manual_seed((seed * 100003 + epoch) % (1 << 63))


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
