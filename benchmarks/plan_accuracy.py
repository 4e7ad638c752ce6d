"""How far plans are off: predicted and measured step time and memory of real runs, on this machine.

    python benchmarks/plan_accuracy.py [--json FILE] [--only TEXT] [--quick]

README.md says what is run and how to read it.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from plan_cases import EMULATED, REAL, Model, emulated_settings, real_settings
from planned_run import Planned, run_settings
from rich.console import Console
from rich.table import Table
from start_ranks import run_ranks

from pipemlp.planning.workload import Setting

TARGETS = {"real": (0.08, 0.20), "emulated": (0.05, 0.12)}
"""Median and worst error of the step time that are wanted, by kind."""
MEMORY_TARGET = 0.05
EMULATED_RANKS = (4, 8)


def main() -> int:
    """Run, print, write."""
    options = _options()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="pipemlp-benchmark-") as name:
        folder = Path(name)
        for kind, label, model, num_ranks, settings in _cases():
            if options.only not in f"{kind} {label}":
                continue
            print(f"{kind}: {label}, {num_ranks} ranks, {len(settings)} settings ...", file=sys.stderr, flush=True)
            config = model.write(folder, label.replace(" ", "-").replace(",", ""))
            body = "plan_accuracy:measure"
            found = run_ranks(body, (config, settings[: 2 if options.quick else None], kind, options), num_ranks, folder)
            rows += [_row(kind, label, planned) for planned in found]
    _print(rows)
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": rows, "summary": _summary(rows)}, indent=1) + "\n", encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    parser.add_argument("--only", default="", help="only what contains this, such as real, or pyramid")
    parser.add_argument("--steps", type=int, default=40, help="steps of each run (40)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each profile (20)")
    parser.add_argument("--quick", action="store_true", help="two settings of each model: does it run, not how well")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.seconds = 14, 4.0
    return options


def _cases() -> list[tuple[str, str, Model, int, list[Setting]]]:
    cases = [("real", name, model, 2, list(real_settings(name))) for name, model in REAL.items()]
    for num_ranks in EMULATED_RANKS:
        for name, model in EMULATED.items():
            cases.append(("emulated", name, model, num_ranks, list(emulated_settings(name, num_ranks))))
    return cases


def measure(config: Path, settings: Sequence[Setting], kind: str, options: argparse.Namespace) -> list[Planned]:
    """Run on every rank."""
    if kind == "emulated":
        import ours_schedules  # noqa: F401 - registers the block
        from emulated import calibrate_sleep

        calibrate_sleep(0.003)
    return run_settings(config, settings, options.steps, options.seconds)


def _row(kind: str, label: str, planned: Planned) -> dict[str, object]:
    setting, report = planned.setting, planned.report
    memory = [
        rank.predicted_peak_bytes / rank.measured_peak_bytes - 1.0 for rank in report.ranks if rank.measured_peak_bytes
    ]
    assert report.measured_seconds is not None
    return {
        "kind": kind,
        "model": label,
        "stages": setting.num_stages,
        "virtual_stages": setting.num_virtual_stages,
        "data_parallel": setting.num_replicas,
        "micro_batches": setting.num_micro_batches,
        "schedule": setting.schedule,
        "recompute": setting.recompute or "none",
        "boundaries": list(planned.plan.boundaries),
        "predicted_seconds": report.predicted_seconds,
        "measured_seconds": report.measured_seconds,
        "error": report.predicted_seconds / report.measured_seconds - 1.0,
        "predicted_bubbles": [rank.predicted_bubble for rank in report.ranks],
        "measured_bubbles": [rank.measured_bubble for rank in report.ranks],
        "memory_error": max(memory, key=abs, default=None),
    }


def _summary(rows: Sequence[dict[str, object]]) -> dict[str, dict[str, float]]:
    """Median and worst error by kind, and the worst of memory."""
    summary = {}
    for kind in TARGETS:
        errors = [abs(float(row["error"])) for row in rows if row["kind"] == kind]  # type: ignore[arg-type]
        memory = [abs(float(row["memory_error"])) for row in rows if row["kind"] == kind and row["memory_error"]]  # type: ignore[arg-type]
        if errors:
            summary[kind] = {
                "configurations": float(len(errors)),
                "median_error": median(errors),
                "worst_error": max(errors),
                "worst_memory_error": max(memory, default=0.0),
            }
    return summary


def _print(rows: Sequence[dict[str, object]]) -> None:
    console = Console(width=110, highlight=False)
    table = Table(title="plans against runs", title_justify="left")
    for name in ("kind", "model", "ranks", "schedule", "m", "predicted", "measured", "error", "memory"):
        table.add_column(name, justify="left" if name in ("kind", "model", "schedule") else "right")
    for row in rows:
        again = "" if row["recompute"] == "none" else f" {row['recompute']}"
        memory = row["memory_error"]
        table.add_row(
            str(row["kind"]),
            str(row["model"]),
            f"{row['stages']} x {row['data_parallel']}",
            f"{row['schedule']}{again}",
            str(row["micro_batches"]),
            f"{1e3 * float(row['predicted_seconds']):.1f} ms",  # type: ignore[arg-type]
            f"{1e3 * float(row['measured_seconds']):.1f} ms",  # type: ignore[arg-type]
            f"{float(row['error']):+.1%}",  # type: ignore[arg-type]
            "" if memory is None else f"{float(memory):+.1%}",  # type: ignore[arg-type]
        )
    console.print(table)
    for kind, found in _summary(rows).items():
        wanted = TARGETS[kind]
        console.print(
            f"{kind}: {found['configurations']:.0f} configurations, median error {found['median_error']:.1%} "
            f"(wanted {wanted[0]:.0%}), worst {found['worst_error']:.1%} (wanted {wanted[1]:.0%}); "
            f"memory at worst {found['worst_memory_error']:.1%} (wanted {MEMORY_TARGET:.0%})"
        )


if __name__ == "__main__":
    sys.exit(main())
