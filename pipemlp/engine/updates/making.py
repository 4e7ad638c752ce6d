"""The update that a configuration asks for, with the process groups it needs."""

from collections.abc import Sequence

from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.pipe.engine import PipelineEngine
from torch import Tensor, nn

from pipemlp.config.gradients import GradientsConfig, Local
from pipemlp.config.training import OptimizerConfig
from pipemlp.engine.updates.asynchronous import AsynchronousGroups, AsynchronousUpdate
from pipemlp.engine.updates.groups import stage_group
from pipemlp.engine.updates.local import LocalUpdate
from pipemlp.engine.updates.served import ServedUpdate
from pipemlp.engine.updates.synchronous import SynchronousUpdate, is_plain
from pipemlp.engine.updates.update import Update
from pipemlp.engine.votes import Votes
from pipemlp.planning.plan import Plan

FOR_EVER_SECONDS = 10.0 * 365 * 24 * 3600
"""A server listens as long as there is a run."""


def steps_apart(config: GradientsConfig, plan: Plan) -> bool:
    """Whether each replica steps by its own gradient, so that DeepSpeed must know of no other."""
    return plan.num_replicas > 1 and (config.is_asynchronous or isinstance(config.update, Local))


def make_update(
    config: GradientsConfig,
    plan: Plan,
    engine: PipelineEngine,
    parameters: Sequence[nn.Parameter],
    flat: Tensor,
    optimizer: OptimizerConfig,
    clip_norm: float | None,
    timeout_seconds: float,
    *,
    skips: bool = False,
) -> Update:
    """Called by all ranks at the same time.

    Args:
        config: the section `gradients`.
        plan: with the grid.
        engine: with its optimizer.
        parameters: of this stage, in the order of the sums.
        flat: where the sums are.
        optimizer: its configuration, for servers.
        clip_norm: largest norm of the gradient, for servers.
        timeout_seconds: how long a replica waits for another.
        skips: whether a step whose gradient is not finite is left out, and not the last.
    """
    is_apart = steps_apart(config, plan)
    together = engine.grid.get_pipe_parallel_group() if is_apart and plan.num_stages > 1 else None
    # where DeepSpeed's step wants a norm over all ranks, they meet anyway, and none may stay away
    meets = clip_norm is not None or plan.zero_stage > 0 or isinstance(engine.optimizer, BF16_Optimizer)
    votes = Votes(together, plan.num_stages if is_apart else plan.num_ranks, at_once=skips or meets)
    if plan.num_replicas == 1:
        return SynchronousUpdate(engine, config, None, flat, votes)
    if config.is_asynchronous:
        # receiving from whoever sends exists on gloo only
        groups = AsynchronousGroups(
            requests=stage_group(plan, FOR_EVER_SECONDS, "gloo"),
            answers=stage_group(plan, timeout_seconds, "gloo"),
            pipe=together,
        )
        return AsynchronousUpdate(parameters, flat, optimizer, config, clip_norm, groups, votes, timeout_seconds)
    if is_plain(config) and not isinstance(config.update, Local):
        return SynchronousUpdate(engine, config, engine.grid.get_data_parallel_group(), flat, votes)
    group = stage_group(plan, timeout_seconds)
    if isinstance(config.update, Local):
        return LocalUpdate(engine, parameters, config, group, flat, votes)
    if config.pattern == "parameter-server":
        return ServedUpdate(parameters, optimizer, config.compression, clip_norm, group, votes)
    return SynchronousUpdate(engine, config, group, flat, votes)
