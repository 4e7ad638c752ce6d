"""`parallel: auto`: plan before the run, for all devices of this machine or for the processes that are there."""

from collections.abc import Callable
from typing import NamedTuple

from pipemlp.config.errors import ConfigError
from pipemlp.config.root import RunConfig
from pipemlp.launching.devices import num_cores, num_gpus
from pipemlp.planning.candidates import grids
from pipemlp.planning.plan_file import PlanFile
from pipemlp.planning.remedies import describe
from pipemlp.planning.workload import Workload, workload_of
from pipemlp.training.cost_sources import on_gpu
from pipemlp.training.planner import Question, answer
from pipemlp.training.planning import planning_inputs

MOST_RANKS_ON_CPU = 8
"""More processes on one machine only wait for memory."""


class AutomaticPlan(NamedTuple):
    """What was decided.

    Args:
        planned: the plan, as a plan file has it.
        notes: for the user.
    """

    planned: PlanFile
    notes: tuple[str, ...]


def num_devices(config: RunConfig) -> int:
    """GPUs of this machine, or its cores, up to a few."""
    return max(1, num_gpus() if on_gpu(config) else min(num_cores(), MOST_RANKS_ON_CPU))


def plan_automatically(
    config: RunConfig, num_ranks: int | None = None, progress: Callable[[float, str], None] = lambda share, what: None
) -> AutomaticPlan:
    """The plan of the fastest way to run a configuration whose `parallel` is `auto`.

    Args:
        config: as the user wrote it.
        num_ranks: of the processes that were started; else as many as this machine has devices that can be used.
        progress: told what is done.

    Raises:
        ConfigError: if nothing fits, or the processes cannot be used.
    """
    inputs = planning_inputs(config)
    workload = workload_of(inputs.config, inputs.layers)
    count = num_ranks or _usable(workload, num_devices(config))
    try:
        found = answer(inputs, Question(ranks=count), progress)
    except ConfigError as error:
        raise ConfigError([f"parallel: auto: {message}" for message in error.messages]) from error
    return AutomaticPlan(found.plan_file, (f"parallel: {describe(found.choice.setting)}; {found.origin}",))


def _usable(workload: Workload, num_ranks: int) -> int:
    """The most of them for which there is a way."""
    return next(number for number in range(num_ranks, 0, -1) if grids(workload, number))
