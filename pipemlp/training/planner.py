"""Plan a configuration for a number of ranks: what `pipemlp plan`, `parallel: auto` and `pipemlp.plan` do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipemlp.config.errors import ConfigError
from pipemlp.config.loading import load_config
from pipemlp.config.root import RunConfig
from pipemlp.planning.candidates import check_ranks
from pipemlp.planning.comparison import decide, sharded_estimates
from pipemlp.planning.devices import device_of
from pipemlp.planning.machine import CostSource
from pipemlp.planning.profile import Profile
from pipemlp.planning.remedies import problem_text, remedies
from pipemlp.planning.search import search
from pipemlp.planning.workload import workload_of
from pipemlp.training.answer import Answer
from pipemlp.training.cost_sources import Chosen, Placed, choose_source
from pipemlp.training.planning import PlanningInputs, planning_inputs
from pipemlp.training.plugins import load_plugins
from pipemlp.training.simulating import without_collector
from pipemlp.training.sizes import size_of

Progress = Callable[[float, str], None]
LEAST_WANTED = 3
"""Of the ranking: the sentence that says why the winner wins needs others."""


@dataclass(frozen=True)
class Question:
    """What is asked; None where nothing is said.

    Args:
        ranks: all of them are to be used; else as many as the configuration runs on.
        device: of the table; or with a profile, the device that it was measured on, if that is another machine's.
        memory: bytes of a rank; else the device's.
        nodes: that share the ranks evenly.
        profile: a file; else the usual one, if it is there.
        top: candidates in the ranking.
    """

    ranks: int | None = None
    device: str | None = None
    memory: float | None = None
    nodes: int | None = None
    profile: Path | None = None
    top: int = 5

    def check(self) -> None:
        """Raise ConfigError with all that is wrong with the question itself."""
        problems = [
            f"{name}: {number} is too small; at least 1"
            for name, number in (("ranks", self.ranks), ("nodes", self.nodes), ("top", self.top))
            if number is not None and number < 1
        ]
        if self.device is not None and self.profile is None:
            try:
                device_of(self.device)
            except ValueError as error:
                problems.append(f"device: {error}")
        if problems:
            raise ConfigError(problems)


def plan(
    config: RunConfig | str | Path,
    ranks: int | None = None,
    *,
    device: str | None = None,
    memory: float | str | None = None,
    nodes: int | None = None,
    profile: str | Path | None = None,
    plugins: Sequence[str] = (),
) -> Answer:
    """The fastest way to run a configuration on a number of ranks, or that it should not be pipelined.

    Args:
        config: a configuration or its file.
        ranks: all of them are to be used; else as many as the configuration has.
        device: plan by the data sheet of `h100-80gb`, ...
        memory: of a rank, in bytes or such as `80G`; else the device's.
        nodes: that share the ranks evenly.
        profile: a file of `pipemlp profile`; else NAME.profile.json, if it is there and no device is given.
        plugins: modules that register your own blocks, losses, ...

    Raises:
        ConfigError, DataError: for what cannot be planned, with the nearest thing that can.
    """
    load_plugins(plugins)
    size = size_of(memory) if isinstance(memory, str) else memory
    question = Question(ranks, device, size, nodes, None if profile is None else Path(profile))
    question.check()
    return answer(planning_inputs(config if isinstance(config, RunConfig) else load_config(config)), question)


def answer(
    inputs: PlanningInputs,
    question: Question,
    progress: Progress = lambda share, what: None,
    chosen: Chosen | None = None,
) -> Answer:
    """The search and the decision.

    Args:
        inputs: what is planned.
        question: what is asked.
        progress: told what is done.
        chosen: the source of the costs, if the question does not say it.

    Raises:
        ConfigError: for ranks or nodes that cannot be, a profile of something else, a memory into which nothing fits.
    """
    config, workload = inputs.config, workload_of(inputs.config, inputs.layers)
    num_ranks = inputs.num_ranks if question.ranks is None else question.ranks
    try:
        check_ranks(workload, num_ranks)
    except ValueError as error:
        raise ConfigError(f"ranks: {error}") from error
    if question.nodes and num_ranks % question.nodes:
        raise ConfigError(_nodes_problem(num_ranks, question.nodes))
    chosen = chosen or choose_source(config, inputs.layers, question.profile, question.device)
    source = Placed(chosen.source, num_ranks // question.nodes) if question.nodes else chosen.source
    cap_bytes = source.machine.memory_bytes if question.memory is None else question.memory
    with without_collector():
        wanted = max(question.top, LEAST_WANTED)
        found = search(workload, num_ranks, source, memory_cap=cap_bytes, num_wanted=wanted, progress=progress)
        if not found.ranking:
            raise ConfigError(problem_text(remedies(workload, num_ranks, source, cap_bytes)))
        verdict = decide(found, sharded_estimates(workload, num_ranks, source, cap_bytes))
    origin = chosen.origin + _other_ranks(chosen.source, num_ranks)
    return Answer(workload, source.machine, origin, num_ranks, cap_bytes, found, verdict, question.top, config)


def _other_ranks(source: CostSource, num_ranks: int) -> str:
    """A warning where ranks that share a machine were measured in another number."""
    measured = dict(source.facts).get("ranks") if isinstance(source, Profile) and not source.machine.is_gpu else None
    if measured in (None, str(num_ranks)):
        return ""
    return f", with {measured} ranks at once and not {num_ranks}, which on the same cores are faster or slower"


def _nodes_problem(num_ranks: int, num_nodes: int) -> str:
    divisors = [number for number in range(1, num_ranks + 1) if num_ranks % number == 0]
    near = sorted(divisors, key=lambda number: (abs(number - num_nodes), number))[:2]
    return (
        f"nodes: {num_nodes} nodes cannot share {num_ranks} ranks evenly ({num_ranks} % {num_nodes} = "
        f"{num_ranks % num_nodes}); nearest valid values: {' or '.join(map(str, sorted(near)))}"
    )
