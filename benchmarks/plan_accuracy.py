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
EMULATED_STEPS, EMULATED_SECONDS = 14, 40.0
"""What sleeps takes as long in every minute, so that one round does; but it takes long."""


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
            chosen = settings[: 2 if options.quick else None]
            found = run_ranks("plan_accuracy:measure", (config, chosen, kind, options), num_ranks, folder)
            rows += [_row(kind, label, rounds) for rounds in found]
    _print(rows)
    if options.json is not None:
        result = {"rows": rows, "summary": _summary(rows)}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    parser.add_argument("--only", default="", help="only what contains this, such as real, or pyramid")
    parser.add_argument("--rounds", type=int, default=3, help="of a profile and all runs, on real compute (3)")
    parser.add_argument("--steps", type=int, default=20, help="steps of each run on real compute (20)")
    parser.add_argument("--seconds", type=float, default=14.0, help="of each profile (14)")
    parser.add_argument("--quick", action="store_true", help="two settings of each model: does it run, not how well")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.steps, options.seconds = 1, 14, 4.0
    return options


def _cases() -> list[tuple[str, str, Model, int, list[Setting]]]:
    cases = [("real", name, model, 2, list(real_settings(name))) for name, model in REAL.items()]
    for num_ranks in EMULATED_RANKS:
        for name, model in EMULATED.items():
            cases.append(("emulated", name, model, num_ranks, list(emulated_settings(name, num_ranks))))
    return cases


def measure(config: Path, settings: Sequence[Setting], kind: str, options: argparse.Namespace) -> list[list[Planned]]:
    """Run on every rank."""
    if kind == "emulated":
        import ours_schedules  # noqa: F401 - registers the block
        from emulated import calibrate_sleep

        calibrate_sleep(0.003)
    if kind == "real":
        return run_settings(config, settings, options.rounds, options.steps, options.seconds)
    return run_settings(config, settings, 1, EMULATED_STEPS, EMULATED_SECONDS)


def _row(kind: str, label: str, rounds: Sequence[Planned]) -> dict[str, object]:
    """The medians of the rounds."""
    setting, report = rounds[0].setting, rounds[-1].report
    memory = [
        rank.predicted_peak_bytes / rank.measured_peak_bytes - 1.0
        for planned in rounds
        for rank in planned.report.ranks
        if rank.measured_peak_bytes
    ]
    predicted = median(planned.report.predicted_seconds for planned in rounds)
    measured = median(planned.report.measured_seconds or 0.0 for planned in rounds)
    return {
        "kind": kind,
        "model": label,
        "stages": setting.num_stages,
        "virtual_stages": setting.num_virtual_stages,
        "data_parallel": setting.num_replicas,
        "micro_batches": setting.num_micro_batches,
        "schedule": setting.schedule,
        "recompute": setting.recompute or "none",
        "boundaries": list(rounds[0].plan.boundaries),
        "predicted_seconds": predicted,
        "measured_seconds": measured,
        "error": predicted / measured - 1.0,
        "rounds": [[each.report.predicted_seconds, each.report.measured_seconds] for each in rounds],
        "predicted_bubbles": [rank.predicted_bubble for rank in report.ranks],
        "measured_bubbles": [rank.measured_bubble for rank in report.ranks],
        "memory_error": max(memory, key=abs, default=None) if kind == "real" else None,  # emulated layers say nothing
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
