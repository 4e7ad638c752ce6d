"""A run whose numbers are lost ends as failed, and ships no model; or leaves such steps out, if it is told to."""

import json
import os
import subprocess
import sys
from pathlib import Path

from commands import metrics_of

from pipemlp.launching.ports import free_port

CONFIG = """\
data: {source: {name: teacher, rows: 200, inputs: 3}, split: {validation: VALIDATION, test: 0}}
model: {hidden: [8]}
optimizer: {name: sgd, lr: 1e38}
training: {steps: 2}
logging: {every_steps: 1000}
"""
SHY_LOSS = """
import pipemlp

@pipemlp.register_loss("shy", task="regression")
def shy(outputs, target, options):
    '''Not a number where a target is far out.'''
    loss = (outputs - target).square().mean(-1)
    return loss * float("nan") if (target > 3).any() else loss
"""
OUTLIER = """\
data: {path: t.csv, target: y, split: {validation: 0, test: 0}}
model: {hidden: [8]}
loss: shy
training: {epochs: 3, global_batch_size: 8}
parallel: {micro_batches: 2}
logging: {every_steps: 1}
"""


def train_alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    environment["MASTER_PORT"] = str(free_port())
    command = [sys.executable, "-m", "pipemlp", "train", "a.yaml", "run.dir=run", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_weights_that_are_lost_at_the_last_step_fail_the_run(tmp_path):
    (tmp_path / "a.yaml").write_text(CONFIG.replace("VALIDATION", "0"))
    done = train_alone(tmp_path)
    assert done.returncode == 6, done.stdout + done.stderr
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "failed" and "optimizer.lr (1e+38)" in status["message"]
    assert not (tmp_path / "run" / "model").exists()


def test_a_run_goes_on_without_the_steps_that_are_lost(tmp_path):
    """One row of 40 spoils one batch of five in each of three epochs."""
    rows = [f"{n / 40},{1000 if n == 7 else n % 5}" for n in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y", *rows, ""]))
    (tmp_path / "a.yaml").write_text(OUTLIER)
    (tmp_path / "shy.py").write_text(SHY_LOSS)
    done = train_alone(tmp_path, "--plugin", "shy", "fault.nonfinite=skip")
    assert done.returncode == 0, done.stdout + done.stderr
    lost = [line["step"] for line in metrics_of(tmp_path / "run") if line["loss"] is None]
    assert [(step - 1) // 5 for step in lost] == [0, 1, 2]
    for step in lost:
        assert f"left out step {step}: the loss is not finite (micro-batch " in done.stdout
