"""A run whose numbers are lost ends as failed, and ships no model."""

import json
import os
import subprocess
import sys

CONFIG = """\
data: {source: {name: teacher, rows: 200, inputs: 3}, split: {validation: VALIDATION, test: 0}}
model: {hidden: [8]}
optimizer: {name: sgd, lr: 1e38}
training: {steps: 2}
logging: {every_steps: 1000}
"""


def test_weights_that_are_lost_at_the_last_step_fail_the_run(tmp_path):
    (tmp_path / "a.yaml").write_text(CONFIG.replace("VALIDATION", "0"))
    environment = os.environ | {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    from pipemlp.launching.ports import free_port

    environment["MASTER_PORT"] = str(free_port())
    command = [sys.executable, "-m", "pipemlp", "train", "a.yaml", "run.dir=run"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 6, done.stdout + done.stderr
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "failed" and "optimizer.lr (1e+38)" in status["message"]
    assert not (tmp_path / "run" / "model").exists()
