"""Keep the terminal for the user: everything that libraries print goes to the rank's log file."""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TextIO


class Terminal:
    """The standard output this process started with, kept while the file descriptors go to a log.

    Args:
        chatter: leave the descriptors alone, so that everything is seen.
    """

    def __init__(self, chatter: bool = False) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.file: TextIO = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8", errors="replace")
        self._chatter = chatter
        self._path: Path | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        if not chatter:
            self._redirect(self._log.fileno())

    def log_to(self, run_dir: Path, rank: int) -> None:
        """Write to the rank's log in the run directory from now on, with what was printed before."""
        path = run_dir / "logs" / f"rank-{rank}.log"
        if self._chatter or path == self._path:
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
        try:
            print(text, file=self.file, flush=True)
        except OSError:
            pass  # the terminal is gone; the log and status.json still have it
