"""Measure again and again until it is enough: blocks of rounds, whose medians count, on all ranks at once.

A round is one go through what is measured, in phases. A block is several rounds, and gives a mean for each phase, as
a step of a pipeline sums up many actions. The median over blocks and ranks is the result; the range of their middle
half over their median is the spread.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles

from pipemlp.profiling.together import Together

Round = Callable[[], Sequence[float]]
"""One go; the seconds of each phase."""


@dataclass(frozen=True)
class Effort:
    """How long to measure one thing.

    Args:
        seconds: at most, once there are the fewest blocks.
        fewest, most: blocks.
        rounds: of a block.
        spread: is enough.
    """

    seconds: float = 1.0
    fewest: int = 3
    most: int = 12
    rounds: int = 4
    spread: float = 0.03


@dataclass(frozen=True)
class Timing:
    """What came of it.

    Args:
        phases: seconds of each.
        spread: of the sum of all phases.
        num_rounds: over all ranks.
    """

    phases: tuple[float, ...]
    spread: float
    num_rounds: int


def measure(one_round: Round, together: Together, effort: Effort) -> Timing:
    """Run on every rank at the same time; the same result on every rank.

    The first round is not counted: it makes what later ones find ready.
    """
    one_round()
    together.meet()
    started, blocks = time.perf_counter(), []
    while True:
        rounds = [one_round() for _ in range(effort.rounds)]
        blocks.append([fmean(phase) for phase in zip(*rounds, strict=True)])
        late = time.perf_counter() - started > effort.seconds
        steady = len(blocks) >= effort.fewest and spread_of(list(map(sum, blocks))) <= effort.spread
        enough = len(blocks) >= effort.most or (len(blocks) >= effort.fewest and (late or steady))
        if together.all_agree(enough):
            break
    everyone = [block for own in together.gathered(blocks) for block in own]
    return Timing(
        phases=tuple(median(phase) for phase in zip(*everyone, strict=True)),
        spread=spread_of(list(map(sum, everyone))),
        num_rounds=effort.rounds * len(everyone),
    )


def spread_of(values: Sequence[float]) -> float:
    """The range of the middle half over the median; 0 for a single value."""
    if len(values) < 2 or not median(values):
        return 0.0
    low, _, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / median(values)
