"""Who sends what to whom, so that every replica ends with the sum: one interface, chosen by name.

    N replicas, B bytes       steps              bytes that a replica sends
    ring                      2 (N - 1)          2 B (N - 1) / N
    tree                      2 ceil(log2 N)     B per child, B to its parent
    fully-connected           2                  2 B (N - 1) / N, to all others at once

With a latency of alpha per step and beta per byte on each replica's link, a ring takes 2 (N - 1) alpha +
2 B (N - 1) / N beta, and a tree, without its pipelining, 2 ceil(log2 N) (alpha + B beta) (Thakur et al. 2005).
"""

from collections.abc import Callable
from typing import Protocol

import torch.distributed as dist
from torch import Tensor

from pipemlp.gradients.backend import Backend
from pipemlp.gradients.fully_connected import FullyConnected
from pipemlp.gradients.links import Links
from pipemlp.gradients.ring import Ring
from pipemlp.gradients.tree import Tree


class Pattern(Protocol):
    """Sums over the replicas of a stage; every replica calls with as many values, in the same order of calls."""

    def sum(self, values: Tensor) -> None:
        """In place: the sum over the replicas, the same bits on every replica and in every run.

        Args:
            values: 1-D, contiguous, float32, float64 or bfloat16, and added in that type; any number.

        Raises:
            ExchangeError: if a replica is gone or does not answer.
        """


def make_pattern(name: str, links: Links) -> Pattern:
    """The pattern `backend`, `ring`, `tree` or `fully-connected`.

    On NCCL ring and tree are the backend's own, chosen by its environment before the group is made.
    """
    if name in ("ring", "tree") and "nccl" in dist.get_backend(links.group):
        name = "backend"
    patterns: dict[str, Callable[[Links], Pattern]] = {
        "backend": Backend,
        "ring": Ring,
        "tree": Tree,
        "fully-connected": FullyConnected,
    }
    return patterns[name](links)
