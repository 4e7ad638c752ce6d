"""The key-value store of the default process group."""

import torch.distributed as dist
from torch.distributed import distributed_c10d


def default_store() -> dist.Store:
    """Where all ranks met; whoever adds to a counter learns its value."""
    return distributed_c10d._get_default_store()
