"""Two processes never work on one run; a lock ends with its holder, however that ends."""

import os
import signal
import subprocess
import sys

import pytest

from pipemlp.config.errors import ConfigError
from pipemlp.launching.status import write_status
from pipemlp.training.run_lock import RunLock

HOLD = """
import subprocess, sys
from pathlib import Path
from pipemlp.training.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)
print(child.pid, flush=True)
child.wait()
"""


def test_a_second_one_is_refused_by_name(tmp_path):
    write_status(tmp_path, "running")
    lock = RunLock(tmp_path)
    with pytest.raises(ConfigError, match=f"process {os.getpid()} on .* is at work on this run"):
        RunLock(tmp_path)
    lock.release()
    RunLock(tmp_path).release()


def test_a_killed_holder_lets_go_though_its_children_live(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(ConfigError, match="another process is at work"):
            RunLock(tmp_path)
        holder.kill()
        holder.wait(timeout=60)
        RunLock(tmp_path).release()
        os.kill(child, 0)  # it lives
    finally:
        os.kill(child, signal.SIGKILL)
        holder.stdout.close()
