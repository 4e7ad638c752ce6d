"""The numbers a search for the best cut works on: whole units of time and of bytes, summed up to every position.

Position p stands between layer p - 1 and layer p; a run (a, b) holds the layers a..b-1. Its stage pays
`stop[b] - start[a]`: the work of its layers, and one tensor sent over each of its two cuts (results go on over the
right one, gradients go back over the left one). The bytes it holds are such a difference too. Units are whole numbers,
so that sums are exact whatever their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import frexp, ldexp

import numpy as np
from numpy.typing import NDArray

from pipemlp.planning.layer_costs import LayerCosts
from pipemlp.schedule.placement import Placement, virtual_stages_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NOTHING = -(2**62)
"""Worse than any value of a position that can be reached."""

ENDLESS = 2**60
"""A limit, or a cap, that nothing reaches."""

_BITS = 48
"""The whole model takes less than 2^48 units: whole bytes stay exact, and 2^12 stages' worth is still an int64."""

_LEAST_EXPONENT = -1074
"""Of a float: 2^-1074 is the smallest."""


@dataclass(frozen=True)
class CutProblem:
    """Layers to be cut into contiguous runs, and what the stages that hold them may take.

    Args:
        num_stages, num_virtual_stages, placement: the runs, and who holds them.
        unit, byte_unit: seconds in one unit of time, bytes in one unit of memory; powers of two, a byte at least.
        before: units of the layers before each position, [num_layers + 1].
        start, stop: `before` less, and plus, what the crossing at the position costs a stage.
        crossing_bytes: of the tensor at each position; 0 at both ends.
        trained_before: layers with parameters before each position.
        state_before, kept_before: bytes of the layers before each position.
        opening, closing: bytes that a run keeps besides if it begins, or ends, at each position.
        in_flight: micro-batches whose kept bytes a stage holds, [num_stages].
        caps: units of memory that a stage may hold, [num_stages]; ENDLESS for no cap.
        is_mirrored: whether positions count from the last layer; those of the bytes never do.
    """

    num_stages: int
    num_virtual_stages: int
    placement: Placement
    unit: float
    byte_unit: float
    before: Ints
    start: Ints
    stop: Ints
    crossing_bytes: Ints
    trained_before: Ints
    state_before: Floats
    kept_before: Floats
    opening: Floats
    closing: Floats
    in_flight: Floats
    caps: Ints
    is_mirrored: bool = False

    @property
    def num_layers(self) -> int:
        """Layers of the whole model."""
        return len(self.before) - 1

    @property
    def most(self) -> int:
        """Units that no stage exceeds."""
        return int(self.before[-1] + 2 * self.num_virtual_stages * (self.stop - self.before).max())

    @property
    def least_crossing(self) -> int:
        """Units that a crossing costs a stage at least."""
        crossings = (self.stop - self.before)[1:-1]
        return int(crossings.min()) if len(crossings) else 0

    def mirrored(self) -> "CutProblem":
        """The same layers from the last to the first."""
        before, crossing = self.before[-1] - self.before[::-1], (self.stop - self.before)[::-1]
        return replace(
            self,
            before=before,
            start=before - crossing,
            stop=before + crossing,
            crossing_bytes=self.crossing_bytes[::-1],
            trained_before=self.trained_before[-1] - self.trained_before[::-1],
            is_mirrored=not self.is_mirrored,
        )

    def lower_bound(self) -> int:
        """Units that the slowest stage takes at least: a fair share of all work and of the cheapest crossings; or a
        layer, the least that may be sent over both ends of its run, and for each other run a layer with parameters.
        """
        if self.num_stages == 1:
            return int(self.before[-1])
        crossing = self.stop - self.before
        turning = self.num_virtual_stages - 1 if self.placement == "v" else 0
        num_crossings = self.num_stages * self.num_virtual_stages - 1 - turning
        shared = int(self.before[-1]) + 2 * int(np.sort(crossing[1:-1])[:num_crossings].sum())
        least_stop = np.minimum.accumulate(self.stop[::-1])[::-1]
        around = int((least_stop[1:] - np.maximum.accumulate(self.start)[:-1]).max())
        work = np.diff(self.before)
        others = int(work[np.diff(self.trained_before) > 0].min()) * (self.num_virtual_stages - 1)
        return max(-(-shared // self.num_stages), around, int(work.max()) + others)

    def run_bytes(self, stage: int) -> tuple[Ints, Ints]:
        """Units of memory before each position: a run (a, b) on the stage holds `result[1][b] - result[0][a]`."""
        kept = self.in_flight[stage] / self.byte_unit
        size = np.rint(self.state_before / self.byte_unit + kept * self.kept_before)
        start = (size - np.rint(kept * self.opening)).astype(np.int64)
        stop = (size + np.rint(kept * self.closing)).astype(np.int64)
        return (-stop[::-1], -start[::-1]) if self.is_mirrored else (start, stop)

    @cached_property
    def first_stops(self) -> Ints:
        """The nearest end of a run that starts at each position: just after the next layer with parameters."""
        return np.searchsorted(self.trained_before, self.trained_before + 1)

    @cached_property
    def last_starts(self) -> Ints:
        """The nearest start of a run that ends at each position; -1 if no layer before has parameters."""
        return np.searchsorted(self.trained_before, self.trained_before - 1, side="right") - 1

    def held_runs(self, boundaries: Sequence[int], stage: int) -> list[tuple[int, int]]:
        """The runs of a stage as (first layer, one after the last)."""
        held = virtual_stages_of(stage, self.num_stages, self.num_virtual_stages, self.placement)
        return [(boundaries[v], boundaries[v + 1]) for v in held]

    def loads(self, boundaries: Sequence[int]) -> list[int]:
        """Units that every stage takes for one micro-batch."""
        result = []
        for stage in range(self.num_stages):
            runs = self.held_runs(boundaries, stage)
            ends = [position for run in runs for position in run]
            outer = [position for position in ends if ends.count(position) == 1]  # both sides: nothing is sent
            work = sum(int(self.before[b] - self.before[a]) for a, b in runs)
            result.append(work + sum(int(self.stop[p] - self.before[p]) for p in outer))
        return result

    def peaks(self, boundaries: Sequence[int]) -> list[int]:
        """Units of memory that every stage holds at its peak."""
        result = []
        for stage in range(self.num_stages):
            start, stop = self.run_bytes(stage)
            result.append(sum(int(stop[b] - start[a]) for a, b in self.held_runs(boundaries, stage)))
        return result

    def sent_bytes(self, boundaries: Sequence[int]) -> int:
        """Bytes that one micro-batch sends over all cuts between two stages, in one direction."""
        if self.num_stages == 1:
            return 0
        turns = range(self.num_stages, len(boundaries) - 1, self.num_stages) if self.placement == "v" else ()
        return sum(int(self.crossing_bytes[p]) for v, p in enumerate(boundaries) if v not in turns)


def cut_problem(
    costs: LayerCosts,
    num_stages: int,
    num_virtual_stages: int,
    placement: Placement,
    *,
    trainable: Sequence[bool],
    memory_caps: Sequence[float] | None,
    in_flight: Sequence[float] | None,
) -> CutProblem:
    """The problem in whole units; see `balanced` for the arguments."""
    num_layers = costs.num_layers
    work, crossing = np.asarray(costs.seconds), np.zeros(num_layers + 1)
    crossing[1:-1] = costs.crossing_seconds
    unit = _unit(float(work.sum() + crossing.sum()))
    before = np.cumsum(np.rint(np.append(0, work) / unit).astype(np.int64))
    units = np.rint(crossing / unit).astype(np.int64)
    crossing_bytes = np.zeros(num_layers + 1, dtype=np.int64)
    crossing_bytes[1:-1] = np.rint(costs.crossing_bytes)
    state, kept = np.asarray(costs.state_bytes), np.asarray(costs.kept_bytes)
    opening, closing = np.zeros(num_layers + 1), np.zeros(num_layers + 1)
    opening[:-1], closing[1:] = costs.first_bytes or 0.0, costs.last_bytes or 0.0
    held = np.ones(num_stages) if in_flight is None else np.asarray(in_flight, dtype=np.float64)
    byte_unit = max(1.0, _unit(float(state.sum() + held.max() * (kept.sum() + opening.sum() + closing.sum()))))
    caps = np.full(num_stages, np.inf) if memory_caps is None else np.asarray(memory_caps, dtype=np.float64)
    return CutProblem(
        num_stages=num_stages,
        num_virtual_stages=num_virtual_stages,
        placement=placement,
        unit=unit,
        byte_unit=byte_unit,
        before=before,
        start=before - units,
        stop=before + units,
        crossing_bytes=crossing_bytes,
        trained_before=np.cumsum([0, *trainable]),
        state_before=np.cumsum(np.append(0.0, state)),
        kept_before=np.cumsum(np.append(0.0, kept)),
        opening=opening,
        closing=closing,
        in_flight=held,
        caps=np.minimum(caps / byte_unit, ENDLESS).astype(np.int64),
    )


def _unit(total: float) -> float:
    """The power of two of which the total is less than 2^48; of totals near the smallest float, a float's smallest."""
    return ldexp(1.0, max(frexp(total)[1] - _BITS, _LEAST_EXPONENT))
