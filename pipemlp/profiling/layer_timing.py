"""What every kind of layer takes at every size of micro-batch: forward, input gradient, weight gradient, bytes.

    pass 1   (kind 0, 32 rows) (kind 1, 32 rows) ... (kind 0, 64 rows) ...      the wanted size first
    pass 2   the same again: what a busy moment did to one pass, the others have not met
    ...      until the passes agree, or the time is over

Of a kind that the model has several times in a row, several copies are run as one, as a stage runs them: the weights of
one are not in the cache because it has just been used. Others are run alone, and take a little longer for it, which
is taken off. Never is more of the model in memory than the copies of some kinds.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

from pipemlp.config.errors import RunFailedError
from pipemlp.planning.profile import Measurement
from pipemlp.profiling.rounds import Block, Round, Timing, measure, measure_in_turn, spread_of, timing_of
from pipemlp.profiling.together import Together


class Unit(Protocol):
    """One layer, or several behind one another, that can be run forwards and backwards."""

    def forward(self) -> Any:
        """Run it on a micro-batch; what the gradients need."""

    def input_gradient(self, kept: Any) -> None:
        """The gradient of its input."""

    def weight_gradient(self, kept: Any) -> None:
        """The gradient of its weights."""


class Bench(Protocol):
    """Copies of one kind of layer, ready to be run."""

    def units(self, rows: int, *, again: bool, chained: bool) -> Sequence[Unit]:
        """All copies as one unit if `chained`, else each alone; `again` keeps products and computes the rest again."""

    def count_bytes(self, rows: int) -> tuple[int, int]:
        """What one copy keeps from its forward to its input gradient, and from there to its weight gradient."""


@dataclass(frozen=True)
class Kind:
    """A kind of layer.

    Args:
        name: for people.
        num_copies: to be run.
        is_chained: whether they stand behind one another in the model.
    """

    name: str
    num_copies: int
    is_chained: bool


Progress = Callable[[str, float], None]

ENOUGH_SPREAD = 0.04
"""Between the passes' medians."""
FEWEST_PASSES, MOST_PASSES = 2, 6
BLOCKS_PER_VISIT = 2
PASSES_ON_GPU = 8
"""Micro-batches on their way in a phase: a GPU is given work faster than it does it."""
LEAST_SHARE = 0.1
"""Of a layer's time alone that it takes in a run, too."""


