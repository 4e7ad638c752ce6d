"""The same steps with saving and without, in alternation, on one model: the product's trainer and saver.

round 1   with without      a barrier before and after each; with saving it ends when the last commit is done
round 2   without with
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from fault_cost import WITH, WITHOUT, Cost

from pipemlp.checkpoint.folder import FOLDER, check_whole, newest_whole
from pipemlp.checkpoint.pipeline_state import tensors_by_file
from pipemlp.config.loading import load_config
from pipemlp.launching.devices import num_cores
from pipemlp.training.batches import BatchLoader
from pipemlp.training.checkpointer import Checkpointer
from pipemlp.training.doing import Doing
from pipemlp.training.preparation import prepare_run
from pipemlp.training.run_directory import write_start
from pipemlp.training.timeline import TimelineRecorder
from pipemlp.training.trainer import Trainer
from pipemlp.training.watchers import SilentWatcher
from pipemlp.training.worker import build_pipeline

CPU = torch.device("cpu")
NUM_READS = 3
WARM_UP_STEPS = 5


class StepClock(Doing):
    """Notes when each step begins."""

    def __init__(self) -> None:
        super().__init__()
        self.began: list[float] = []

    def __call__(self, text: str) -> None:
        """As the trainer says it."""
        super().__call__(text)
        if text.startswith("step "):
            self.began.append(time.perf_counter())


def measure_cost(folder: Path, num_rounds: int) -> Cost:
    """Run on every rank, for the configuration `run.yaml` of a folder."""
    torch.set_num_threads(max(1, num_cores() // dist.get_world_size()))
    preparation = prepare_run(load_config(folder / "run.yaml"))
    run_dir = folder / "run"
    if dist.get_rank() == 0:
        run_dir.mkdir()
        write_start(run_dir, preparation.config, preparation.plan)
    dist.barrier()
    pipeline = build_pipeline(preparation)
    seed = preparation.config.run.seed
    loader = BatchLoader(preparation.data, preparation.plan, pipeline.place, seed=seed, device=CPU)
    checkpointer = Checkpointer(run_dir, preparation, pipeline)

    def train(saver: Checkpointer | None, steps: int | None = None) -> tuple[float, list[float]]:
        if saver is not None:
            saver.last_saved = 0  # a training of its own, though the files are there from the one before
        clock, recorder = StepClock(), TimelineRecorder(run_dir, pipeline, 0)
        budget = preparation.budget
        own = replace(preparation, budget=replace(budget, num_steps=steps or budget.num_steps))
        trainer = Trainer(own, pipeline, loader, CPU, SilentWatcher(), recorder, checkpointer=saver, doing=clock)
        dist.barrier()
        began = time.perf_counter()
        trainer.run()
        dist.barrier()
        ended = time.perf_counter()
        starts = [*clock.began, ended]
        return ended - began, [after - before for before, after in zip(starts, starts[1:], strict=False)][:-1]

    runs: dict[str, list[float]] = {WITH: [], WITHOUT: []}
    steps: dict[str, list[float]] = {WITH: [], WITHOUT: []}
    train(None, WARM_UP_STEPS)
    for index in range(num_rounds):
        for name in (WITH, WITHOUT) if index % 2 == 0 else (WITHOUT, WITH):
            seconds, own = train(checkpointer if name == WITH else None)
            runs[name].append(seconds)
            steps[name] += _slowest(own)
    tensors = tensors_by_file(pipeline)
    state_bytes = sum(_everyone(sum(tensor.nbytes for file in tensors.values() for tensor in file.values())))
    stalls = _slowest(checkpointer.stalls)
    verify, read, size = ([], [], 0) if dist.get_rank() else _reading(run_dir / FOLDER)
    dist.barrier()
    return Cost(sum(preparation.plan.num_parameters), runs, steps, stalls, state_bytes, size, verify, read)


def _everyone(value: object) -> list:
    found = [value] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def _slowest(own: list[float]) -> list[float]:
    return [max(each) for each in zip(*_everyone(own), strict=True)]


def _reading(folder: Path) -> tuple[list[float], list[float], int]:
    """Verifying and reading one checkpoint in alternation; and its bytes."""
    newest, _ = newest_whole(folder)
    assert newest is not None
    files = sorted(newest.directory.iterdir())

    def seconds(act: Callable[[], object]) -> float:
        for path in files:
            _forget(path)
        began = time.perf_counter()
        act()
        return time.perf_counter() - began

    verify, read = [], []
    for _ in range(NUM_READS):
        verify.append(seconds(lambda: check_whole(newest.directory)))
        read.append(seconds(lambda: [_read(path) for path in files]))
    return verify, read, sum(path.stat().st_size for path in files)


def _forget(path: Path) -> None:
    """Have the system read it from the disk again."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read(path: Path) -> None:
    """All of it, into a small piece of memory."""
    piece = bytearray(2**20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(piece):
            pass
