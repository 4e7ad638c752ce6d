"""Who takes which slice of the data, where replicas go at their own pace.

    global batch 0  [ slice 0 | slice 1 ]   global batch 1  [ slice 2 | slice 3 ]   ...

A replica that is free takes the next slice, whoever took the one before: every row is used once per epoch, however
fast the replicas are.

Slices are counted in one place. To stop early a replica adds so much to the count that no slice is left for anybody,
takes what is left of the global batch that was begun, and says where that ends.
"""

from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist

_NO_MORE = 2**40


class Turns:
    """Slices of one stretch of training after the other.

    Args:
        store: that all ranks share.
        pipe: the stages of this replica; None for a single one.
        first_rank: the global rank of this replica's first stage, which asks for the others.
        run: the number of the training among those that share the store.
        device: of the tensors that `pipe` sends.
        in_batch: slices of a global batch.
        is_asked: whether somebody asks for a stop; asked where this replica's first stage is.
    """

    def __init__(
        self,
        store: dist.Store,
        pipe: dist.ProcessGroup | None,
        first_rank: int,
        run: int = 0,
        device: torch.device | str = "cpu",
        in_batch: int = 1,
        is_asked: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store, self._pipe, self._first_rank = store, pipe, first_rank
        self._run, self._device, self._in_batch, self._is_asked = run, device, in_batch, is_asked
        self._rest: range | None = None
        """Of the batch that was begun, if this replica has stopped all."""
        self.stopped_at = 0
        """The slice before which the last stretch ended, for all replicas."""

    def between(self, start: int, stop: int) -> Iterator[int]:
        """This replica's slices of start..stop - 1, as they come; all replicas together take each once."""
        key, self._rest = f"pipemlp/run {self._run}, slices from {start}", None
        while (found := self._told(key, stop - start))[0] >= 0:
            yield start + found[0]
        self.stopped_at = start + found[1]

    def _told(self, key: str, length: int) -> tuple[int, int]:
        """What the first stage of this replica takes."""
        if self._pipe is None:
            return self._take(key, length)
        found = torch.zeros(2, dtype=torch.int64, device=self._device)
        if dist.get_rank() == self._first_rank:
            found.copy_(torch.tensor(self._take(key, length)))
        dist.broadcast(found, src=self._first_rank, group=self._pipe)
        number, end = found.tolist()
        return number, end

    def _take(self, key: str, length: int) -> tuple[int, int]:
        """The next slice of so many; or -1, and how many all replicas together have taken."""
        if self._rest is None and self._is_asked():
            self._stop(key, length)
        if self._rest:
            first, self._rest = self._rest[0], self._rest[1:]
            return first, 0
        number = self._store.add(key, 1) - 1
        if number < length:
            return number, 0
        return -1, int(self._store.get(f"{key}, end")) if number >= _NO_MORE else length

    def _stop(self, key: str, length: int) -> None:
        """Leave nothing for the others, unless another replica has done so."""
        taken = self._store.add(key, _NO_MORE) - _NO_MORE
        if taken < _NO_MORE:
            batches = -(-max(1, taken) // self._in_batch)
            end = min(length, batches * self._in_batch)
            self._rest = range(min(taken, end), end)
            self._store.set(f"{key}, end", str(end))
