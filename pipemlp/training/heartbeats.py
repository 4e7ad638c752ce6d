"""Every rank says again and again that it lives and what it does; who falls silent is named by all the others.

    rank r     every few seconds    beat r  =  count, what it does
    rank 0     reads all of them;   who has not beaten for the timeout is lost:   lost = "rank 3 (stage 1) ..."
    rank r     reads that of rank 0, and `lost`, and ends with it;    no answer at all: rank 0, where the beats are kept

Threads beat, so a rank that computes for long lives; one that is stopped, or swapped out, or has no network, does not.
Who has not beaten yet is starting up. Who has not listened for long, as on a machine that was suspended, judges nobody:
all clocks begin anew.
"""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import torch.distributed as dist

from pipemlp.training.doing import Doing

MOST_SECONDS, BEATS_IN_TIMEOUT = 5.0, 12
SILENCE = 0.6
"""Of the timeout: who has not beaten for so long is lost, before those who wait for its messages give up."""
INTERVALS_IN_GAP = 3
"""Who comes so late to the next look was suspended, or waited for the store."""


class Heartbeats:
    """This rank's part of it, by two threads, until `end`.

    Args:
        store: that all ranks share, by a connection of its own: one that waits for an answer keeps others waiting.
        rank, num_ranks: of all.
        doing: what this rank does.
        timeout_seconds: within which everybody has to know.
        on_lost: told who is lost, once.
        name: of this run among those that share the store.
    """

    def __init__(
        self,
        store: dist.Store,
        rank: int,
        num_ranks: int,
        doing: Doing,
        timeout_seconds: float,
        on_lost: Callable[[str], None],
        name: str = "",
    ) -> None:
        self._store, self._rank, self._num_ranks = store, rank, num_ranks
        self.num_replicas: int | None = None
        """Of a stage, once it is known: messages name the stage then."""
        self._doing, self._silence, self._on_lost = doing, SILENCE * timeout_seconds, on_lost
        self._prefix = f"pipemlp/beats {name}/"
        self._interval = min(MOST_SECONDS, timeout_seconds / BEATS_IN_TIMEOUT)
        self._over = threading.Event()
        self._heard_at = time.monotonic()
        self._known: dict[int, tuple[str, float]] = {}
        """The last beat of each rank that is followed, and when it was seen first."""
        for body in (self._beat, self._watch):
            threading.Thread(target=body, name="heartbeats", daemon=True).start()

    def end(self) -> None:
        """Nobody listens any more."""
        self._over.set()

    def _beat(self) -> None:
        count, looked_at = 0, time.monotonic()
        while not self._over.wait(self._interval if count else 0.0):
            count += 1
            try:
                self._store.set(f"{self._prefix}{self._rank}", json.dumps([count, self._doing.text()]))
                now = time.monotonic()
                if now - looked_at > INTERVALS_IN_GAP * self._interval:
                    self._known.clear()
                looked_at = now
                lost = self._silent() or self._told()
            except RuntimeError:  # the store is gone, and with it rank 0, which `_watch` says
                return
            self._heard_at = time.monotonic()
            if lost:
                self._lose(lost)

    def _silent(self) -> str:
        """Who of those that this rank follows has not beaten for too long; all are told."""
        now, found = time.monotonic(), ""
        for rank in range(1, self._num_ranks) if self._rank == 0 else (0,):
            key = f"{self._prefix}{rank}"
            beat = self._store.get(key).decode() if self._store.check([key]) else ""
            known, since = self._known.get(rank, ("", now))
            since = since if beat and beat == known else now
            self._known[rank] = (beat, since)
            if now - since > self._silence:
                found = found or self._words(rank, now - since)
        if found:
            self._store.set(f"{self._prefix}lost", found)
        return found

    def _told(self) -> str:
        key = f"{self._prefix}lost"
        return self._store.get(key).decode() if self._store.check([key]) else ""

    def _watch(self) -> None:
        """Notice that no answer comes from where the beats are kept."""
        looked_at = time.monotonic()
        while not self._over.wait(self._interval):
            now = time.monotonic()
            if now - looked_at > INTERVALS_IN_GAP * self._interval:
                self._heard_at = now
            looked_at = now
            silence = now - self._heard_at
            if silence > self._silence + 2 * self._interval:
                self._lose(self._words(0, silence))

    def _words(self, rank: int, silence: float) -> str:
        what = ""
        with suppress(ValueError, TypeError):
            what = f"; last: {json.loads(self._known.get(rank, ('', 0.0))[0])[1]}"
        stage = "" if self.num_replicas is None else f" (stage {rank // self.num_replicas})"
        return f"rank {rank}{stage} has not been heard of for {silence:.0f} s{what}; see logs/rank-{rank}.log"

    def _lose(self, message: str) -> None:
        if not self._over.is_set():
            self._over.set()
            self._on_lost(message)
