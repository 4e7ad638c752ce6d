"""Imitates deepspeed's launch.py: starts one worker per mode, ends all at the first code that is not 0."""

import os
import subprocess
import sys
import time
from pathlib import Path

from note import note

note("launch")
modes = sys.argv[2:]
workers = []
for rank, mode in enumerate(modes):
    environment = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(len(modes))}
    workers.append(
        subprocess.Popen([sys.executable, str(Path(__file__).with_name("worker.py")), mode], env=environment)
    )
running = list(workers)
while running:
    time.sleep(0.02)
    for worker in list(running):
        code = worker.poll()
        if code == 0:
            running.remove(worker)
        elif code is not None:
            for other in workers:
                other.terminate()
            for other in workers:
                other.wait()
            sys.exit(code)
