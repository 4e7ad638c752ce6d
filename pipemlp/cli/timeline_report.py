"""What `timeline` says of a recorded step: where each rank's time went, and how far off the prediction was."""

from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from pipemlp.config.errors import DataError
from pipemlp.schedule.action import Kind
from pipemlp.schedule.costs import Costs
from pipemlp.schedule.measured import MeasuredStep, measured_of
from pipemlp.schedule.picture import MEANINGS, time_text
from pipemlp.schedule.simulation import Simulation
from pipemlp.schedule.time_shares import TimeShares, clock_error, median_seconds, predicted, sum_of, time_shares

PARTS = ("compute", "bubble", "transfer_wait", "other")
_WORTH_A_NOTE = 0.01
"""Clocks that are apart by more of a makespan are mentioned."""


@dataclass(frozen=True)
class Comparison:
    """A recorded step beside its prediction; tuples have an entry for each replica.

    Args:
        measured: what was recorded.
        predicted: the simulated step, scaled to as many seconds of computation.
        shares, predicted_shares: what the time of each stage went into.
    """

    measured: tuple[MeasuredStep, ...]
    predicted: tuple[Simulation, ...]
    shares: tuple[tuple[TimeShares, ...], ...]
    predicted_shares: tuple[tuple[TimeShares, ...], ...]

    def error(self, replica: int) -> float:
        """By which fraction of the measured makespan the predicted one is longer (above 0) or shorter."""
        return self.predicted[replica].makespan / self.measured[replica].makespan - 1.0


def compare(replicas: tuple[MeasuredStep, ...], costs: Costs, run_dir: Path) -> Comparison:
    """A recorded step beside what the plan's costs predict of it.

    Raises:
        DataError: if these costs are not for this schedule.
    """
    try:
        simulations = tuple(predicted(step, costs) for step in replicas)
    except ValueError as error:
        raise DataError(f"{run_dir / 'plan.json'}: {error}") from error
    return Comparison(
        measured=replicas,
        predicted=simulations,
        shares=tuple(map(time_shares, replicas)),
        predicted_shares=tuple(time_shares(measured_of(simulation)) for simulation in simulations),
    )


def as_json(comparison: Comparison) -> dict[str, object]:
    """The numbers as plain values, in seconds and fractions."""
    first = comparison.measured[0]
    schedule, num_replicas = first.schedule, len(comparison.measured)
    return {
        "step": first.step,
        "schedule": schedule.name,
        "stages": schedule.num_stages,
        "virtual_stages": schedule.num_virtual_stages,
        "micro_batches": schedule.num_micro_batches,
        "replicas": [_replica_json(comparison, replica) for replica in range(num_replicas)],
        "ranks": [
            {
                "rank": stage * num_replicas + replica,
                "stage": stage,
                "replica": replica,
                **_shares_json(comparison.shares[replica][stage]),
                "predicted": _shares_json(comparison.predicted_shares[replica][stage]),
            }
            for stage in range(schedule.num_stages)
            for replica in range(num_replicas)
        ],
        "actions": [
            {"virtual_stage": virtual_stage, "kind": kind, "median_seconds": seconds, "predicted_seconds": expected}
            for (virtual_stage, kind), (seconds, expected) in _action_seconds(comparison).items()
        ],
    }


def _replica_json(comparison: Comparison, replica: int) -> dict[str, object]:
    measured, expected = comparison.measured[replica], comparison.predicted[replica]
    return {
        "makespan_seconds": measured.makespan,
        "predicted_makespan_seconds": expected.makespan,
        "error_percent": 100.0 * comparison.error(replica),
        "bubble_fraction": sum_of(comparison.shares[replica]).share("bubble"),
        "predicted_bubble_fraction": sum_of(comparison.predicted_shares[replica]).share("bubble"),
        "clock_error_seconds": clock_error(measured),
    }


