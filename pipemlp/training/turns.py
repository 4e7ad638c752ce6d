"""Who takes which slice of the data, where replicas go at their own pace.

    global batch 0  [ slice 0 | slice 1 ]   global batch 1  [ slice 2 | slice 3 ]   ...

A replica that is free takes the next slice, whoever took the one before: every row is used once per epoch, however
fast the replicas are.
"""

from collections.abc import Iterator

import torch
import torch.distributed as dist


class Turns:
    """Slices of one stretch of training after the other.

    Args:
        store: that all ranks share.
        pipe: the stages of this replica; None for a single one.
        first_rank: the global rank of this replica's first stage, which asks for the others.
        run: the number of the training among those that share the store.
        device: of the tensors that `pipe` sends.
    """

    def __init__(
        self,
        store: dist.Store,
        pipe: dist.ProcessGroup | None,
        first_rank: int,
        run: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._store, self._pipe, self._first_rank = store, pipe, first_rank
        self._run, self._device = run, device

    def between(self, start: int, stop: int) -> Iterator[int]:
        """This replica's slices of start..stop - 1, as they come; all replicas together take each once."""
        while (slice_index := start + self._next(f"pipemlp/run {self._run}, slices from {start}")) < stop:
            yield slice_index

    def _next(self, key: str) -> int:
        if self._pipe is None:
            return int(self._store.add(key, 1)) - 1
        taken = torch.zeros((), dtype=torch.int64, device=self._device)
        if dist.get_rank() == self._first_rank:
            taken.fill_(self._store.add(key, 1) - 1)
        dist.broadcast(taken, src=self._first_rank, group=self._pipe)
        return int(taken)
