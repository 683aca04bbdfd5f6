"""Training by several processes at once, under ``torchrun``; one process where there is no torchrun."""

import os
import pickle
import socket
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed

from render.errors import MelvisionError


@contextmanager
def group():
    """Join the processes that torchrun started, for the length of a block.

    Yields
    ------
    rank, world : int
        Which of how many processes this is; 0 and 1 where there is but one.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield 0, 1
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # The others wait while the first scores and reports: for many pictures that is longer than the usual 10 minutes.
    distributed.init_process_group(backend, timeout=timedelta(hours=12))
    try:
        yield distributed.get_rank(), world
    finally:
        distributed.destroy_process_group()


def local_device(device):
    """The device of this process: one GPU each, in the order of torchrun's local ranks."""
    if device.type == "cuda" and "LOCAL_RANK" in os.environ and device.index is None:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


def wrap(model, device, world):
    """Make gradients the mean over all processes; batch norm too, on CUDA, where it can."""
    if world == 1:
        return model
    if device.type == "cuda":
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return torch.nn.parallel.DistributedDataParallel(model, [device] if device.type == "cuda" else None)


def mean_over_ranks(values, weight, world, device):
    """The mean of some numbers over all processes, each weighted."""
    if world == 1:
        return list(values)
    # float32: MPS has no float64.
    total = torch.tensor([*(value * weight for value in values), weight], dtype=torch.float32, device=device)
    distributed.all_reduce(total)
    return (total[:-1] / total[-1]).tolist()


def gather(part, world):
    """Bring each process's object to all: a list by rank."""
    if world == 1:
        return [part]
    found = [None] * world
    distributed.all_gather_object(found, part)
    return found


def once_a_host(make, rank, world):
    """Call a function in the first process of each host only; the others there get what it returned or raised.

    Parameters
    ----------
    make : callable
        What it returns is pickled, and its copies may be of use on that host only, such as a `Store` in a file.
    rank, world : int
        As `group` gives them.
    """
    if world == 1:
        return make()
    # torchrun numbers the machines; names may be the same on two. Under another launcher they have to do.
    hosts = gather((os.environ.get("GROUP_RANK"), socket.gethostname()), world)
    first = hosts.index(hosts[rank])
    content = error = None
    if rank == first:
        try:
            content = pickle.dumps(make())
        except MelvisionError as found:
            error = found
    made = gather((content, error), world)
    for _, error in made:
        if error:
            raise error
    return pickle.loads(made[first][0])


def share_buffers(model, world):
    """Give every process the first one's buffers: the means of batch norm differ between them."""
    if world > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def wait(world):
    """Go on when every process has come here."""
    if world > 1:
        distributed.barrier()
