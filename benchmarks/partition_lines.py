"""What the comparison of cuts brings back from its ranks, as rows and lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from rich.table import Table
from schedule_lines import LOSS_TOLERANCE, Measured, speed_ratio
from uneven_models import UnevenModel

from pipemlp.planning.layer_times import LayerTimes
from pipemlp.planning.machine import Machine
from pipemlp.planning.plan import Plan

REAL_STAGES, EMULATED_STAGES = 2, 4
NEVER_SLOWER, UNEVEN_TARGET, NUM_UNEVEN = 0.98, 1.15, 4
"""Wanted of every model, and of the most uneven ones."""
RIVALS = ("uniform", "parameters")
Row = dict[str, Any]


@dataclass(frozen=True)
class Compared:
    """One model, cut in several ways.

    Args:
        measured: the steps of each cut, by its name.
        plans: likewise.
        first: the first layer with parameters; one before it is with the first stage anyway.
        times: of the layers with parameters, for one micro-batch.
        machine: what there is besides.
    """

    measured: Mapping[str, Measured]
    plans: Mapping[str, Plan]
    first: int
    times: LayerTimes
    machine: Machine


def row_of(model: UnevenModel, table: str, compared: Compared, counts: Sequence[int]) -> Row:
    """One line of a table, as it is written to the JSON file.

    Args:
        model: which.
        table: `real` or `emulated`.
        compared: what came of it.
        counts: parameters of the layers that have any.
    """
    times = compared.times
    seconds = list(map(sum, zip(times.forward, times.input_gradient, times.weight_gradient, strict=True)))
    row: Row = {
        "model": model.name,
        "table": table,
        "source": model.source,
        "scaled": model.scaled,
        "ranks": compared.plans["balanced"].num_stages,
        "micro_batches": compared.plans["balanced"].num_micro_batches,
        "layer_parameters": list(counts),
        "layer_seconds": seconds,
        "unevenness": pstdev(seconds) / fmean(seconds),
        "same_losses": _same_losses(compared),
    }
    for name, plan in compared.plans.items():
        assert plan.costs is not None and plan.prediction is not None
        stages = zip(plan.costs.forward, plan.costs.input_gradient, plan.costs.weight_gradient, strict=True)
        row[name] = {
            "boundaries": list(plan.boundaries),
            "slowest_stage_seconds": max(map(sum, stages)),
            "predicted_seconds": plan.prediction.step_seconds,
            "median_seconds": compared.measured[name].median,
            "seconds": list(compared.measured[name].seconds),
        }
    for rival in RIVALS:
        ratio = speed_ratio(rival, compared.measured["balanced"], compared.measured[rival], None)
        same = row[rival]["boundaries"] == row["balanced"]["boundaries"]
        row[f"over_{rival}"] = {"same_cut": same, "ratio": ratio.median, "low": ratio.low, "high": ratio.high}
    return row


def _same_losses(compared: Compared) -> bool:
    """Cuts must not change what is computed."""
    losses = [measured.losses for measured in compared.measured.values()]
    return all(
        abs(one - other) <= LOSS_TOLERANCE * abs(one)
        for own in losses
        for one, other in zip(losses[0], own, strict=True)
    )


def rows_table(title: str, rows: Sequence[Row]) -> Table:
    """A cut is shown without its ends, with the seconds of its slowest stage for one micro-batch."""
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    for name in ("uneven", "balanced", *(each for rival in RIVALS for each in (rival, f"balanced : {rival}"))):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [row["model"], f"{row['unevenness']:.2f}", _cut(row, "balanced")]
        for rival in RIVALS:
            found = row[f"over_{rival}"]
            cells += [_cut(row, rival), f"{found['ratio']:.2f} ({found['low']:.2f} - {found['high']:.2f})"]
        table.add_row(*cells)
    return table


def _cut(row: Row, name: str) -> str:
    if name != "balanced" and row[f"over_{name}"]["same_cut"]:
        return "same"
    boundaries = " ".join(map(str, row[name]["boundaries"][1:-1]))
    return f"{boundaries}: {1e3 * row[name]['slowest_stage_seconds']:.1f} ms"


def summary_lines(rows: Sequence[Row]) -> list[str]:
    """The least ratio of a table, of cuts that differ, and the ratios of its most uneven models."""
    lines = []
    for rival in RIVALS:
        other = [row for row in rows if not row[f"over_{rival}"]["same_cut"]]
        if other:
            worst = min(other, key=lambda row: row[f"over_{rival}"]["ratio"])
            ratio = worst[f"over_{rival}"]["ratio"]
            lines.append(
                f"least against {rival}: {ratio:.2f}, {worst['model']} (wanted {NEVER_SLOWER:g}); "
                f"{len(other)} of {len(rows)} are cut differently"
            )
    uneven = sorted(rows, key=lambda row: -row["unevenness"])[:NUM_UNEVEN]
    lines.append(f"the {len(uneven)} most uneven (wanted {UNEVEN_TARGET:g}):")
    for row in uneven:
        both = [row[f"over_{rival}"] for rival in RIVALS]
        against = ", ".join(
            f"{rival} {found['ratio']:.2f}{' (same cut)' if found['same_cut'] else ''}"
            for rival, found in zip(RIVALS, both, strict=True)
        )
        lines.append(f"  {row['model']}: {against}; the better of both {min(found['ratio'] for found in both):.2f}")
    return lines
