"""How fast our executor is: every schedule against stock DeepSpeed, DualPipeV and torch.distributed.pipelining.

    python benchmarks/schedules.py --emulate --ranks 8 --micro-batches 8 --message-bytes 4096 [--json FILE]
    python benchmarks/schedules.py --real | --memory | --gpu [--json FILE] [--rounds N] [--quick]

README.md says what each table measures and how to read it.
"""

import argparse
import json
import math
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from our_orders import our_orders
from rich.console import Console
from rich.table import Table
from schedule_lines import (
    LOSS_TOLERANCE,
    MEMORY_TARGETS,
    REAL_BEST_OF_TORCH_TARGET,
    REAL_TARGETS,
    RECOMPUTE_TIME_TARGETS,
    VIRTUAL_STAGES,
    Emulation,
    Measured,
    Ratio,
    emulated_ratios,
    rival_ratios,
    simulation_errors,
    speed_ratio,
)
from start_ranks import run_ranks

from pipemlp.launching.devices import num_cores

GPU_WIDTHS, GPU_ROWS = (4096, 8192, 16384), 4096

Result = tuple[list[dict[str, object]], list[Ratio], bool]
"""Rows of the JSON file, lines of the table, and whether all competitors computed the same."""


def main() -> int:
    """Measure, print, write; 1 when two competitors did not compute the same."""
    options = _options()
    tables: dict[str, Callable[[argparse.Namespace, Path], Result]] = {
        "emulate": _emulated,
        "real": _real,
        "memory": _memory,
        "gpu": _gpu,
    }
    with tempfile.TemporaryDirectory(prefix="pipemlp-benchmark-") as name:
        rows, lines, same = tables[options.table](options, Path(name))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    packages = "  ".join(f"{package} {version(package)}" for package in ("torch", "deepspeed"))
    console.print(f"python {platform.python_version()}  {packages}  {platform.machine()}  cores {num_cores()}")
    console.print(_rows_table(rows))
    if lines:
        console.print(_lines_table(lines))
    if options.json is not None:
        options.json.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")
    if not same:
        console.print("the competitors' losses differ: they did not compute the same")
    return 0 if same else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    table = parser.add_mutually_exclusive_group(required=True)
    for name, text in (
        ("emulate", "layers that sleep: as many devices as ranks"),
        ("real", "two ranks that compute"),
        ("memory", "peak live activation bytes against stock DeepSpeed"),
        ("gpu", "one GPU against a plain loop"),
    ):
        table.add_argument(f"--{name}", dest="table", action="store_const", const=name, help=text)
    parser.add_argument("--ranks", type=int, default=None, help="stages (4; with --memory 2)")
    parser.add_argument("--micro-batches", type=int, default=8, help="of a step (8)")
    parser.add_argument("--message-bytes", type=int, default=4096, help="across each cut, with --emulate (4096)")
    parser.add_argument("--rounds", type=int, default=11, help="measured steps of each competitor (11)")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    parser.add_argument("--quick", action="store_true", help="3 rounds: does it run, not how fast")
    options = parser.parse_args()
    options.ranks = options.ranks or (2 if options.table == "memory" else 4)
    if options.quick:
        options.rounds = 3
    return options


def _emulated(options: argparse.Namespace, folder: Path) -> Result:
    emulation = Emulation(options.ranks, options.micro_batches, options.message_bytes, options.rounds)
    _say("calibrating the simulator ...")
    calibration = run_ranks(
        "calibration:calibrate", (emulation.num_stages, emulation.message_bytes), options.ranks, folder
    )
    _say(f"{calibration}\nmeasuring ...")
    orders = our_orders(emulation.num_stages, emulation.num_micro_batches, calibration, VIRTUAL_STAGES)
    arguments = (emulation, calibration, orders)
    found, overshoot = run_ranks("emulation:measure_emulated", arguments, options.ranks, folder)
    _say(f"time.sleep overshoots by {1e6 * overshoot:.0f} us, which every sleep is shortened by")
    rows = [
        {
            "system": row.measured.system,
            "schedule": row.measured.schedule,
            "ranks": emulation.num_stages,
            "micro_batches": emulation.num_micro_batches,
            "message_bytes": emulation.message_bytes,
            "median_seconds": row.measured.median,
            "simulated_seconds": row.simulated_seconds,
            "peak_in_flight": row.peak_in_flight,
            "seconds": row.measured.seconds,
        }
        for row in found
    ]
    return rows, [*emulated_ratios(emulation, found), *simulation_errors(emulation, found)], True


