"""Show what child processes print where Python's own output goes: in a notebook that is not the terminal."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def shown_output() -> Iterator[int | None]:
    """A file descriptor for children to print to; None where they may simply inherit ours."""
    if _prints_to_descriptor():
        yield None
        return
    reading, writing = os.pipe()
    relay = threading.Thread(target=_relay, args=(reading,), name="relay-output", daemon=True)
    relay.start()
    try:
        yield writing
    finally:
        os.close(writing)
        relay.join(timeout=10)


def _prints_to_descriptor() -> bool:
    try:
        return sys.stdout.fileno() == 1
    except (OSError, ValueError, AttributeError):
        return False


def _relay(reading: int) -> None:
    with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            print(line, end="", flush=True)
