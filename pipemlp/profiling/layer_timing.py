"""What every kind of layer takes at every size of micro-batch: forward, input gradient, weight gradient, bytes.

Several copies of a layer take turns, as a stage has several layers: the weights of one are not in the cache because
it has just been used. Never is more of the model in memory than the copies of one kind.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Protocol

from pipemlp.config.errors import RunFailedError
from pipemlp.planning.profile import Measurement
from pipemlp.profiling.rounds import Effort, Round, Timing, measure
from pipemlp.profiling.together import Together


class Unit(Protocol):
    """A layer that can be run forwards and backwards."""

    def forward(self) -> Any:
        """Run it on a micro-batch; what the gradients need."""

    def input_gradient(self, kept: Any) -> None:
        """The gradient of its input."""

    def weight_gradient(self, kept: Any) -> None:
        """The gradient of its weights."""


@dataclass(frozen=True)
class Kind:
    """A kind of layer.

    Args:
        name: for people.
        num_layers: of the model that are of this kind.
        num_parameters: of one of them.
    """

    name: str
    num_layers: int
    num_parameters: int


MakeUnits = Callable[[int, int, bool, int], Sequence[Unit]]
"""(kind, rows, whether products are kept and the rest computed again, copies) -> the copies."""
MakeChain = Callable[[int], tuple[Sequence[int], Unit]]
"""rows -> a few layers behind one another as one unit, and the kind of each."""
CountBytes = Callable[[Any], tuple[int, int]]
"""Bytes that a unit keeps from its forward to its input gradient, and from there to its weight gradient."""
Progress = Callable[[str, float], None]

MOST_COPIES = 8
MOST_COPIED_BYTES = 2**28
"""Of the weights of all copies of a kind."""
LEAST_SHARE = 0.1
"""Of a layer's time alone that it takes in a run, too."""
ALONE_ROUNDS = 7
PASSES_ON_GPU = 8
"""In a phase: a GPU is given work faster than it does it."""


