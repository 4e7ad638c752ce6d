"""Whether a pipeline is worth it at all: the best plan beside plain data parallelism, and beside ZeRO 2 and 3.

ZeRO 2 shards the gradients over the replicas besides the optimizer state, ZeRO 3 the parameters too. DeepSpeed has
both, but not under a pipeline, so they are estimated only, and in their favour: stage 2 takes as long as stage 1,
however often it reduces, and what stage 3 gathers is hidden behind what it computes where anything can be. Sources:
Rajbhandari et al., ZeRO, arXiv 1910.02054, sections 5 (what is held) and 7 (what is sent: stage 2 as much as data
parallelism, stage 3 half as much again, for each micro-batch).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipemlp.planning.candidate import Candidate
from pipemlp.planning.candidates import micro_batches_of
from pipemlp.planning.laying import Laying
from pipemlp.planning.machine import CostSource
from pipemlp.planning.memory import STATE_VALUES
from pipemlp.planning.search import Found
from pipemlp.planning.sums import SUM_BYTES
from pipemlp.planning.workload import Setting, Workload

NOISE = 0.01
"""Steps that differ by a smaller share are equally long: what two runs of the same plan differ by."""


@dataclass(frozen=True)
class Sharded:
    """Data parallelism with ZeRO 2 or 3, at best.

    Args:
        zero_stage: 2 or 3.
        setting: the micro-batches and the recomputation that it takes.
        step_seconds: of one step.
        peak_bytes: of a rank.
    """

    zero_stage: int
    setting: Setting
    step_seconds: float
    peak_bytes: float


@dataclass(frozen=True)
class Verdict:
    """What to do.

    Args:
        choice: what to run.
        pipeline: whether that is a pipeline.
        rival: the other side of the decision: data parallelism beside a pipeline and the other way around; None if
            there is none.
        sharded: the faster one of ZeRO 2 and 3, if it fits and is faster than the choice by more than noise.
    """

    choice: Candidate
    pipeline: bool
    rival: Candidate | None
    sharded: Sharded | None


def decide(found: Found, sharded: Sequence[Sharded] = ()) -> Verdict:
    """Data parallelism where it fits and is not slower, else the fastest.

    Raises:
        ValueError: if nothing was found that fits.
    """
    if not found.ranking:
        raise ValueError("nothing fits")
    best, alone = found.ranking[0], found.data_parallel
    pipelined = next((each for each in found.ranking if each.setting.num_stages > 1), None)
    choice = best
    if alone is not None and alone.fits and alone.step_seconds <= best.step_seconds * (1 + NOISE):
        choice = alone
    is_pipeline = choice.setting.num_stages > 1
    better = [each for each in sharded if each.step_seconds < choice.step_seconds * (1 - NOISE)]
    return Verdict(
        choice=choice,
        pipeline=is_pipeline,
        rival=alone if is_pipeline else pipelined,
        sharded=min(better, key=lambda each: each.step_seconds, default=None),
    )


def sharded_estimates(workload: Workload, num_ranks: int, source: CostSource, cap_bytes: float) -> tuple[Sharded, ...]:
    """The fastest ways with ZeRO 2 and with ZeRO 3 that fit, as far as there are any; none for a single rank."""
    if num_ranks == 1 or workload.global_batch_rows % num_ranks:
        return ()
    laying = Laying(workload, source, cap_bytes)
    found = []
    for num_micro_batches in micro_batches_of(1, workload.global_batch_rows // num_ranks):
        for recompute in (0, "elementwise"):
            setting = Setting(
                num_replicas=num_ranks,
                num_micro_batches=num_micro_batches,
                recompute=0 if recompute == 0 else "elementwise",
                zero_stage=1,
            )
            candidate = laying.lay_out(setting)
            found += [_sharded(workload, source, candidate, stage) for stage in (2, 3)]
    fitting = [each for each in found if each.peak_bytes <= cap_bytes]
    fastest = (
        min((each for each in fitting if each.zero_stage == stage), key=lambda each: each.step_seconds, default=None)
        for stage in (2, 3)
    )
    return tuple(each for each in fastest if each is not None)


def _sharded(workload: Workload, source: CostSource, alone: Candidate, zero_stage: int) -> Sharded:
    """From data parallelism with the same micro-batches: other state, other messages."""
    machine, setting, memory = source.machine, alone.setting, alone.plan.memory[0]
    num_ranks, value_bytes = setting.num_replicas, workload.value_bytes
    num_parameters = alone.plan.num_parameters[0]
    largest = max(layer.num_parameters for layer in workload.layers)
    masters = 4 if value_bytes == 2 else 0
    state = (SUM_BYTES + masters + 4 * STATE_VALUES[workload.optimizer]) * num_parameters / num_ranks
    making = SUM_BYTES * largest  # the gradients of a layer before they are sent
    if zero_stage == 2:
        state += value_bytes * num_parameters
    else:
        state += value_bytes * num_parameters / num_ranks
        making += 2 * value_bytes * largest  # gathered for the layer at work, and for the next one
    usual = memory.parameter_bytes + memory.gradient_bytes + memory.optimizer_bytes
    prediction, computing = alone.prediction, alone.prediction.pipeline_seconds
    if zero_stage == 3:
        network = machine.network_of_replicas(0, num_ranks)
        once = network.all_reduce_seconds(value_bytes * num_parameters, num_ranks) / 2
        gathering = 2 * setting.num_micro_batches * once  # for each forward and each backward
        computing = max(computing, gathering) if machine.is_gpu else computing + gathering
    step = prediction.step_seconds - prediction.pipeline_seconds + computing
    return Sharded(zero_stage, setting, step, memory.total_bytes - usual + state + making)
