"""A running record of all processes below one, which outlives the processes in between."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass

import psutil

from pipemlp.launching.watch import is_alive

_WORKER_GENERATION = 2  # runner -> launch.py -> workers


@dataclass(frozen=True)
class _Seen:
    process: psutil.Process
    generation: int


class ProcessTree:
    """The process `root_pid`, which leads its own session, and everything that was ever seen below it.

    A process belongs to the tree when its parent does at the time it is seen, or when it is in the root's session: so
    one whose parent died between two looks is still found. Processes are known by pid and creation time.
    """

    def __init__(self, root_pid: int) -> None:
        """Begin with the root alone; `update` finds the others."""
        self._root_pid = root_pid
        self._seen: dict[int, _Seen] = {}
        with suppress(psutil.NoSuchProcess):
            self._seen[root_pid] = _Seen(psutil.Process(root_pid), 0)
        self._has_seen_workers = False

    @property
    def has_seen_workers(self) -> bool:
        """Whether any worker was ever there."""
        return self._has_seen_workers

    def update(self) -> None:
        """Look at all processes of the machine and add what belongs here; call it every half second or so."""
        self._seen = {pid: seen for pid, seen in self._seen.items() if is_alive(seen.process)}
        parents = {process.pid: process.info["ppid"] for process in psutil.process_iter(["ppid"])}
        missing = parents.keys() - self._seen.keys()
        found = True
        while found:
            found = False
            for pid in sorted(missing):
                generation = self._generation(pid, parents[pid])
                if generation is not None:
                    found = True
                    missing.discard(pid)
                    self._add(pid, generation)

    def workers(self) -> list[psutil.Process]:
        """The living workers, without processes that they started themselves."""
        living = [seen for seen in self._seen.values() if is_alive(seen.process)]
        return [seen.process for seen in living if seen.generation == _WORKER_GENERATION]

    def living(self) -> list[psutil.Process]:
        """All living processes of the tree, the root included."""
        return [seen.process for seen in self._seen.values() if is_alive(seen.process)]

    def kill(self, timeout_seconds: float = 10.0) -> None:
        """End all of the tree by SIGKILL, also what it starts meanwhile; give up on unkillable ones at the timeout."""
        deadline = time.monotonic() + timeout_seconds
        self.update()
        while (living := self.living()) and time.monotonic() < deadline:
            for process in living:
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs(living, timeout=0.1)
            self.update()

    def _generation(self, pid: int, parent: int) -> int | None:
        if parent in self._seen:
            return self._seen[parent].generation + 1
        with suppress(OSError):
            if pid != self._root_pid and os.getsid(pid) == self._root_pid:
                return _WORKER_GENERATION  # Its parent died unseen: only workers have one that others outlive.
        return None

    def _add(self, pid: int, generation: int) -> None:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.ppid() in self._seen or os.getsid(pid) == self._root_pid:
                self._seen[pid] = _Seen(process, generation)
                self._has_seen_workers |= generation == _WORKER_GENERATION
