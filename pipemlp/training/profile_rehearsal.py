"""Steps of shortened models on the real pipeline, to learn what it takes besides its layers."""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.distributed as dist

from pipemlp.config.root import RunConfig
from pipemlp.engine.pipeline import DEFAULT_GRADIENTS, MicroBatch, Pipeline
from pipemlp.engine.virtual_stage import LossFunction
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.making import Known, lay_out
from pipemlp.planning.plan import Plan
from pipemlp.planning.profile import Profile
from pipemlp.planning.workload import Setting, workload_of
from pipemlp.profiling.rehearsal import RankStep, Rehearsal
from pipemlp.training.building import make_pipeline

NUM_STEPS, NUM_WARM_UP = 12, 3
SCHEDULE = "zb-h1"
"""All three kinds of actions."""


def shortened(layers: Sequence[LayerDescription], most: int) -> tuple[list[int], tuple[LayerDescription, ...]]:
    """At most `most` equal layers in a row: their indices in the whole model, and they themselves, numbered anew."""
    kept: list[int] = []
    for index, layer in enumerate(layers):
        behind = [replace(layers[own], index=layer.index) for own in kept[-most:]]
        if len(behind) < most or any(own != layer for own in behind):
            kept.append(index)
    return kept, tuple(replace(layers[index], index=position) for position, index in enumerate(kept))


def rehearsal_plan(
    config: RunConfig,
    layers: tuple[LayerDescription, ...],
    rows: int,
    num_stages: int,
    num_replicas: int,
    source: Profile,
    *,
    sharded: bool = False,
) -> Plan:
    """A small grid of stages and replicas, by the profile's costs; with ZeRO 1 if `sharded`, as bf16 always is."""
    setting = Setting(
        num_stages=num_stages,
        num_replicas=num_replicas,
        num_micro_batches=2 * num_stages + 1,
        schedule=SCHEDULE,
        zero_stage=1 if sharded or config.precision == "bf16" else 0,
        partition="parameters",
    )
    batch = rows * setting.num_replicas * setting.num_micro_batches
    return lay_out(replace(workload_of(config, layers), global_batch_rows=batch), setting, Known(source=source))


def most_stages(layers: Sequence[LayerDescription], num_ranks: int) -> int:
    """As many of the ranks as there are layers for, so that the others are replicas."""
    trained = sum(1 for layer in layers if layer.parameters)
    return next(count for count in range(min(num_ranks, trained), 0, -1) if num_ranks % count == 0)


def rehearse(
    config: RunConfig,
    layers: tuple[LayerDescription, ...],
    plan: Plan,
    loss: LossFunction,
    batch: Sequence[MicroBatch],
) -> Rehearsal:
    """Run on every rank; the same result on every rank.

    Args:
        config: for optimizer, precision, clipping.
        layers: the shortened model.
        plan: of its pipeline.
        loss: of the last layer.
        batch: the micro-batches of this rank.
    """
    pipeline = make_pipeline(config, layers, plan, loss, gradients=DEFAULT_GRADIENTS)
    own = [_step(pipeline, batch, step, config.optimizer.lr) for step in range(NUM_WARM_UP + NUM_STEPS)][NUM_WARM_UP:]
    everyone: list[list[RankStep]] = [[]] * dist.get_world_size()
    dist.all_gather_object(everyone, own)
    first_replica = everyone[:: plan.num_replicas]
    costs = plan.costs
    assert costs is not None
    return Rehearsal(
        layers={"F": costs.forward, "I": costs.input_gradient, "W": costs.weight_gradient},
        num_parameters=max(plan.num_parameters),
        hop_bytes=sum(costs.hop_bytes) / max(1, len(costs.hop_bytes)),
        steps=list(zip(*first_replica, strict=True)),
        num_layers=sum(1 for layer in layers if layer.parameters),
    )


def _step(pipeline: Pipeline, batch: Sequence[MicroBatch], step: int, learning_rate: float) -> RankStep:
    pipeline.clock.listen()
    dist.barrier()
    started = time.perf_counter()
    pipeline.train_batch(batch, step=step, learning_rate=learning_rate)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    ended = time.perf_counter()
    return RankStep(started, ended, tuple(pipeline.clock.events()))
