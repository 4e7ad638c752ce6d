"""What a machine adds to the work of layers: messages, reductions, optimizer, the cost of actions and of steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from pipemlp.planning.devices import Link
from pipemlp.planning.layer_times import LayerTimes
from pipemlp.planning.recompute import Recompute


@dataclass(frozen=True)
class Curve:
    """Seconds by bytes, as measured for some sizes; a straight line between two of them, and beyond the last two.

    Args:
        sizes: bytes, rising.
        seconds: for each size.
    """

    sizes: tuple[float, ...]
    seconds: tuple[float, ...]

    def at(self, num_bytes: float) -> float:
        """Seconds for so many bytes; below the smallest size those of the smallest."""
        if len(self.sizes) == 1 or num_bytes <= self.sizes[0]:
            return self.seconds[0]
        points = list(pairwise(zip(self.sizes, self.seconds, strict=True)))
        (left, low), (right, high) = next((pair for pair in points if num_bytes <= pair[1][0]), points[-1])
        if num_bytes > right:  # what falls does not go on falling
            high = max(low, high)
        return low + (high - low) * (num_bytes - left) / (right - left)


def curve_of(link: Link) -> Curve:
    """The line of a link."""
    return Curve((0.0, link.bytes_per_second), (link.latency_seconds, link.latency_seconds + 1.0))


@dataclass(frozen=True)
class PatternTimes:
    """What one of our own patterns took.

    Args:
        name: `ring`, `tree` or `fully-connected`.
        num_replicas: that were summed over.
        seconds: by the bytes of the values on every replica.
    """

    name: str
    num_replicas: int
    seconds: Curve


@dataclass(frozen=True)
class Network:
    """Ways between ranks of one kind, inside a node or between nodes.

    Args:
        message: of one tensor from a stage to the next, by its bytes.
        reduction: of summing up over replicas, by the bytes that every one of them sends for it.
        turn_seconds: of every turn that a ring takes besides, of which there are 2 (n - 1) for n replicas.
        patterns: that were measured.
    """

    message: Curve
    reduction: Curve
    turn_seconds: float = 0.0
    patterns: tuple[PatternTimes, ...] = ()

    def pattern(self, name: str) -> PatternTimes | None:
        """What was measured of a pattern."""
        return next((each for each in self.patterns if each.name == name), None)

    def all_reduce_seconds(self, num_bytes: float, num_replicas: int) -> float:
        """The time of a ring's all-reduce: every rank sends 2 (n - 1) / n of the bytes (Patarasuk, Yuan 2009)."""
        if num_replicas == 1 or num_bytes == 0:
            return 0.0
        turns = 2 * (num_replicas - 1)
        return self.reduction.at(num_bytes * turns / num_replicas) + turns * self.turn_seconds


@dataclass(frozen=True)
class Machine:
    """What steps take besides their layers, and what a rank may hold.

    Args:
        name: of the device.
        is_measured: whether a profile says so, and not a maker's data sheet.
        memory_bytes: of one rank.
        inside, between: ways between ranks of one node, and of two.
        action_seconds: of an `F`, an `I` and a `W` besides their layers; a `B` is an `I` and a `W`.
        overhead_seconds: between any two actions.
        step_seconds: of a step besides its actions, its optimizer and its reductions.
        optimizer_seconds: per parameter that a rank updates.
        sharding_seconds: of a step with ZeRO 1 besides, per layer of a rank.
        is_gpu: whether it is a GPU: gradients are summed up over the replicas while it goes on computing.
        ranks_per_node: as many as share a node; 0 for all.
    """

    name: str
    is_measured: bool
    memory_bytes: float
    inside: Network
    between: Network
    action_seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)
    overhead_seconds: float = 0.0
    step_seconds: float = 0.0
    optimizer_seconds: float = 0.0
    sharding_seconds: float = 0.0
    is_gpu: bool = True
    ranks_per_node: int = 0

    def share_node(self, ranks: Sequence[int]) -> bool:
        """Whether all these global ranks are on one node."""
        return self.ranks_per_node == 0 or len({rank // self.ranks_per_node for rank in ranks}) <= 1

    def network_of_cut(self, stage: int, other: int, num_replicas: int) -> Network:
        """Between two stages: the slower one, if it is another for some replica.

        Replicas of a stage are neighbours: rank = stage x replicas + replica.
        """
        pairs = ((stage * num_replicas + index, other * num_replicas + index) for index in range(num_replicas))
        return self.inside if all(map(self.share_node, pairs)) else self.between

    def network_of_replicas(self, stage: int, num_replicas: int) -> Network:
        """Between the replicas of a stage."""
        same = self.share_node(range(stage * num_replicas, (stage + 1) * num_replicas))
        return self.inside if same else self.between


class CostSource(Protocol):
    """Whoever knows what a model's layers cost on a machine: a profile, or a device's data sheet."""

    @property
    def machine(self) -> Machine:
        """What there is besides the layers."""

    def times(self, rows: int, recompute: Recompute) -> LayerTimes:
        """Seconds of one micro-batch of so many rows, layer by layer."""
