"""Real compute on two ranks of one thread each: stock DeepSpeed, torch's schedules and ours, from the same weights."""

from alternation import alternate
from dense import Dense, dense_workload
from ours_schedules import Ours
from pipeline_rivals import TORCH_SCHEDULES, DeepSpeed, TorchPipelining
from schedule_lines import VIRTUAL_STAGES, Measured
from workload import Competitor

from pipemlp.schedule.methods import make_schedule

NUM_STAGES, NUM_MICRO_BATCHES = 2, 8
MODEL = Dense(width=1024, depth=16)
OURS = {"1f1b": 1, "zb-h1": 1, "zb-h2": 1, "interleaved-1f1b": VIRTUAL_STAGES, "zb-v": VIRTUAL_STAGES}
"""Schedules with their virtual stages per stage."""


def measure_real(rows: int, num_rounds: int) -> list[Measured]:
    """Run on every rank."""
    workload = dense_workload(MODEL, NUM_STAGES, NUM_MICRO_BATCHES, rows)
    competitors: list[Competitor] = [DeepSpeed(workload)]
    competitors += [TorchPipelining(workload, schedule) for schedule in TORCH_SCHEDULES]
    competitors += [
        Ours(workload, make_schedule(name, NUM_STAGES, NUM_MICRO_BATCHES, num_virtual))
        for name, num_virtual in OURS.items()
    ]
    return alternate(competitors, num_rounds)
