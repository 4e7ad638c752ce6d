"""Killed at any instant, a run goes on bit for bit: real processes, struck from inside, then resumed.

A short form of the matrix of benchmarks/faults.py.
"""

import shutil
import signal
from pathlib import Path

import pytest
from commands import PIPEMLP, Started, metrics_of, model_files, succeed
from shared_runs import made_once

from pipemlp.checkpoint.folder import saved_steps
from pipemlp.launching.status import read_status

CONFIG = """
data: {source: {name: teacher, rows: 96, inputs: 4}, split: {validation: 0.2, test: 0.2}}
model: {hidden: [8, 8, 8], dropout: 0.1}
loss: mse
training: {steps: 24, global_batch_size: 8, early_stopping: {metric: loss, patience: 50}}
optimizer: {name: adamw, lr: 1e-2}
parallel: {stages: 2, micro_batches: 2, partition: balanced}
evaluation: {every_steps: 5}
checkpoint: {every_steps: 4, best: loss}
fault: {timeout_seconds: 8}
logging: {every_steps: 1}
"""
FAULTS = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With the configuration, and the run that nobody disturbs."""

    def make(path: Path) -> None:
        (path / "run.yaml").write_text(CONFIG)
        succeed([*PIPEMLP, "train", "run.yaml", "run.dir=whole"], path)

    return made_once(tmp_path_factory, "faults", make)


def train(folder: Path, name: str, strike: str = "", *arguments: str) -> tuple[int, Started]:
    """Train with a strike; nobody is left when this returns."""
    started = Started(
        [*PIPEMLP, "train", "run.yaml", f"run.dir={name}", "--plugin", "strike", *arguments],
        folder,
        PYTHONPATH=str(FAULTS),
        STRIKE_ONCE=str(folder / f"{name}-struck"),
        **({"STRIKE": strike} if strike else {}),
    )
    try:
        code = started.wait()
        started.wait_for_end()
    finally:
        started.end()
    return code, started


def resume(folder: Path, name: str, *arguments: str) -> Started:
    return succeed([*PIPEMLP, "resume", name, *arguments], folder)


@pytest.fixture(scope="module")
def killed(folder, tmp_path_factory):
    """A run of which a worker was killed; nobody else changes it."""

    def make(path: Path) -> None:
        shutil.copy(folder / "run.yaml", path)
        code, started = train(path, "run", "SIGKILL rank=1 at=backward step=10")
        status = read_status(path / "run")
        assert (code, status.state, status.exit_code) == (6, "failed", 6), started.printed
        assert "rank 1 (stage 1) has died; last reported: " in status.message, started.printed

    return made_once(tmp_path_factory, "killed", make) / "run"


def same_as_whole(folder: Path, name: str) -> None:
    assert metrics_of(folder / name) == metrics_of(folder / "whole")
    assert model_files(folder / name) == model_files(folder / "whole")
    assert read_status(folder / name).state == "finished"


STRIKES = {
    "rank 0 killed before the rename": ("SIGKILL rank=0 at=before_the_rename step=8", 6),
    "rank 0 killed before the pointer": ("SIGKILL rank=0 at=before_the_pointer step=8", 6),
    "rank 1 killed between writes": ("SIGKILL rank=1 at=writing step=12", 6),
    "rank 0 killed while pruning": ("SIGKILL rank=0 at=removing step=12", 6),
    "a rank that stops": ("SIGSTOP rank=1 at=forward step=6", 6),
    "an exception": ("exception rank=1 at=exchange step=6", 1),
    "killed at the start": ("SIGKILL rank=1 at=start-up step=0", 6),
}


def test_a_killed_run_goes_on_bit_for_bit(killed, folder):
    shutil.copytree(killed, folder / "killed")
    resume(folder, "killed")
    same_as_whole(folder, "killed")


@pytest.mark.full  # each costs two starts of two processes
@pytest.mark.parametrize("name", STRIKES)
def test_a_struck_run_goes_on(name, folder):
    strike, expected = STRIKES[name]
    run = name.replace(" ", "-")
    code, started = train(folder, run, strike)
    assert code == expected, started.printed
    status = read_status(folder / run)
    assert status.state == "failed" and status.exit_code == expected
    if "SIGSTOP" in strike:
        assert "rank 1 (stage 1) has not been heard of" in started.printed and "step 6" in started.printed
    resume(folder, run)
    same_as_whole(folder, run)


@pytest.mark.parametrize(
    ("signum", "expected"),
    [
        (signal.SIGTERM, 75),
        pytest.param(signal.SIGUSR1, 75, marks=pytest.mark.full),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.full),
    ],
)
def test_a_run_that_is_told_to_stop_saves(signum, expected, folder):
    """At a step that nobody chose: wherever all ranks can stop."""
    run = f"told-{signum.name}"
    started = Started([*PIPEMLP, "train", "run.yaml", f"run.dir={run}", "training.steps=200000"], folder)
    try:
        started.wait_for_training(folder / run)
        started.process.send_signal(signum)
        assert started.wait() == expected, started.printed
        started.wait_for_end()
    finally:
        started.end()
    status = read_status(folder / run)
    assert status.state == "preempted" and status.exit_code == expected
    assert f"stopped by {signum.name} after step {status.step}, and saved" in status.message
    printed = resume(folder, run, f"training.steps={status.step + 3}").printed
    assert f"resumed after step {status.step}" in printed and "changed: training.steps" in printed
    steps = [line["step"] for line in metrics_of(folder / run) if line["split"] == "train"]
    assert steps == list(range(1, status.step + 4))


@pytest.mark.full
def test_told_to_stop_before_the_first_step(folder):
    """One of the workers gets it, as from a scheduler; there is nothing to save, and nothing has failed."""
    code, started = train(folder, "early", "SIGTERM rank=0 at=start-up step=0")
    assert code == 75, started.printed
    status = read_status(folder / "early")
    assert (status.state, status.exit_code) == ("preempted", 75)
    assert "stopped by SIGTERM before the first step" in started.printed
    resume(folder, "early")
    same_as_whole(folder, "early")


@pytest.mark.full
def test_a_run_restarts_itself(folder):
    code, started = train(folder, "again", "SIGKILL rank=1 at=backward step=10", "fault.restarts=1")
    assert code == 0, started.printed
    # the checkpoint of step 8 was being written meanwhile; before it was begun, that of step 4 was whole
    assert any(f"restart 1 of 1 in 2 s, after step {step}" in started.printed for step in (4, 8))
    same_as_whole(folder, "again")


def test_it_goes_on_with_other_stages_and_replicas(killed, folder):
    """The saved configuration has explicit boundaries for the old one, which nobody has to override."""
    shutil.copytree(killed, folder / "reshaped")
    printed = resume(folder, "reshaped", "parallel.stages=1", "parallel.data_parallel=2").printed
    assert "chosen anew for the other grid: parallel.partition=balanced parallel.virtual_stages=auto" in printed
    assert "changed: parallel.stages: 2 -> 1" in printed and "changed: parallel.data_parallel: 1 -> 2" in printed
    whole, other = metrics_of(folder / "whole"), metrics_of(folder / "reshaped")
    assert [(line["step"], line["split"]) for line in other] == [(line["step"], line["split"]) for line in whole]
    for one, two in zip(whole, other, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)  # float32, 24 steps of AdamW


@pytest.mark.full
def test_a_damaged_checkpoint_is_passed_over(folder):
    train(folder, "damaged", "SIGKILL rank=1 at=forward step=15")
    checkpoints = folder / "damaged" / "checkpoints"
    older, newest = saved_steps(checkpoints)[-2:]  # 8 and 12, or 4 and 8 if that of step 12 was not done yet
    path = next((checkpoints / f"step-{newest}").glob("layer-*"))
    path.write_bytes(path.read_bytes()[:-1])
    printed = resume(folder, "damaged").printed
    assert f"warning: checkpoint of step {newest} passed over" in printed and path.name in printed
    assert f"resumed after step {older}" in printed
    assert (checkpoints / f"passed-over-{newest}" / path.name).is_file()
    same_as_whole(folder, "damaged")


def test_what_may_not_change_is_refused(folder):
    started = Started(
        [*PIPEMLP, "resume", "whole", "model.dropout=0.2", "run.seed=3", "training.global_batch_size=16"], folder
    )
    assert started.wait() == 2
    for key in ("model.dropout: 0.1 -> 0.2", "run.seed: 0 -> 3", "training.global_batch_size: 8 -> 16"):
        assert key in started.err
    started.end()
