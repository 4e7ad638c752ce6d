"""Where a rank stands in the grid of stages and replicas."""

from dataclasses import dataclass

from pipemlp.planning.plan import Plan


@dataclass(frozen=True)
class Place:
    """Where a rank stands in the grid of stages and replicas.

    Args:
        stage, num_stages, replica, num_replicas: the grid.
        reads_inputs: whether it holds the first virtual stage.
        computes_loss: whether it holds the last one.
    """

    stage: int
    num_stages: int
    replica: int
    num_replicas: int
    reads_inputs: bool
    computes_loss: bool


def place_of(plan: Plan, global_rank: int) -> Place:
    """Replicas of a stage are neighbours: rank = stage x num_replicas + replica."""
    stage, replica = divmod(global_rank, plan.num_replicas)
    schedule = plan.schedule
    return Place(
        stage,
        plan.num_stages,
        replica,
        plan.num_replicas,
        reads_inputs=stage == 0,
        computes_loss=stage == schedule.stage_of(schedule.depth - 1),
    )
