"""Every rank says again and again that it lives and what it does; who falls silent is named by all the others.

    rank r     every few seconds    beat r  =  count, what it does
    rank 0     reads all of them;   who has not beaten for the timeout is lost:   lost = "rank 3 (stage 1) ..."
    rank r     reads that of rank 0, and `lost`, and ends with it;    no answer at all: rank 0, where the beats are kept

Threads beat, so a rank that computes for long lives; one that is stopped, or swapped out, or has no network, does not.
Who has not beaten yet is starting up. Who has not listened for long, as on a machine that was suspended, judges nobody:
all clocks begin anew. Who beats while its disk keeps a save waiting is named to the user after a while, and gives up
after ten minutes, or a longer timeout: the others would wait for it at the next save.
"""

import threading
import time
from collections.abc import Callable

import torch.distributed as dist

from pipemlp.launching.waiting import answer_within
from pipemlp.training.beat import Beat, beat_from_text
from pipemlp.training.doing import Doing

MOST_SECONDS, BEATS_IN_TIMEOUT = 2.0, 12
SILENCE = 0.6
"""Of the timeout: who has not beaten for so long is lost, before those who wait for its messages give up."""
INTERVALS_IN_GAP = 3
"""Who comes so late to the next look was suspended, or waited for the store."""
SLOW_SECONDS, SLOW = 60.0, 0.25
"""At most, and of the timeout: whose save has been at one thing for so long is named."""
LEAST_HANGING_SECONDS = 600.0
"""Whose save has been at one thing for so long, and for the timeout, has a disk that does not answer: less is slow."""
GONE_SECONDS = 0.5
"""How long after a message is broken off its sender may take to be dead."""


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
        self.note: Callable[[str], None] = lambda text: None
        """Tells the user; asked on rank 0."""
        self._doing, self._timeout_seconds, self._on_lost = doing, timeout_seconds, on_lost
        self._silence = SILENCE * timeout_seconds
        self._prefix = f"pipemlp/beats {name}/"
        self._interval = min(MOST_SECONDS, timeout_seconds / BEATS_IN_TIMEOUT)
        self._over = threading.Event()
        self._heard_at = time.monotonic()
        self._known: dict[int, tuple[Beat | None, float]] = {}
        """The last beat of each rank that is followed, and when it was seen first."""
        self._slow: set[int] = set()
        """Whose slow save the user was told of."""
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
                now = time.monotonic()
                if now - looked_at > INTERVALS_IN_GAP * self._interval:
                    self._known.clear()
                    self._doing.was_away()
                looked_at = now
                beat = Beat(count, self._doing.text(), self._doing.saving_seconds())
                self._store.set(f"{self._prefix}{self._rank}", beat.to_text())
                lost = self._hanging(beat) or self._silent() or self._told()
                if self._rank == 0:
                    self._name_slow(beat)
            except RuntimeError:  # the store is gone, and with it rank 0, which `_watch` says
                return
            self._heard_at = time.monotonic()
            if lost:
                self._lose(lost)

    def _hanging(self, beat: Beat) -> str:
        """Whether this rank's disk does not answer; all are told."""
        if beat.saving_seconds <= max(LEAST_HANGING_SECONDS, self._timeout_seconds):
            return ""
        found = (
            f"{self._name(self._rank)} has waited {beat.saving_seconds:.0f} s for its disk; last: {beat.doing}; "
            "see that what is below run.dir can be written"
        )
        self._store.set(f"{self._prefix}lost", found)
        return found

    def _silent(self) -> str:
        """Who of those that this rank follows has not beaten for too long; all are told."""
        now, found = time.monotonic(), ""
        for rank in range(1, self._num_ranks) if self._rank == 0 else (0,):
            beat = self._beat_of(rank)
            known, since = self._known.get(rank, (None, now))
            since = since if beat is not None and beat == known else now
            self._known[rank] = (beat, since)
            if now - since > self._silence:
                found = found or self._silent_words(rank, now - since)
        if found:
            self._store.set(f"{self._prefix}lost", found)
        return found

    def _beat_of(self, rank: int) -> Beat | None:
        key = f"{self._prefix}{rank}"
        return beat_from_text(self._store.get(key).decode()) if self._store.check([key]) else None

    def _name_slow(self, own: Beat) -> None:
        """Tell the user whose disk keeps a save waiting, once of each; a terminal that does not answer keeps nobody."""
        beats = {0: own} | {rank: beat for rank, (beat, _) in self._known.items() if beat is not None}
        patience = min(SLOW_SECONDS, SLOW * self._timeout_seconds)
        slow = {rank: beat for rank, beat in beats.items() if beat.saving_seconds > patience}
        for rank in slow.keys() - self._slow:
            waited = f"{self._name(rank)} has waited {slow[rank].saving_seconds:.0f} s for its disk: {slow[rank].doing}"
            threading.Thread(target=self.note, args=[f"warning: {waited}"], daemon=True).start()
        self._slow = set(slow)

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
                self._lose(self._silent_words(0, silence))

    def gone(self) -> str:
        """Who has died, of the ranks whose processes can be seen from here, and what it did last; "" if nobody has.

        Asked when a message is broken off; the store may be gone too, or not answer.
        """
        return answer_within(2 * GONE_SECONDS, self._find_gone) or ""

    def _find_gone(self) -> str:
        try:
            beats = {rank: self._beat_of(rank) for rank in range(self._num_ranks) if rank != self._rank}
        except RuntimeError:  # it was kept by rank 0
            beats = {rank: beat for rank, (beat, _) in list(self._known.items())}
        until = time.monotonic() + GONE_SECONDS
        while True:
            dead = [(rank, beat.doing) for rank, beat in beats.items() if beat is not None and beat.is_dead]
            if dead or time.monotonic() > until:
                return "; ".join(f"{self._name(rank)} has died; last reported: {doing}" for rank, doing in dead)
            time.sleep(GONE_SECONDS / 10)

    def _silent_words(self, rank: int, silence: float) -> str:
        beat, _ = self._known.get(rank, (None, 0.0))
        what = "" if beat is None else f"; last: {beat.doing}"
        return f"{self._name(rank)} has not been heard of for {silence:.0f} s{what}; see logs/rank-{rank}.log"

    def _name(self, rank: int) -> str:
        stage = "" if self.num_replicas is None else f" (stage {rank // self.num_replicas})"
        return f"rank {rank}{stage}"

    def _lose(self, message: str) -> None:
        if not self._over.is_set():
            self._over.set()
            self._on_lost(message)
