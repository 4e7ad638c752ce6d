"""Every cut there is, tried one by one: what the searches have to agree with."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from pipemlp.planning.layer_costs import LayerCosts
from pipemlp.schedule.placement import Placement, stage_of


def every_cut(trainable: Sequence[bool], depth: int) -> Iterator[tuple[int, ...]]:
    """All boundaries of runs that have a layer to train each."""
    num_layers = len(trainable)
    for inner in combinations(range(1, num_layers), depth - 1):
        cut = (0, *inner, num_layers)
        if all(any(trainable[cut[run] : cut[run + 1]]) for run in range(depth)):
            yield cut


def worth(
    costs: LayerCosts,
    cut: Sequence[int],
    num_stages: int,
    placement: Placement,
    in_flight: Sequence[float],
) -> tuple[list[float], float, list[float]]:
    """Seconds by stage, bytes sent in one direction, and bytes held by stage."""
    seconds, held, sent = [0.0] * num_stages, [0.0] * num_stages, 0.0
    depth = len(cut) - 1
    owners = [stage_of(run, num_stages, placement) for run in range(depth)]
    for run, owner in enumerate(owners):
        start, stop = cut[run], cut[run + 1]
        seconds[owner] += sum(costs.seconds[start:stop])
        kept = sum(costs.kept_bytes[start:stop])
        kept += costs.first_bytes[start] if costs.first_bytes else 0
        kept += costs.last_bytes[stop - 1] if costs.last_bytes else 0
        held[owner] += sum(costs.state_bytes[start:stop]) + in_flight[owner] * kept
        if run + 1 < depth and owners[run + 1] != owner:
            sent += costs.crossing_bytes[stop - 1]
            for stage in (owner, owners[run + 1]):  # the result goes on, its gradient comes back
                seconds[stage] += costs.crossing_seconds[stop - 1]
    return seconds, sent, held


def best_worth(
    costs: LayerCosts,
    trainable: Sequence[bool],
    num_stages: int,
    num_virtual_stages: int,
    placement: Placement,
    caps: Sequence[float],
    in_flight: Sequence[float],
) -> tuple[float, float, float] | None:
    """The slowest stage, bytes sent and largest peak of the best cut; None if no cut keeps the caps."""
    found = []
    for cut in every_cut(trainable, num_stages * num_virtual_stages):
        seconds, sent, held = worth(costs, cut, num_stages, placement, in_flight)
        if all(own <= cap for own, cap in zip(held, caps, strict=True)):
            found.append((max(seconds), sent, max(held)))
    return min(found, default=None)
