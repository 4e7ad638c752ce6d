"""Keep the terminal for the user: everything that libraries print goes to the rank's log file."""

import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, TextIO

SHOW_LOGS_VARIABLE = "PIPEMLP_SHOW_LOGS"


class Terminal:
    """The standard output this process started with, kept while the file descriptors go to a log.

    With the environment variable PIPEMLP_SHOW_LOGS=1 the descriptors stay as they are, and everything is seen.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.file: TextIO = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8", errors="replace")
        self._shows_logs = os.environ.get(SHOW_LOGS_VARIABLE) == "1"
        self._path: Path | None = None
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        if not self._shows_logs:
            self._redirect(self._log.fileno())

    def log_to(self, run_dir: Path, rank: int) -> None:
        """Write to the rank's log in the run directory from now on, with what was printed before."""
        path = run_dir / "logs" / f"rank-{rank}.log"
        if self._shows_logs or path == self._path:
            return
        self._path = path
        sys.stdout.flush()
        sys.stderr.flush()
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.open("ab")
        self._log.seek(0)
        shutil.copyfileobj(self._log, log)
        log.flush()
        self._redirect(log.fileno())
        self._log.close()
        self._log = log

    @staticmethod
    def _redirect(descriptor: int) -> None:
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)

    def print(self, text: str) -> None:
        """Show a line to the user, whatever happens to the other output."""
        with suppress(OSError):  # the terminal may be gone; the log and status.json still have it
            print(text, file=self.file, flush=True)
