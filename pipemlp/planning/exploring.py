"""What else there is to say of a simulated step: the best that was possible, its links, other schedules."""

from dataclasses import dataclass

from pipemlp.planning.automatic import make_automatic
from pipemlp.planning.stage_costs import StageCosts
from pipemlp.schedule.bounds import lower_bound
from pipemlp.schedule.deadlock import check_links
from pipemlp.schedule.methods import METHODS, make_schedule
from pipemlp.schedule.simulate import programs, simulate
from pipemlp.schedule.simulation import Simulation

MOST_ACTIONS_COMPARED = 20_000
"""Of a step for which other schedules and slower links are simulated too: about a second."""
ROUNDING = 1e-9
"""A share of a memory that does not count."""
_MOST_ACTIONS_SEARCHED = 2_000
"""Of a step for which zb-auto is one of the others."""


@dataclass(frozen=True)
class Findings:
    """A simulated step, and what it compares with.

    Args:
        simulation: the step, with sends that hold up nobody.
        ideal: the makespan of the same work without any bubble.
        lower_bound: the least that any order of the same placement takes.
        blocking_makespan: with sends that hold up their stage until they are received; None if too large to look at.
        others: the same sizes and costs by the other schedules, those that hold the memory; none if too large to look
            at.
    """

    simulation: Simulation
    ideal: float
    lower_bound: float
    blocking_makespan: float | None
    others: tuple[Simulation, ...]


def explore(
    simulation: Simulation, stage_costs: StageCosts, memory: float | None = None, *, compare: bool = True
) -> Findings:
    """All findings, without the others unless `compare`; `memory` as for `simulate`.

    Raises:
        ScheduleError: if its transfers could hang, which would be a mistake of ours.
    """
    schedule = simulation.schedule
    costs = stage_costs.of_all(schedule.num_stages, schedule.num_virtual_stages)
    bound = lower_bound(
        schedule.num_stages, schedule.num_micro_batches, schedule.num_virtual_stages, costs, schedule.placement
    )
    blocking: float | None = None
    others: tuple[Simulation, ...] = ()
    num_actions = sum(map(len, schedule.actions))
    if num_actions <= MOST_ACTIONS_COMPARED:
        check_links(programs(schedule, costs), schedule)
        blocking = simulate(schedule, costs, sends="blocking").makespan
        others = _others(simulation, stage_costs, memory, num_actions) if compare else ()
    return Findings(
        simulation=simulation,
        ideal=sum(simulation.busy) / schedule.num_stages,
        lower_bound=bound,
        blocking_makespan=blocking,
        others=others,
    )


def _others(
    simulation: Simulation, stage_costs: StageCosts, memory: float | None, num_actions: int
) -> tuple[Simulation, ...]:
    """The named schedules but this one, each with its own number of virtual stages."""
    num_stages, num_micro_batches = simulation.schedule.num_stages, simulation.schedule.num_micro_batches
    others = []
    for name, method in METHODS.items():
        if name == simulation.schedule.name or (method.make is None and num_actions > _MOST_ACTIONS_SEARCHED):
            continue
        try:
            if method.make is None:
                numbers = tuple(reversed(method.virtual_stages or ()))
                schedule = make_automatic(num_stages, num_micro_batches, numbers, stage_costs, memory)
            else:
                schedule = make_schedule(name, num_stages, num_micro_batches)
        except ValueError:  # the memory is too small
            continue
        other = simulate(schedule, stage_costs.of_all(num_stages, schedule.num_virtual_stages))
        if memory is None or max(other.peak_bytes) <= memory * (1.0 + ROUNDING):
            others.append(other)
    return tuple(others)
