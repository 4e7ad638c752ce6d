"""What the schedule benchmark measures, what is wanted of each ratio, and how a ratio is made."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

KIB, MIB = 2**10, 2**20
VIRTUAL_STAGES = 2
"""Per stage, for schedules with several: DualPipeV and zb-v know no other number."""
SAME_SCHEDULE_TARGET = 1.0
BEST_OF_TORCH_TARGET = 1.1
REAL_TARGETS = {16: 1.25, 64: 1.15}
"""Our best against stock DeepSpeed, by rows in a micro-batch."""
REAL_BEST_OF_TORCH_TARGET = 1.05
MEMORY_TARGETS = {("relu", 0): 0.85, ("gelu", "elementwise"): 0.6, ("gated", "elementwise"): 0.6}
"""Peak bytes over stock DeepSpeed's, by model and recomputation."""
RECOMPUTE_TIME_TARGETS = {"gelu": 1.05, "gated": 1.05}
"""Step time of `recompute: elementwise` over that without, by model."""
LOSS_TOLERANCE = 1e-4
"""Relative; float32 sums in another order, over the steps of a run."""


@dataclass(frozen=True)
class Emulation:
    """One grid of emulated devices.

    Args:
        num_stages: ranks.
        num_micro_batches: of a step.
        message_bytes: of the float32 tensor that crosses a cut.
        num_rounds: measured steps of each competitor.
    """

    num_stages: int
    num_micro_batches: int
    message_bytes: int
    num_rounds: int

    stage_seconds: ClassVar[float] = 0.010
    """A stage's forward, its input gradient and its weight gradient, each."""

    @property
    def deepspeed_target(self) -> float | None:
        """Our best against stock DeepSpeed, in throughput."""
        wanted = {(8, 8, 4 * KIB): 1.6, (8, 8, MIB): 1.35, (4, 8, 4 * KIB): 1.3, (4, 32, 4 * KIB): 1.10}
        return wanted.get((self.num_stages, self.num_micro_batches, self.message_bytes))

    @property
    def simulation_tolerance(self) -> float | None:
        """How far, relatively, a measured step may be from our simulation."""
        return {4: 0.08, 8: 0.12}.get(self.num_stages) if self.message_bytes == 4 * KIB else None


@dataclass(frozen=True)
class Measured:
    """One competitor's steps.

    Args:
        system, schedule: who.
        seconds: of each measured step, by round.
        losses: of each step from the first on, the warm-up included.
    """

    system: str
    schedule: str
    seconds: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.system} {self.schedule}"


@dataclass(frozen=True)
class EmulatedRow:
    """A competitor on emulated devices, with what our simulator says of its order.

    Args:
        measured: its steps.
        peak_in_flight: micro-batches, in whole stages, on the stage that holds most.
        simulated_seconds: of a step; for ours only.
    """

    measured: Measured
    peak_in_flight: float
    simulated_seconds: float | None


@dataclass(frozen=True)
class Footprint:
    """Peak live activation bytes of each stage; `recompute` as in a plan."""

    system: str
    model: str
    recompute: int | str
    peak_bytes: tuple[int, ...]


@dataclass(frozen=True)
class Ratio:
    """The ratio of two medians, and the middle half of the rounds' own ratios.

    Args:
        name: of the line.
        median, low, high: the ratio, and its middle half.
        target: None to report only.
        at_most: whether the target is an upper limit.
        note: shown beside.
    """

    name: str
    median: float
    low: float
    high: float
    target: float | None
    at_most: bool = False
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        return self.median <= self.target if self.at_most else self.median >= self.target


def speed_ratio(name: str, ours: Measured, rival: Measured, target: float | None, note: str = "") -> Ratio:
    """How many times as fast ours is."""
    rounds = (b / a for a, b in zip(ours.seconds, rival.seconds, strict=True))
    low, _, high = statistics.quantiles(rounds, n=4, method="inclusive")
    return Ratio(name, rival.median / ours.median, low, high, target, note=note)


def fastest(measured: Iterable[Measured], system: str) -> Measured:
    """Of one system."""
    return min((each for each in measured if each.system == system), key=lambda each: each.median)


def rival_ratios(
    measured: Sequence[Measured], deepspeed_target: float | None, torch_target: float, note: str = ""
) -> list[Ratio]:
    """Our best against stock DeepSpeed and against torch's best."""
    ours, torch_best = fastest(measured, "pipemlp"), fastest(measured, "torch")
    stock = next(each for each in measured if (each.system, each.schedule) == ("deepspeed", "1f1b"))
    return [
        speed_ratio(f"best ({ours.schedule}) : stock DeepSpeed", ours, stock, deepspeed_target, note),
        speed_ratio(f"best ({ours.schedule}) : torch's best ({torch_best.schedule})", ours, torch_best, torch_target),
    ]


def emulated_ratios(emulation: Emulation, rows: Sequence[EmulatedRow]) -> list[Ratio]:
    """All lines of the first table."""
    measured = [row.measured for row in rows]
    ours = {row.measured.schedule: row for row in rows if row.measured.system == "pipemlp"}
    stock = next(row for row in rows if row.measured.system == "deepspeed" and row.measured.schedule == "1f1b")
    best = ours[fastest(measured, "pipemlp").schedule]
    frugal = [row.measured for row in ours.values() if row.peak_in_flight <= stock.peak_in_flight + 1e-9]
    first, second = rival_ratios(
        measured,
        emulation.deepspeed_target,
        BEST_OF_TORCH_TARGET,
        f"in flight at most {best.peak_in_flight:g}, DeepSpeed's {stock.peak_in_flight:g}",
    )
    lines = [first]
    if frugal:
        chosen = fastest(frugal, "pipemlp")
        lines.append(
            speed_ratio(f"best with 1F1B's memory ({chosen.schedule}) : stock DeepSpeed", chosen, stock.measured, None)
        )
    for row in rows:
        if row.measured.system == "deepspeed" and row is not stock:
            lines.append(speed_ratio(f"best : DeepSpeed {row.measured.schedule}", best.measured, row.measured, None))
    lines.append(second)
    for row in rows:
        same = ours.get(row.measured.schedule)
        if row.measured.system == "torch" and same is not None:
            note = f"in flight {same.peak_in_flight:g} : {row.peak_in_flight:g}"
            name = f"{same.measured.schedule} : torch's"
            lines.append(speed_ratio(name, same.measured, row.measured, SAME_SCHEDULE_TARGET, note))
    return lines


def simulation_errors(emulation: Emulation, rows: Iterable[EmulatedRow]) -> list[Ratio]:
    """How far each of our schedules is from its simulation, relatively."""
    lines = []
    for row in rows:
        if row.simulated_seconds is not None:
            low, middle, high = statistics.quantiles(row.measured.seconds, n=4, method="inclusive")
            lines.append(
                Ratio(
                    f"{row.measured.schedule}: measured against {row.simulated_seconds:.4f} s simulated",
                    abs(middle / row.simulated_seconds - 1),
                    low / row.simulated_seconds - 1,
                    high / row.simulated_seconds - 1,
                    emulation.simulation_tolerance,
                    at_most=True,
                )
            )
    return lines
