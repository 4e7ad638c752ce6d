"""What exchanging costs a run: bytes, seconds, and how much of them the computation hides."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Meter:
    """Counts on one rank; a step is one exchange of everything.

    Args:
        num_steps: exchanged so far.
        bytes_sent: by this replica, for the exchange alone.
        plain_bytes: of all values that were exchanged, as they are in memory.
        busy_seconds: in which an exchange was on its way.
        waited_seconds: in which the computation waited for one.
    """

    num_steps: int = 0
    bytes_sent: float = 0.0
    plain_bytes: float = 0.0
    busy_seconds: float = 0.0
    waited_seconds: float = 0.0

    @contextmanager
    def busy(self) -> Iterator[None]:
        """An exchange is on its way."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.busy_seconds += time.perf_counter() - started

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The computation waits."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.waited_seconds += time.perf_counter() - started
