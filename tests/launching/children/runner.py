"""Imitates the deepspeed runner: starts launch.py, waits, and loses the code of a launch.py that died by a signal."""

import subprocess
import sys
from pathlib import Path

from note import note

note("runner")
launch = subprocess.Popen(
    [sys.executable, str(Path(__file__).with_name("launch.py")), "deepspeed.launcher.launch", *sys.argv[1:]]
)
launch.wait()
if launch.returncode > 0:
    sys.exit(launch.returncode)