def _real(options: argparse.Namespace, folder: Path) -> Result:
    rows: list[dict[str, object]] = []
    lines, same = [], True
    for num_rows, target in REAL_TARGETS.items():
        _say(f"{num_rows} rows ...")
        found: list[Measured] = run_ranks("real_compute:measure_real", (num_rows, options.rounds), 2, folder)
        same = same and _same_losses(found)
        for line in rival_ratios(found, target, REAL_BEST_OF_TORCH_TARGET, f"{num_rows} rows"):
            lines.append(line)
        rows += [_measured_row(each, rows=num_rows) for each in found]
    return rows, lines, same


def _memory(options: argparse.Namespace, folder: Path) -> Result:
    arguments = (options.ranks, options.micro_batches, 64, 3 * options.rounds)  # steps that differ by a few per cent
    footprints, steps = run_ranks("live_memory:measure_memory", arguments, options.ranks, folder)
    stock = {each.model: max(each.peak_bytes) for each in footprints if each.system == "deepspeed"}
    lines = []
    for each in footprints:
        if each.system == "pipemlp":
            ratio = max(each.peak_bytes) / stock[each.model]
            target = MEMORY_TARGETS.get((each.model, each.recompute))
            name = f"{each.model}, recompute {each.recompute or 'none'}: bytes over stock DeepSpeed's"
            lines.append(Ratio(name, ratio, ratio, ratio, target, at_most=True))
    for model, (without, recomputing) in steps.items():
        ratio = speed_ratio("", without, recomputing, None)
        name = f"{model}: step time of recompute elementwise over none"
        lines.append(Ratio(name, ratio.median, ratio.low, ratio.high, RECOMPUTE_TIME_TARGETS.get(model), at_most=True))
    same = all(_same_losses(pair) for pair in steps.values())
    return [asdict(each) for each in footprints], lines, same


def _gpu(options: argparse.Namespace, folder: Path) -> Result:
    import torch

    if not torch.cuda.is_available():
        _say("torch finds no GPU: nothing to measure")
        return [], [], True
    os.environ["DS_ACCELERATOR"] = "cuda"
    found = run_ranks("gpu:measure_gpu", (GPU_WIDTHS, GPU_ROWS, options.rounds), 1, folder)
    return found, [], True


def _measured_row(measured: Measured, **about: object) -> dict[str, object]:
    return {
        "system": measured.system,
        "schedule": measured.schedule,
        **about,
        "median_seconds": measured.median,
        "last_loss": measured.losses[-1],
        "seconds": measured.seconds,
    }


def _same_losses(found: Sequence[Measured]) -> bool:
    first = found[0].losses
    return all(
        math.isclose(one, other, rel_tol=LOSS_TOLERANCE)
        for each in found
        for one, other in zip(first, each.losses, strict=True)
    )


def _rows_table(rows: Sequence[dict[str, object]]) -> Table:
    table = Table()
    shown = [key for key in (rows[0] if rows else {}) if key not in ("seconds", "versions")]
    for key in shown:
        table.add_column(key, justify="right")
    for row in rows:
        table.add_row(*(_text(row[key]) for key in shown))
    return table


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _lines_table(lines: Sequence[Ratio]) -> Table:
    table = Table("ours : rival")
    for title in ("ratio", "middle half", "wanted", "reached", ""):
        table.add_column(title, justify="right")
    for line in lines:
        sign = "at most " if line.at_most else ""
        table.add_row(
            line.name,
            f"{line.median:.3f}",
            f"{line.low:.3f} - {line.high:.3f}",
            "" if line.target is None else f"{sign}{line.target:g}",
            {None: "", True: "yes", False: "no"}[line.reached],
            line.note,
        )
    return table


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
