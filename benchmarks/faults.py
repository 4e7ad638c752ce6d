"""Nothing is lost: runs killed at every place, damaged checkpoints, made-up files, a full disk; what saving costs.

    python benchmarks/faults.py [--only PART] [--json FILE] [--budget SECONDS] [--quick]

README.md says what each part does and how to read it. Every row goes to the file at once, as a line of its own; the
matrix leaves out what is there already.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from fault_cost import run_cost
from fault_damage import RESUMED, run_damage
from fault_disk import run_disk
from fault_fuzz import run_fuzz
from fault_matrix import matrix_table, run_matrix
from fault_record import Record, say
from fault_soak import run_soak
from rich.console import Console
from rich.table import Table


def _matrix(options: argparse.Namespace, record: Record, folder: Path) -> Table:
    most = 2 if options.quick else None
    run_matrix(record, folder, options.budget, most, options.cell)
    return matrix_table(record)


PARTS: dict[str, Callable[[argparse.Namespace, Record, Path], Table | str]] = {
    "matrix": _matrix,
    "soak": lambda options, record, folder: run_soak(record, folder, options.kills, options.seed),
    "damage": lambda options, record, folder: run_damage(
        record, folder, 1 if options.quick else len(RESUMED), 50 if options.quick else 1
    ),
    "fuzz": lambda options, record, folder: run_fuzz(record, folder, options.inputs, options.seed),
    "disk": lambda options, record, folder: run_disk(record, folder, options.cell),
    "cost": lambda options, record, folder: run_cost(record, folder, options.rounds, quick=options.quick),
}


def main() -> int:
    """Run, print, write; 1 when something was not as it should be."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))  # not without ending what was started
    record = Record(options.json)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    for name, part in PARTS.items():
        if options.only in ("", name):
            say(f"{name} ...")
            with tempfile.TemporaryDirectory(prefix="pipemlp-faults-") as folder:
                console.print(part(options, record, Path(folder)))
    for row in record.problems:
        console.print(str(row), markup=False)
    return 1 if record.problems else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", choices=["", *PARTS], help="one part; all where left out")
    parser.add_argument("--json", type=Path, help="a file to which every row is added, a JSON line each")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which no cell is begun")
    parser.add_argument("--cell", default="", help="only cells, or cases of the disk, whose name contains this")
    parser.add_argument("--kills", type=int, default=100, help="of the soak (100)")
    parser.add_argument("--inputs", type=int, default=50_000, help="of the fuzz (50,000)")
    parser.add_argument("--rounds", type=int, default=3, help="of the cost, with and without saving (3)")
    parser.add_argument("--seed", type=int, default=0, help="of what is made up, and of when and who is killed")
    parser.add_argument("--quick", action="store_true", help="little of everything: does it run")
    options = parser.parse_args()
    if options.quick:
        options.kills, options.inputs, options.rounds = 2, 500, 1
    return options


if __name__ == "__main__":
    sys.exit(main())
