"""Measure one pair of competitors in the same processes, in alternating rounds.

check    both without dropout, from the same weights, at a constant learning rate: the same loss?
warm-up  both, not counted
rounds   ours rival | rival ours | ours rival | ...      a barrier before and after each
"""

import time
from pathlib import Path

import torch
import torch.distributed as dist
from cases import Case, Rounds
from rivals import RIVALS, Competitor, Ours

from pipemlp.config.loading import load_config
from pipemlp.launching.devices import num_cores
from pipemlp.training.preparation import Preparation, prepare_run

NUM_CHECK_STEPS = 8
EQUAL_WORK = ("model.dropout=0", "lr_schedule=constant")


def measure(case: Case, folder: Path, num_rounds: int, num_steps: int) -> Rounds:
    """Run on every rank of `case`, in joined processes."""
    torch.set_num_threads(max(1, num_cores() // case.num_ranks))
    ours, rival = _competitors(case, folder, "check", EQUAL_WORK)
    losses = (_round(ours, NUM_CHECK_STEPS)[1], _round(rival, NUM_CHECK_STEPS)[1])
    del ours, rival
    ours, rival = _competitors(case, folder, "rounds", ())
    for competitor in (ours, rival):
        _round(competitor, max(3, num_steps // 4))
    seconds = []
    for index in range(num_rounds):
        pair = (ours, rival) if index % 2 == 0 else (rival, ours)
        taken = tuple(_round(competitor, num_steps)[0] for competitor in pair)
        seconds.append((taken[0], taken[1]) if index % 2 == 0 else (taken[1], taken[0]))
    batch = load_config(folder / f"{case.model}.yaml").training.global_batch_size
    return Rounds(losses, tuple(seconds), batch * num_steps)


def _competitors(case: Case, folder: Path, what: str, overrides: tuple[str, ...]) -> tuple[Competitor, Competitor]:
    preparation = _prepared(case, folder, overrides)
    runs = folder / what / case.name.replace(" ", "-")
    return Ours(preparation, runs), RIVALS[case.rival](preparation, runs)


def _prepared(case: Case, folder: Path, overrides: tuple[str, ...]) -> Preparation:
    return prepare_run(load_config(folder / f"{case.model}.yaml", [*case.overrides, *overrides]))


def _round(competitor: Competitor, num_steps: int) -> tuple[float, float]:
    """Seconds of the slowest rank, and the last loss."""
    competitor.begin(num_steps)
    dist.barrier()
    started = time.perf_counter()
    competitor.train()
    dist.barrier()
    seconds = time.perf_counter() - started
    return seconds, competitor.end()
