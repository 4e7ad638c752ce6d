"""Ask what may never answer, such as a disk whose server is gone, and go on without it."""

import threading
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def answer_within(seconds: float, act: Callable[[], Value]) -> Value | None:
    """What `act` returns, or None if that takes longer; then it goes on in a thread of its own.

    Raises:
        Exception: of `act`, if it raises in time.
    """
    found: list[Value] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(act())
        except BaseException as error:  # noqa: BLE001 - raised where somebody waits
            failed.append(error)

    thread = threading.Thread(target=run, name="asking", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    return found[0] if found else None
