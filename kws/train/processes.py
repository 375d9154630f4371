"""The processes of one run, as torchrun starts them; usually there is one.

All draw the same global batch from the same seed, each computes its rows of it, and DistributedDataParallel
averages the gradients. What one decides all must know: losses are gathered, the first process validates and
writes every file, and all stop at the same step. They share the run folder and the cache.

Batch norm uses the statistics of a process's own rows, and keeps the running ones of the first process: a
channel is normalised over windows and time, thousands of values in each process, so that statistics over all
of them would cost a message for each layer and change nothing that can be measured. (`SyncBatchNorm` does not
run on a CPU at all.) Fine-tuning has no batch norm and computes the same with any number of processes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")
CPU = torch.device("cpu")
LONGEST_WAIT = timedelta(hours=12)
"""For a first process that decodes a corpus; torchrun itself ends the others when one dies."""


@dataclass(frozen=True)
class Processes:
    """This process and how many there are; by default the only one, on the CPU."""

    rank: int = 0
    count: int = 1
    device: torch.device = CPU

    @property
    def is_first(self) -> bool:
        """Whether this one writes, prints and decides."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """This process's part of any sequence that all of them know."""
        return slice(self.rank, None, self.count)

    def gather(self, part: Tensor, total: int) -> Tensor:
        """The (total,) numbers of which each process holds those at its `share`."""
        if self.count == 1:
            return part
        whole = part.new_zeros(total)
        whole[self.share] = part
        distributed.all_reduce(whole)
        return whole

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process; all wait for each other here, but not for their GPUs."""
        if self.count == 1:
            return flag
        flags = torch.tensor(int(flag))
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return bool(flags)

    def wait(self) -> None:
        """Go on when all have come here."""
        self.any(False)

    def told(self, value: T) -> T:
        """The first process's `value`."""
        if self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, device=CPU)
        return values[0]

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process goes through the block, then the others, who find what it made."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def parallel(self, net: nn.Module) -> nn.Module:
        """`net`, with gradients that are averaged over the processes."""
        if self.count == 1:
            return net
        return DistributedDataParallel(net, [self.device.index] if self.device.type == "cuda" else None)


@contextmanager
def processes() -> Iterator[Processes]:
    """This process among those that torchrun started, each with a GPU of its own where there are any."""
    device = CPU
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(device=device)
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=LONGEST_WAIT)
    try:
        yield Processes(distributed.get_rank(), count, device)
        distributed.barrier()  # who leaves early can abort the one who still speaks to it
    finally:
        distributed.destroy_process_group()
