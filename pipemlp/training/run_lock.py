"""One run directory, one run at a time: a lock that ends with its holder, however that ends."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from pipemlp.config.errors import ClusterError, ConfigError
from pipemlp.launching.status import read_status

LOCK_FILE = ".lock"


class RunLock:
    """Held from the moment it is made until `release`, or the end of this process; children do not inherit it.

    Args:
        run_dir: that exists.

    Raises:
        ConfigError: if another process holds it.
    """

    def __init__(self, run_dir: Path) -> None:
        self._descriptor = os.open(run_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not _locked(self._descriptor):
            self.release()
            raise ConfigError(
                f"run.dir: {run_dir}: {_holder(run_dir)} is at work on this run; wait for its end, or stop it"
            )

    def release(self) -> None:
        """Let the next one in."""
        with suppress(OSError):
            os.close(self._descriptor)


def is_held(run_dir: Path) -> bool:
    """Whether some process holds the lock of a run."""
    try:
        descriptor = os.open(run_dir / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Whether nobody else has it; on a file system without locks nobody can be kept out."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    return True


def _holder(run_dir: Path) -> str:
    with suppress(ClusterError, OSError):
        status = read_status(run_dir)
        if status is not None:
            return f"process {status.pid} on {status.host}"
    return "another process"