@dataclass
class Budget:
    """The time that measurements together may take.

    Args:
        seconds: in all.
    """

    seconds: float

    def __post_init__(self) -> None:
        self._started = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds that remain."""
        return self.seconds - (time.monotonic() - self._started)


@dataclass
class _Cell:
    """A kind at a size, with what was measured so far: a list of blocks for every pass."""

    kind: int
    rows: int
    whole: list[list[Block]] = field(default_factory=list)
    again: list[list[Block]] = field(default_factory=list)
    alone: list[Block] = field(default_factory=list)
    kept: tuple[int, int] = (0, 0)

    def is_steady(self) -> bool:
        medians = [sum(timing_of(blocks).phases) for blocks in self.whole]
        return len(medians) >= FEWEST_PASSES and spread_of(medians) <= ENOUGH_SPREAD


def measure_layers(
    kinds: Sequence[Kind],
    rows: Sequence[int],
    bench_of: Callable[[int], Bench],
    together: Together,
    budget: Budget,
    progress: Progress,
) -> tuple[tuple[Measurement, ...], ...]:
    """Run on every rank at once; for each kind its measurements, by rising rows.

    Args:
        kinds: of layers.
        rows: sizes of micro-batches; the first is the one that matters most, and is measured first.
        bench_of: the copies of a kind.
        together: the ranks.
        budget: once it is spent, what is left of `rows` is left out.
        progress: told what comes next, and how much is done.

    Raises:
        RunFailedError: if the budget ends before all kinds are measured at the first size.
    """
    cells = [_Cell(kind, size) for size in rows for kind in range(len(kinds))]
    for number, cell in enumerate(cells):
        if not together.all_agree(budget.left > 0):
            if cell.rows == rows[0]:
                raise RunFailedError(_too_slow(kinds, cells[:number]))
            cells = cells[: number - number % len(kinds)]
            break
        progress(f"{kinds[cell.kind].name}, {cell.rows:,} rows", 0.4 * number / len(cells))
        cell.kept = bench_of(cell.kind).count_bytes(cell.rows)
        _visit(cell, kinds[cell.kind], bench_of(cell.kind), together)
    for index in range(1, MOST_PASSES):
        for cell in cells:
            if not together.all_agree(cell.is_steady() or budget.left <= 0):
                _visit(cell, kinds[cell.kind], bench_of(cell.kind), together)
        progress(f"pass {index + 1}", 0.4 + 0.6 * max(index / MOST_PASSES, 1 - budget.left / budget.seconds))
        if together.all_agree(budget.left <= 0 or all(cell.is_steady() for cell in cells)):
            break
    besides = _single_costs(kinds, rows[0], bench_of, together)
    found: list[list[Measurement]] = [[] for _ in kinds]
    for cell in cells:
        found[cell.kind].append(_measurement(cell, kinds[cell.kind], besides))
    return tuple(tuple(sorted(own, key=lambda each: each.rows)) for own in found)


def _visit(cell: _Cell, kind: Kind, bench: Bench, together: Together) -> None:
    units = bench.units(cell.rows, again=False, chained=kind.is_chained)
    cell.whole.append(measure(_round(units, kind, together), together, BLOCKS_PER_VISIT))
    if together.shares_host:
        cell.alone += measure_in_turn(_round(units, kind, together), together, 1)
    units = bench.units(cell.rows, again=True, chained=kind.is_chained)
    cell.again.append(measure(_round(units, kind, together), together, BLOCKS_PER_VISIT))


def _round(units: Sequence[Unit], kind: Kind, together: Together) -> Round:
    """One go through all copies: all forwards, then all input gradients, then all weight gradients; seconds of one."""
    passes = max(1, PASSES_ON_GPU // len(units)) if together.device.type == "cuda" else 1
    order = list(units) * passes
    number = kind.num_copies * passes

    def one_round() -> tuple[float, float, float]:
        started = together.now()
        kept = [unit.forward() for unit in order]
        forward = together.now()
        for unit, own in zip(reversed(order), reversed(kept), strict=True):
            unit.input_gradient(own)
        inward = together.now()
        for unit, own in zip(order, kept, strict=True):
            unit.weight_gradient(own)
        ended = together.now()
        return (forward - started) / number, (inward - forward) / number, (ended - inward) / number

    return one_round


def _single_costs(
    kinds: Sequence[Kind], rows: int, bench_of: Callable[[int], Bench], together: Together
) -> tuple[float, float, float]:
    """What a layer takes for being run alone, by phase: what several take less in a run, on the median of the kinds."""
    found: list[list[float]] = []
    for index, kind in enumerate(kinds):
        if kind.is_chained:
            bench = bench_of(index)
            alone, run = (
                timing_of(measure(_round(bench.units(rows, again=False, chained=one), kind, together), together, 4))
                for one in (False, True)
            )
            others = kind.num_copies / (kind.num_copies - 1)
            found.append([others * max(0.0, a - b) for a, b in zip(alone.phases, run.phases, strict=True)])
    first, second, third = (median(phase) for phase in zip(*found, strict=True)) if found else (0.0, 0.0, 0.0)
    return first, second, third


def _measurement(cell: _Cell, kind: Kind, besides: tuple[float, float, float]) -> Measurement:
    whole, again = (timing_of([block for blocks in passes for block in blocks]) for passes in (cell.whole, cell.again))
    share = sum(timing_of(cell.alone).phases) / sum(whole.phases) if cell.alone else 1.0
    runs = kind.num_copies if kind.is_chained else 1

    def own(timing: Timing, phase: int) -> float:
        seconds = timing.phases[phase]
        return max(LEAST_SHARE * seconds, seconds - besides[phase] / runs)

    return Measurement(
        rows=cell.rows,
        forward_seconds=own(whole, 0),
        input_gradient_seconds=own(whole, 1),
        weight_gradient_seconds=own(whole, 2),
        bare_forward_seconds=own(again, 0),
        again_seconds=own(again, 1),
        kept_bytes=cell.kept[0],
        pending_bytes=cell.kept[1],
        alone_share=min(1.0, share),
        spread=whole.spread,
        num_repetitions=whole.num_blocks,
    )


def _too_slow(kinds: Sequence[Kind], done: Sequence[_Cell]) -> str:
    times = [(sum(timing_of(cell.whole[0]).phases), kinds[cell.kind].name) for cell in done]
    slowest, name = max(times, default=(0.0, kinds[0].name))
    times_as_many = math.ceil(3 * len(kinds) / max(1, len(done)))
    return (
        f"the time was too short: {len(done)} of {len(kinds)} kinds of layers are measured; the slowest, {name}, takes "
        f"{slowest:.3g} s for a forward and its gradients; give {times_as_many} times as many "
        "--seconds, or use more micro-batches"
    )