def _shares_json(shares: TimeShares) -> dict[str, float]:
    seconds = {f"{part}_seconds": float(getattr(shares, part)) for part in PARTS}
    return seconds | {f"{part}_share": shares.share(part) for part in PARTS}


def _action_seconds(comparison: Comparison) -> dict[tuple[int, Kind], tuple[float, float]]:
    """Medians of the first replica by virtual stage and kind: measured, predicted."""
    expected = median_seconds(measured_of(comparison.predicted[0]))
    return {key: (seconds, expected[key]) for key, seconds in median_seconds(comparison.measured[0]).items()}


def show(comparison: Comparison, console: Console, name: str | None = None) -> None:
    """The report for people, under the name of the run where there are several."""
    if name is not None:
        console.print(f"{name}:", soft_wrap=True, markup=False)
    console.print(_ranks_table(comparison))
    console.print(_actions_table(comparison))
    for replica, measured in enumerate(comparison.measured):
        which = f"replica {replica}: " if len(comparison.measured) > 1 else ""
        bubble = sum_of(comparison.shares[replica]).share("bubble")
        expected = sum_of(comparison.predicted_shares[replica]).share("bubble")
        error = comparison.error(replica)
        console.print(
            f"{which}makespan {time_text(measured.makespan, True)}, predicted "
            f"{time_text(comparison.predicted[replica].makespan, True)} ({error:+.1%}); "
            f"bubble {bubble:.1%}, predicted {expected:.1%}",
            soft_wrap=True,
        )
        if (apart := clock_error(measured)) > _WORTH_A_NOTE * measured.makespan:
            console.print(
                f"{which}the clocks of its ranks are apart by {time_text(apart, True)} at least, so that bubble and "
                "transfer wait cannot be told apart more exactly",
                soft_wrap=True,
            )
    console.print(
        "Predicted are the plan's costs, scaled so that all computations together take as long as they did.",
        soft_wrap=True,
    )


def _ranks_table(comparison: Comparison) -> Table:
    """Milliseconds and shares of every rank, the measured bubble beside the predicted one."""
    first, num_replicas = comparison.measured[0], len(comparison.measured)
    several = num_replicas > 1
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"{first.schedule.name}, step {first.step}: milliseconds and shares of the makespan",
        title_justify="left",
    )
    names = ("rank", "stage", *(("replica",) if several else ()), "compute", "bubble", "transfer\nwait", "other")
    for name in (*names, "predicted\nbubble"):
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    for stage in range(first.schedule.num_stages):
        for replica in range(num_replicas):
            place = (str(stage * num_replicas + replica), str(stage), *((str(replica),) if several else ()))
            own, expected = comparison.shares[replica][stage], comparison.predicted_shares[replica][stage]
            cells = (f"{_milliseconds(getattr(own, part))} {own.share(part):>5.1%}" for part in PARTS)
            table.add_row(*place, *cells, f"{expected.share('bubble'):.1%}")
    return table


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.{3 if seconds < 0.001 else 2 if seconds < 0.1 else 1}f}"


def _actions_table(comparison: Comparison) -> Table:
    """Median milliseconds of an action by virtual stage and kind; predicted ones in brackets."""
    schedule, seconds = comparison.measured[0].schedule, _action_seconds(comparison)
    kinds = [kind for kind in MEANINGS if any(kind == other for _, other in seconds)]
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title="Median milliseconds of an action (predicted)",
        title_justify="left",
    )
    for name in ("virtual stage", "stage", *(MEANINGS[kind] for kind in kinds)):
        table.add_column(name, justify="right", no_wrap=True)
    for virtual_stage in range(schedule.depth):
        cells = [seconds.get((virtual_stage, kind)) for kind in kinds]
        texts = [f"{_milliseconds(cell[0])} ({_milliseconds(cell[1])})" if cell else "" for cell in cells]
        table.add_row(str(virtual_stage), str(schedule.stage_of(virtual_stage)), *texts)
    return table
