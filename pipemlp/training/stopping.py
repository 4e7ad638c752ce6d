"""All ranks stop after the same step when somebody asks for it, though no two of them are at the same place.

    rank 0    step 7 | step 8 | asked; holds before step 9 ........................ | stops
    rank 1    step 7 | step 8 | step 9 (begun before it heard)                      | stops
                                 both tell what they have begun; the most of it is where all stop: after step 9

A rank that has heard begins no further step until it is decided; one that is in a step goes on, and the step may need
the others, so they follow up to where the farthest is. What it costs a step is a lock that nobody holds.
"""

import signal
import threading
import time

import torch.distributed as dist

POLL_SECONDS = 0.1


class Stopping:
    """This rank's part of it; a thread listens to the others.

    Args:
        store: that all ranks share.
        rank, num_ranks: of all.
        name: of this training among those that share the store.
    """

    def __init__(self, store: dist.Store, rank: int, num_ranks: int, name: str = "") -> None:
        self._store, self._rank, self._num_ranks, self._name = store, rank, num_ranks, f"pipemlp/stop {name}/"
        self._changed = threading.Condition()
        self._begun = 0
        self._signum: int | None = None
        self._asked = self._is_over = False
        self._last: int | None = None
        threading.Thread(target=self._listen, name="stopping", daemon=True).start()

    @property
    def signum(self) -> int:
        """Why; known as soon as anybody asks, though this rank may not have heard of it."""
        if self._signum is None and self._store.check([f"{self._name}asked"]):
            return int(self._store.get(f"{self._name}asked"))
        return self._signum if self._signum is not None else signal.SIGTERM

    @property
    def is_asked(self) -> bool:
        """Whether this rank has heard that somebody asks."""
        return self._asked

    def ask(self, signum: int) -> None:
        """Have all ranks stop; any of them may ask, from any thread."""
        self._store.set(f"{self._name}asked", str(signum))

    def begin(self, step: int) -> None:
        """The first step is this one (counted from 0)."""
        self._begun = step

    def stops_before(self, step: int) -> bool:
        """Whether all ranks stop before this step; waits while it is being decided."""
        with self._changed:
            self._changed.wait_for(lambda: not self._asked or self._last is not None)
            if self._last is not None and step >= self._last:
                return True
            self._begun = step + 1
            return False

    def end(self) -> None:
        """The training is over: nobody listens any more."""
        self._is_over = True

    def _listen(self) -> None:
        """Hear that somebody asks, tell what this rank has begun, learn what is decided."""
        while not self._store.check([f"{self._name}asked"]):
            if self._is_over:
                return
            time.sleep(POLL_SECONDS)
        with self._changed:
            self._asked = True
            begun = self._begun
        self._signum = int(self._store.get(f"{self._name}asked"))
        self._store.set(f"{self._name}begun {self._rank}", str(begun))
        if self._rank == 0:
            keys = [f"{self._name}begun {rank}" for rank in range(self._num_ranks)]
            self._await(keys)
            self._store.set(f"{self._name}last", str(max(int(self._store.get(key)) for key in keys)))
        self._await([f"{self._name}last"])
        with self._changed:
            self._last = int(self._store.get(f"{self._name}last"))
            self._changed.notify_all()

    def _await(self, keys: list[str]) -> None:
        """Without a blocking call, which would keep other threads from the store."""
        while not self._store.check(keys):
            time.sleep(POLL_SECONDS / 4)
