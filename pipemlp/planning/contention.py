"""Ranks that share a machine slow each other down: what actions take, given who else computes at the same time.

    rank 0   |== F0 ==|== F1 ==|...............|== B0 ==|      F1 beside F0 of rank 1: slower than
    rank 1   ..........|== F0 ==|== B0 ==|...............      F0, while rank 1 idles

How much of an action others compute is read off a simulated step, which is then simulated again with what that makes of
the costs, until little changes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipemlp.planning.layer_times import LayerTimes
from pipemlp.schedule.simulation import Simulation

Overlaps = Mapping[tuple[int, str], float]
"""By virtual stage and kind (`F`, `I`, `W`): the share of the other ranks that compute meanwhile, on average."""


def overlaps(simulation: Simulation, num_replicas: int) -> Overlaps:
    """What each virtual stage's actions meet; replicas do the same things at the same time.

    A `B` counts as an `I` and a `W`.
    """
    schedule = simulation.schedule
    num_others = max(1, schedule.num_stages * num_replicas - 1)
    rows = [(np.array(one), np.array(other)) for one, other in zip(simulation.starts, simulation.ends, strict=True)]
    sums: dict[tuple[int, str], tuple[float, float]] = {}
    for stage, (starts, ends) in enumerate(rows):
        others = np.zeros(len(starts))
        for index, (begin, stop) in enumerate(rows):
            if index != stage:
                others += _busy_until(begin, stop, ends) - _busy_until(begin, stop, starts)
        for action, seconds, beside in zip(schedule.actions[stage], ends - starts, others, strict=True):
            for kind in ("I", "W") if action.kind == "B" else (action.kind,):
                own, met = sums.get((action.virtual_stage, kind), (0.0, 0.0))
                sums[action.virtual_stage, kind] = own + seconds, met + beside
    return {
        key: (num_replicas - 1 + num_replicas * (met / own if own else 0.0)) / num_others
        for key, (own, met) in sums.items()
    }


def _busy_until(starts: NDArray[np.float64], ends: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds that a stage has computed until each moment."""
    edges = np.stack((starts, ends), axis=1).ravel()
    busy = np.stack((np.zeros(len(starts)), ends - starts), axis=1).ravel().cumsum()
    return np.asarray(np.interp(at, edges, busy))


def slowed(seconds: Sequence[float], alone: Sequence[float], overlap: float) -> list[float]:
    """Seconds of layers when so large a share of the other ranks computes meanwhile.

    Args:
        seconds: of each layer, when all of them do.
        alone: the share of that which it takes when none does; empty for all of it.
        overlap: 0 to 1.
    """
    if not alone:
        return list(seconds)
    return [own * (share + (1.0 - share) * overlap) for own, share in zip(seconds, alone, strict=True)]


def undisturbed(times: LayerTimes) -> LayerTimes:
    """What layers take at least: while the other ranks idle."""
    if not times.alone:
        return times
    parts = (times.forward, times.input_gradient, times.weight_gradient)
    return LayerTimes(*(tuple(slowed(part, times.alone, 0.0)) for part in parts))
