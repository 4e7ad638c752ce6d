"""Process groups for exchanges: of the replicas of every stage, and nobody else's."""

from datetime import timedelta

import torch.distributed as dist

from pipemlp.planning.plan import Plan


def stage_group(plan: Plan, timeout_seconds: float, backend: str | None = None) -> dist.ProcessGroup:
    """A new group of the replicas of this rank's stage; every rank of the run calls this at the same time."""
    own = None
    for stage in range(plan.num_stages):
        first = stage * plan.num_replicas
        ranks = list(range(first, first + plan.num_replicas))
        group = dist.new_group(ranks, timeout=timedelta(seconds=timeout_seconds), backend=backend)
        if dist.get_rank() in ranks:
            own = group
    assert own is not None
    return own
