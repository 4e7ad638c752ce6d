"""Set one timeout for every process group: DeepSpeed's subgroups keep 30 minutes whatever the world has."""

from datetime import timedelta

from torch.distributed import distributed_c10d


def set_all_timeouts(timeout_seconds: float) -> None:
    """Give every process group of this process the timeout, in seconds."""
    for group in list(distributed_c10d._world.pg_map):
        distributed_c10d._set_pg_timeout(timedelta(seconds=timeout_seconds), group)