@dataclass
class Budget:
    """The time that all measurements together may take.

    Args:
        seconds: in all.
    """

    seconds: float

    def __post_init__(self) -> None:
        self._started = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds that remain."""
        return self.seconds - self.spent


def measure_layers(
    kinds: Sequence[Kind],
    rows: Sequence[int],
    make_units: MakeUnits,
    count_bytes: CountBytes,
    together: Together,
    budget: Budget,
    progress: Progress,
) -> tuple[tuple[Measurement, ...], ...]:
    """Run on every rank at once; for each kind its measurements, by rising rows.

    Args:
        kinds: of layers.
        rows: sizes of micro-batches; the first is the one that matters most, and is measured first.
        make_units: builds copies.
        count_bytes: of a copy.
        together: the ranks.
        budget: once it is spent, what is left of `rows` is left out.
        progress: told what comes next, and how much is done.

    Raises:
        RunFailedError: if the budget ends before all kinds are measured at the first size.
    """
    found: list[list[Measurement]] = [[] for _ in kinds]
    cells = [(size, index) for size in rows for index in range(len(kinds))]
    for number, (size, index) in enumerate(cells):
        kind = kinds[index]
        if not together.all_agree(budget.left > 0):
            if size == rows[0]:
                raise RunFailedError(_too_slow(kinds, index, size, budget, found))
            break
        progress(f"{kind.name}, {size:,} rows", number / len(cells))
        effort = Effort(seconds=max(0.05, budget.left / (len(cells) - number) / 2.2))
        found[index].append(_measurement(index, kind, size, make_units, count_bytes, together, effort))
    complete = min(map(len, found))
    return tuple(tuple(sorted(own[:complete], key=lambda each: each.rows)) for own in found)


def single_costs(
    make_chain: MakeChain, found: Sequence[Sequence[Measurement]], together: Together, effort: Effort
) -> tuple[float, float, float]:
    """What a layer takes for being run alone: forward, input gradient, weight gradient, in seconds.

    A run of n layers takes so much less than the n of them alone, n - 1 times. Told by the smallest micro-batches,
    where it is most of the time.
    """
    smallest = [own[0] for own in found]
    kinds, unit = make_chain(smallest[0].rows)
    chain = _timed([unit], together, effort).phases
    alone = [
        sum(getattr(smallest[kind], f"{phase}_seconds") for kind in kinds)
        for phase in ("forward", "input_gradient", "weight_gradient")
    ]
    one, two, three = (max(0.0, whole - run) / max(1, len(kinds) - 1) for whole, run in zip(alone, chain, strict=True))
    return one, two, three


def less_single_costs(measured: Measurement, costs: tuple[float, float, float]) -> Measurement:
    """What the layer takes within a run of layers."""
    forward, inward, weight = costs

    def own(seconds: float, alone: float) -> float:
        return max(LEAST_SHARE * seconds, seconds - alone)

    return replace(
        measured,
        forward_seconds=own(measured.forward_seconds, forward),
        input_gradient_seconds=own(measured.input_gradient_seconds, inward),
        weight_gradient_seconds=own(measured.weight_gradient_seconds, weight),
        bare_forward_seconds=own(measured.bare_forward_seconds, forward),
        again_seconds=own(measured.again_seconds, inward),
    )


def _measurement(
    index: int,
    kind: Kind,
    rows: int,
    make_units: MakeUnits,
    count_bytes: CountBytes,
    together: Together,
    effort: Effort,
) -> Measurement:
    copies = _num_copies(kind)
    units = make_units(index, rows, False, copies)
    kept, pending = count_bytes(units[0])
    whole = _timed(units, together, effort)
    alone_share = _alone(units, together) / sum(whole.phases) if together.shares_host else 1.0
    bare = _timed(make_units(index, rows, True, copies), together, effort)
    return Measurement(
        rows=rows,
        forward_seconds=whole.phases[0],
        input_gradient_seconds=whole.phases[1],
        weight_gradient_seconds=whole.phases[2],
        bare_forward_seconds=bare.phases[0],
        again_seconds=bare.phases[1],
        kept_bytes=kept,
        pending_bytes=pending,
        alone_share=min(1.0, alone_share),
        spread=whole.spread,
        num_repetitions=whole.num_rounds,
    )


def _num_copies(kind: Kind) -> int:
    within = MOST_COPIED_BYTES // (8 * max(1, kind.num_parameters))  # a weight and the sum of its gradients
    return max(1, min(kind.num_layers, MOST_COPIES, within))


def _timed(units: Sequence[Unit], together: Together, effort: Effort) -> Timing:
    """The mean over the copies, phase by phase."""
    return measure(_round(units, together), together, effort)


def _round(units: Sequence[Unit], together: Together) -> Round:
    """One go through all copies: all forwards, then all input gradients, then all weight gradients."""
    passes = max(1, PASSES_ON_GPU // len(units)) if together.device.type == "cuda" else 1
    order = list(units) * passes

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
        return (forward - started) / len(order), (inward - forward) / len(order), (ended - inward) / len(order)

    return one_round


def _alone(units: Sequence[Unit], together: Together) -> float:
    """Seconds of a forward and its gradients on rank 0, while the other ranks wait for it."""
    together.meet()
    own = 0.0
    if together.rank == 0:
        one_round = _round(units, together)
        one_round()
        own = median(sum(one_round()) for _ in range(ALONE_ROUNDS))
    return float(together.gathered(own)[0])


def _too_slow(kinds: Sequence[Kind], index: int, rows: int, budget: Budget, found: list[list[Measurement]]) -> str:
    done = [(own[0].seconds, kind) for own, kind in zip(found, kinds, strict=True) if own]
    slowest, kind = max(done, key=lambda pair: pair[0], default=(0.0, kinds[index]))
    return (
        f"{budget.seconds:.0f} s were not enough: {index} of {len(kinds)} kinds of layers are measured at "
        f"{rows:,} rows; the slowest, {kind.name}, takes {slowest:.3g} s for a forward and its gradients; give "
        f"--seconds {3 * budget.seconds * len(kinds) / max(1, index):.0f}, or use more micro-batches"
    )
