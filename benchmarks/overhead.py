"""What the product's training loop costs: ours against bare DeepSpeed, torch DDP and a plain loop.

    python benchmarks/overhead.py [--json FILE] [--rounds N] [--steps N] [--only TEXT] [--quick] [--startup]

README.md says what each line measures and how to read it.
"""

import argparse
import json
import math
import platform
import statistics
import sys
from importlib.metadata import version
from pathlib import Path

from cases import CASES, Case, Rounds, temporary_folder, write_configs
from processes import run_case
from rich.console import Console
from rich.table import Table
from startup import TARGET_SECONDS, measure_startup

from pipemlp.launching.devices import num_cores

LOSS_TOLERANCE = 1e-4
"""Relative; float32 sums in another order, over the steps of the check."""

STARTUP_ROUNDS = 3


def main() -> int:
    """Measure, print, write; 1 when two competitors did not compute the same."""
    options = _options()
    cases = [case for case in CASES if options.only in case.name] if not options.startup else []
    lines: list[dict[str, object]] = []
    with temporary_folder() as name:
        folder = Path(name)
        write_configs(folder)
        for case in cases:
            print(f"{case.name} ...", file=sys.stderr, flush=True)
            lines.append(compared(case, run_case(case, folder, options.rounds, options.steps)))
        if options.startup:
            lines.append(_startup_line(folder, 1 if options.quick else STARTUP_ROUNDS))
    result = {"environment": environment(), "lines": lines}
    _print(result)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if all(line.get("same_loss", True) for line in lines) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of each competitor (20)")
    parser.add_argument("--steps", type=int, default=40, help="steps per round of the small model; the wide one: 1/8")
    parser.add_argument("--only", default="", help="only the lines whose name contains this, such as DDP or wide")
    parser.add_argument("--quick", action="store_true", help="4 rounds of 16 steps: does it run, not how fast")
    parser.add_argument("--startup", action="store_true", help="measure first and second start instead")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.steps = 4, 16
    return options


def compared(case: Case, rounds: Rounds) -> dict[str, object]:
    """One line: the ratio of the medians, and the middle half of the rounds' own ratios."""
    ours, rival = zip(*rounds.seconds, strict=True)
    ratio = statistics.median(rival) / statistics.median(ours)
    low, _, high = statistics.quantiles((b / a for a, b in rounds.seconds), n=4, method="inclusive")
    return {
        "name": case.name,
        "ours": rounds.num_samples / statistics.median(ours),
        "rival": rounds.num_samples / statistics.median(rival),
        "ratio_median": ratio,
        "ratio_low": low,
        "ratio_high": high,
        "target": case.target,
        "reached": None if case.target is None else ratio >= case.target,
        "losses": rounds.losses,
        "same_loss": math.isclose(*rounds.losses, rel_tol=LOSS_TOLERANCE),
    }


def _startup_line(folder: Path, num_rounds: int) -> dict[str, object]:
    startup = measure_startup(folder, num_rounds)
    return {
        "name": "first start : second start",
        "first_seconds": startup.first,
        "second_seconds": startup.second,
        "difference_seconds": startup.difference,
        "target": TARGET_SECONDS,
        "reached": startup.difference <= TARGET_SECONDS,
    }


def environment() -> dict[str, object]:
    """Versions and cores."""
    packages = {name: version(name) for name in ("torch", "deepspeed", "numpy")}
    return {"python": platform.python_version(), **packages, "machine": platform.machine(), "cores": num_cores()}


def _print(result: dict) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    console.print("  ".join(f"{key} {value}" for key, value in result["environment"].items()))
    loops = [line for line in result["lines"] if "ratio_median" in line]
    if loops:
        console.print(_loop_table(loops))
    for line in result["lines"]:
        if "difference_seconds" in line:
            shown = (
                f"{first:.1f} / {second:.1f}"
                for first, second in zip(line["first_seconds"], line["second_seconds"], strict=True)
            )
            console.print(
                f"command to first step, first / second start in seconds: {', '.join(shown)}; "
                f"median difference {line['difference_seconds']:.2f}, wanted at most {line['target']:g}"
            )


def _loop_table(lines: list[dict]) -> Table:
    table = Table("ours : rival")
    for title in ("ours", "rival", "ratio", "middle half", "wanted", "reached", "loss, ours", "loss, rival"):
        table.add_column(title, justify="right")
    for line in lines:
        wanted, reached = line["target"], line["reached"]
        table.add_row(
            line["name"],
            f"{line['ours']:,.0f}/s",
            f"{line['rival']:,.0f}/s",
            f"{line['ratio_median']:.3f}",
            f"{line['ratio_low']:.3f} - {line['ratio_high']:.3f}",
            "" if wanted is None else f"{wanted:.2f}",
            "" if reached is None else "yes" if reached else "no",
            *(f"{loss:.6f}" for loss in line["losses"]),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
