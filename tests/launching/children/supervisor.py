"""`run_launcher` in a process of its own, so that a test can send it signals: RUN_DIR GRACE_SECONDS MODE..."""

import os
import sys
from pathlib import Path

from note import note

from pipemlp.launching.supervise import run_launcher

note("supervisor")
runner = str(Path(__file__).with_name("runner.py"))
run_dir, grace_seconds, *modes = sys.argv[1:]
sys.exit(run_launcher([sys.executable, runner, *modes], Path(run_dir), dict(os.environ), float(grace_seconds)))
