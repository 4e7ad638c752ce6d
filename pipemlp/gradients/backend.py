"""The backend's own all-reduce: its algorithm, its segments, its threads."""

import torch.distributed as dist
from torch import Tensor

from pipemlp.gradients.links import Links, lost

MOMENT = "all-reduce of the backend"
"""What is said to go on where a replica is lost in it."""


class Backend:
    """Sums by the backend of the group.

    What it sends is not ours to count: the bytes are those of a ring, 2 (N - 1) / N of the values, which is what gloo
    does, and the least that any all-reduce can do (Patarasuk and Yuan 2009).
    """

    def __init__(self, links: Links) -> None:
        self._links = links

    def sum(self, values: Tensor) -> None:
        """See `Pattern.sum`."""
        links = self._links
        if links.num_replicas == 1 or not values.numel():
            return
        links.bytes_sent += 2 * (links.num_replicas - 1) * values.nbytes // links.num_replicas
        try:
            dist.all_reduce(values, group=links.group)
        except RuntimeError as error:
            raise lost(None, MOMENT) from error
