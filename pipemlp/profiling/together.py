"""All ranks measure the same thing at the same time: they meet before every block and agree on when it is enough."""

import time
from typing import Any

import torch
import torch.distributed as dist


class Together:
    """This rank among all; alone where there is no process group.

    Args:
        device: what is measured.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._alone = not dist.is_initialized() or dist.get_world_size() == 1
        self.num_ranks = 1 if self._alone else dist.get_world_size()
        self.rank = 0 if self._alone else dist.get_rank()

    @property
    def shares_host(self) -> bool:
        """Whether the ranks compute with the same cores and memory."""
        return not self._alone and self.device.type == "cpu"

    def meet(self) -> None:
        """Wait for the others."""
        if not self._alone:
            dist.barrier()

    def now(self) -> float:
        """Seconds, with all work of the device done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def all_agree(self, own: bool) -> bool:
        """Whether every rank says yes; the same answer on every rank."""
        if self._alone:
            return own
        flag = torch.tensor(float(own), device=self.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MIN)
        return bool(flag)

    def gathered(self, own: Any) -> list[Any]:
        """What every rank says, by rank; on every rank."""
        if self._alone:
            return [own]
        everyone: list[Any] = [None] * self.num_ranks
        dist.all_gather_object(everyone, own)
        return everyone
