"""What a rank says again and again of itself, as a text in a store."""

import json
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from pathlib import Path

import psutil

from pipemlp.launching.watch import is_alive


def _machine() -> str:
    """Where numbers of processes mean the same: one boot of a system, and one name space of processes."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


HERE = _machine()


@dataclass(frozen=True)
class Beat:
    """One of them.

    Args:
        count: of beats so far: another one each time.
        doing: what the rank does, in words.
        saving_seconds: for how long it has been at one thing of a save.
        machine, pid: where it is a process.
    """

    count: int
    doing: str
    saving_seconds: float
    machine: str = HERE
    pid: int = field(default_factory=os.getpid)

    def to_text(self) -> str:
        """For the store."""
        return json.dumps(astuple(self))

    @property
    def is_dead(self) -> bool:
        """Whether its process has died, as far as can be seen from here."""
        if self.machine != HERE:
            return False
        try:
            return not is_alive(psutil.Process(self.pid))
        except psutil.Error:
            return not psutil.pid_exists(self.pid)


def beat_from_text(text: str) -> Beat | None:
    """What `to_text` wrote; None if it is something else."""
    with suppress(ValueError, TypeError):
        value: Sequence[object] = json.loads(text)
        return Beat(*value)  # type: ignore[arg-type]
    return None
