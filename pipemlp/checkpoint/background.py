"""One thread that does one piece of work at a time beside the training."""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

NICENESS = 10
"""Of the thread: where cores are few it takes what the training leaves of them, and about a tenth at least."""


class Background:
    """Runs what it is given, one after the other; what went wrong is raised by the next call."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin it once what was begun before is done.

        Raises:
            Exception: of the work before.
        """
        self.wait()

        def run() -> None:
            if sys.platform == "linux":  # elsewhere a thread has no priority of its own
                with suppress(OSError):  # where nobody may, it is as important as the training
                    own = max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0))
                    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), own)
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised where somebody waits
                self._error = error

        self._thread = threading.Thread(target=run, name="checkpoint", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until it is done.

        Raises:
            Exception: of the work.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
