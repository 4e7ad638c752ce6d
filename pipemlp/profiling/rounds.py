"""Measure again and again: blocks of rounds, whose medians count, on all ranks at once.

A round is one go through what is measured, in phases. A block is several rounds, and gives a mean for each phase, as
a step of a pipeline sums up many actions. The median over blocks and ranks is the result; the range of their middle
half over their median is the spread.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles

from pipemlp.profiling.together import Together

Round = Callable[[], Sequence[float]]
"""One go; the seconds of each phase."""
Block = tuple[float, ...]
"""The mean seconds of each phase."""

BLOCK_SECONDS = 0.02
ROUNDS_IN_TURN, RANKS_IN_TURN = 3, 2
FEWEST_ROUNDS, MOST_ROUNDS = 2, 16
"""In a block, whatever they take."""


@dataclass(frozen=True)
class Timing:
    """What came of it.

    Args:
        phases: seconds of each.
        spread: of the sum of all phases.
        num_blocks: over all ranks.
    """

    phases: Block
    spread: float
    num_blocks: int


def measure(one_round: Round, together: Together, num_blocks: int) -> list[Block]:
    """Run on every rank at the same time; the blocks of all ranks, on every rank.

    The first rounds are not counted: one makes what later ones find ready, the next tells how many make a block.
    """
    one_round()
    together.meet()
    slowest = max(together.gathered(sum(one_round())))
    rounds = min(max(math.ceil(BLOCK_SECONDS / max(slowest, 1e-9)), FEWEST_ROUNDS), MOST_ROUNDS)
    together.meet()
    own = [_block(one_round, rounds) for _ in range(num_blocks)]
    return [block for each in together.gathered(own) for block in each]


def measure_in_turn(one_round: Round, together: Together, num_blocks: int) -> list[Block]:
    """The same by two ranks in turn, each while all others idle, as in a pipeline without overlap.

    What one of them leaves in a cache that they share, the other one may evict.
    """
    blocks = []
    for _ in range(num_blocks):
        rounds = []
        for _ in range(ROUNDS_IN_TURN):
            for rank in range(RANKS_IN_TURN):
                together.meet()
                if rank == together.rank:
                    rounds.append(one_round())
        if rounds:
            blocks.append(tuple(fmean(phase) for phase in zip(*rounds, strict=True)))
    return [block for each in together.gathered(blocks) for block in each]


def _block(one_round: Round, rounds: int) -> Block:
    return tuple(fmean(phase) for phase in zip(*(one_round() for _ in range(rounds)), strict=True))


def timing_of(blocks: Sequence[Block]) -> Timing:
    """The median of each phase, and how much the blocks differ."""
    return Timing(
        phases=tuple(median(phase) for phase in zip(*blocks, strict=True)),
        spread=spread_of(list(map(sum, blocks))),
        num_blocks=len(blocks),
    )


def spread_of(values: Sequence[float]) -> float:
    """The range of the middle half over the median; 0 for a single value."""
    if len(values) < 2 or not median(values):
        return 0.0
    low, _, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / median(values)
