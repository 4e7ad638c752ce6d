"""`parallel: auto`: plan before the run, for all devices of this machine or for the processes that are there."""

from collections.abc import Callable
from typing import NamedTuple

from pipemlp.config.errors import ConfigError
from pipemlp.config.root import RunConfig
from pipemlp.planning.plan_file import PlanFile
from pipemlp.planning.remedies import describe
from pipemlp.training.cost_sources import usual_source
from pipemlp.training.planner import Question, answer
from pipemlp.training.planning import planning_inputs


class AutomaticPlan(NamedTuple):
    """What was decided.

    Args:
        planned: the plan, as a plan file has it.
        notes: for the user.
    """

    planned: PlanFile
    notes: tuple[str, ...]


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
    try:
        found = answer(inputs, Question(ranks=num_ranks), progress, usual_source(inputs.config, inputs.layers))
    except ConfigError as error:
        raise ConfigError([f"parallel: auto: {message}" for message in error.messages]) from error
    return AutomaticPlan(found.plan_file, (f"parallel: {describe(found.choice.setting)}; {found.origin}",))
