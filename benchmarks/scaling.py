"""How much faster more ranks are: as a pipeline, as replicas, as both; predicted and measured.

    python benchmarks/scaling.py [--json FILE] [--picture FILE.svg] [--only TEXT] [--quick]

README.md says what is run and how to read it. The picture needs matplotlib.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plan_cases import Model
from rich.console import Console
from rich.table import Table
from scaling_picture import draw, plotting
from start_ranks import run_ranks

if TYPE_CHECKING:
    from planned_run import Planned

EMULATED_ROWS = 32
"""For which the layers below take their seconds; half the rows, half the seconds."""
EMULATED_SECONDS = (0.0065, 0.0055, 0.0045, 0.0035)
"""Forward, input gradient and weight gradient, each, of four layers each."""
GRIDS = {
    "emulated": ((1, 1), (2, 1), (1, 2), (4, 1), (1, 4), (2, 2), (8, 1), (1, 8), (4, 2), (2, 4)),
    "real": ((1, 1), (2, 1), (1, 2)),
}
"""Stages and replicas, by rising ranks."""
Row = dict[str, Any]


def main() -> int:
    """Run, print, write, draw."""
    options = _options()
    if options.picture is not None:
        plotting()  # before minutes of measuring
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="pipemlp-benchmark-") as name:
        for kind, model in _models().items():
            if options.only in kind:
                rows += _measure(kind, model, options, Path(name))
    _print(rows)
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
    if options.picture is not None:
        draw(rows, options.picture)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    parser.add_argument("--picture", type=Path, help="draw them into this file, such as scaling.svg")
    parser.add_argument("--only", default="", help="only emulated, or only real")
    parser.add_argument("--steps", type=int, default=24, help="steps of each run (24), of which the last 15 are timed")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each profile (40)")
    parser.add_argument("--quick", action="store_true", help="fewer steps: does it run, not how well")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.seconds = 12, 30.0
    return options


def _models() -> Mapping[str, Model]:
    groups = []
    for seconds in EMULATED_SECONDS:
        parts = ", ".join(f"{part}: {seconds}" for part in ("forward", "input_gradient", "weight_gradient"))
        groups.append(f"{{width: 64, repeat: 4, block: {{name: emulated-parts, rows: {EMULATED_ROWS}, {parts}}}}}")
    emulated = Model(f"[{', '.join(groups)}]", outputs=1, batch=256, settings="activation: relu")
    return {"emulated": emulated, "real": Model("{width: 1024, depth: 12}", inputs=256, batch=512)}


def _measure(kind: str, model: Model, options: argparse.Namespace, folder: Path) -> list[Row]:
    """The first row is that of one rank."""
    config = model.write(folder, kind)
    typical_sleep = min(EMULATED_SECONDS) / 2 if kind == "emulated" else 0.0
    rows: list[Row] = []
    for num_ranks in sorted({stages * replicas for stages, replicas in GRIDS[kind]}):
        grids = [grid for grid in GRIDS[kind] if grid[0] * grid[1] == num_ranks]
        print(f"{kind}: {num_ranks} ranks, {len(grids)} grids ...", file=sys.stderr, flush=True)
        arguments = (config, grids, typical_sleep, options.steps, options.seconds)
        for planned in run_ranks("scaling_runs:measure_grids", arguments, num_ranks, folder):
            rows.append(_row(kind, planned))
            for what in ("predicted", "measured"):
                speedup = rows[0][f"{what}_seconds"] / rows[-1][f"{what}_seconds"]
                rows[-1] |= {f"{what}_speedup": speedup, f"{what}_efficiency": speedup / num_ranks}
    return rows


def _row(kind: str, planned: "Planned") -> Row:
    setting, report = planned.setting, planned.report
    assert report.measured_seconds is not None
    return {
        "kind": kind,
        "ranks": setting.num_ranks,
        "way": _way(setting.num_stages, setting.num_replicas),
        "stages": setting.num_stages,
        "data_parallel": setting.num_replicas,
        "virtual_stages": setting.num_virtual_stages,
        "schedule": setting.schedule,
        "micro_batches": setting.num_micro_batches,
        "boundaries": list(planned.plan.boundaries),
        "predicted_seconds": report.predicted_seconds,
        "measured_seconds": report.measured_seconds,
        "error": report.predicted_seconds / report.measured_seconds - 1.0,
    }


def _way(num_stages: int, num_replicas: int) -> str:
    if num_stages == num_replicas == 1:
        return "one rank"
    return "pipeline" if num_replicas == 1 else "replicas" if num_stages == 1 else "both"


def _print(rows: Sequence[Row]) -> None:
    console = Console(width=120, highlight=False)
    table = Table(title="stages x replicas against one rank, the same global batch", title_justify="left")
    for name in ("kind", "grid", "way", "schedule", "m", "step", "error", "speed-up", "efficiency"):
        table.add_column(name, justify="left" if name in ("kind", "way", "schedule") else "right")
    for row in rows:
        table.add_row(
            row["kind"],
            f"{row['stages']} x {row['data_parallel']}",
            row["way"],
            row["schedule"] if row["stages"] > 1 else "",
            str(row["micro_batches"]),
            f"{1e3 * row['predicted_seconds']:.0f} : {1e3 * row['measured_seconds']:.0f} ms",
            f"{row['error']:+.1%}",
            f"{row['predicted_speedup']:.2f} : {row['measured_speedup']:.2f}",
            f"{row['predicted_efficiency']:.0%} : {row['measured_efficiency']:.0%}",
        )
    console.print(table)
    console.print(
        "predicted : measured. One thread for every rank, also for the single one. Emulated layers have one parameter "
        "each:\ntheir replicas sum up next to nothing, over gloo all the same. m: micro-batches of a replica."
    )


if __name__ == "__main__":
    sys.exit(main())
