"""Training by several processes at once, under ``torchrun``; one process where there is no torchrun."""

import os
import pickle
import socket
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from render.errors import MelvisionError

Items = TypeVar("Items", torch.Tensor, Sequence)


class Distributed:
    """The processes that torchrun started, joined for the length of a ``with`` block.

    Without torchrun, and outside of the block, it is one process, and every method does what that needs: mostly
    nothing. Blocks may be nested; the outermost one joins the processes and parts them.

    Attributes
    ----------
    rank, world : int
        Which of how many processes this is.
    """

    def __init__(self) -> None:
        self.rank, self.world, self._joined = 0, 1, False

    def __enter__(self) -> "Distributed":
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        if self.world > 1:
            if not distributed.is_initialized():
                backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
                # The others wait while the first scores and reports: for many pictures that is longer than the
                # usual 10 minutes.
                distributed.init_process_group(backend, timeout=timedelta(hours=12))
                self._joined = True
            self.rank = distributed.get_rank()
        return self

    def __exit__(self, *_: object) -> None:
        if self._joined:
            distributed.destroy_process_group()
            self._joined = False

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def local_device(self, device: torch.device) -> torch.device:
        """The device of this process: one GPU each, in the order of torchrun's local ranks."""
        if device.type == "cuda" and "LOCAL_RANK" in os.environ and device.index is None:
            return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        return device

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Make gradients the mean over all processes; batch norm too, on CUDA, where it can."""
        if self.world == 1:
            return model
        if device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return nn.parallel.DistributedDataParallel(model, [device] if device.type == "cuda" else None)

    def shard(self, items: Items) -> Items:
        """This process's part of a sequence: every `world`-th item, from `rank` on."""
        return items[self.rank :: self.world]

    def mean(self, values: Iterable[float], weight: float, device: torch.device) -> list[float]:
        """The mean of some numbers over all processes, each process weighted by its `weight`."""
        if self.world == 1:
            return list(values)
        # float32: MPS has no float64.
        total = torch.tensor([*(value * weight for value in values), weight], dtype=torch.float32, device=device)
        distributed.all_reduce(total)
        return (total[:-1] / total[-1]).tolist()

    def gather(self, part: Any) -> list:
        """Bring each process's object to all: a list by rank."""
        if self.world == 1:
            return [part]
        parts: list[Any] = [None] * self.world
        distributed.all_gather_object(parts, part)
        return parts

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give every process the first one's buffers: the means of batch norm differ between them."""
        if self.world > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)

    def wait(self) -> None:
        """Go on when every process has come here."""
        if self.world > 1:
            distributed.barrier()

    def once(self, make: Callable[[], Any]) -> Any:
        """Call a function in the first process only; all get what it returned, or raised as a MelvisionError."""
        return self._call(make, 0)

    def once_per_host(self, make: Callable[[], Any]) -> Any:
        """Call a function in the first process of each host only; the others there get a copy of its result.

        Parameters
        ----------
        make : callable
            Its result is pickled, and the copies may be of use on that host only, such as a `PixelStore` in a file.

        Raises
        ------
        MelvisionError
            In all processes, when `make` raises one in any of them.
        """
        # torchrun numbers the machines; names may be the same on two. Under another launcher they have to do.
        hosts = self.gather((os.environ.get("GROUP_RANK"), socket.gethostname()))
        return self._call(make, hosts.index(hosts[self.rank]))

    def _call(self, make: Callable[[], Any], leader: int) -> Any:
        """Call a function in the leading processes; the others get the result of the one that leads them."""
        if self.world == 1:
            return make()
        content = error = None
        if self.rank == leader:
            try:
                content = pickle.dumps(make())
            except MelvisionError as raised:
                error = raised
        results = self.gather((content, error))
        for _, error in results:
            if error:
                raise error
        return pickle.loads(results[leader][0])
