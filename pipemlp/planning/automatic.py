"""zb-auto for equal stages, with as many virtual stages per stage as make the step shortest."""

from collections.abc import Sequence

from pipemlp.planning.stage_costs import StageCosts
from pipemlp.schedule.methods import make_schedule
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import simulate


def make_automatic(
    num_stages: int,
    num_micro_batches: int,
    virtual_stages: Sequence[int],
    stage_costs: StageCosts,
    memory_cap: float | None = None,
) -> Schedule:
    """The shortest of the orders that zb-auto finds; of equally short ones the first.

    Args:
        num_stages, num_micro_batches: sizes.
        virtual_stages: per stage, the numbers to try.
        stage_costs: of a whole stage.
        memory_cap: as for zb-auto.

    Raises:
        ValueError: if no order holds the cap.
    """
    found: list[tuple[float, int, Schedule]] = []
    for index, num_virtual_stages in enumerate(virtual_stages):
        costs = stage_costs.of_all(num_stages, num_virtual_stages)
        try:
            schedule = make_schedule(
                "zb-auto", num_stages, num_micro_batches, num_virtual_stages, costs=costs, memory_cap=memory_cap
            )
        except ValueError:
            if not found and index == len(virtual_stages) - 1:
                raise
            continue
        found.append((simulate(schedule, costs).makespan, index, schedule))
    return min(found, key=lambda each: each[:2])[-1]
