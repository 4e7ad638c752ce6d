"""What a cut by measured seconds is worth: `balanced` against DeepSpeed's own cuts, on twelve uneven MLPs.

    python benchmarks/partition.py [--json FILE] [--only TEXT] [--rounds N] [--quick]

README.md says what is compared and how to read it; uneven_models.py has the models and where they come from.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from partition_lines import EMULATED_STAGES, REAL_STAGES, Compared, Row, row_of, rows_table, summary_lines
from rich.console import Console
from start_ranks import run_ranks
from uneven_models import MODELS, UnevenModel

TABLES = {"real": f"real compute, {REAL_STAGES} ranks", "emulated": f"emulated devices, {EMULATED_STAGES} ranks"}


def main() -> int:
    """Measure, print, write; 1 when two cuts of a model did not compute the same."""
    options = _options()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="pipemlp-benchmark-") as name:
        for model in MODELS:
            if options.only in model.name:
                rows += _compare(model, options, Path(name))
    console = Console(width=130, highlight=False)
    for table, title in TABLES.items():
        own = [row for row in rows if row["table"] == table]
        console.print(rows_table(title, own))
        for line in summary_lines(own):
            console.print(line)
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
    different = [row["model"] for row in rows if not row["same_losses"]]
    if different:
        console.print(f"losses differ between cuts: {', '.join(different)}")
    return 1 if different else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    parser.add_argument("--only", default="", help="only models whose name contains this")
    parser.add_argument("--rounds", type=int, default=15, help="measured steps of each cut (15)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each profile (20)")
    parser.add_argument("--quick", action="store_true", help="3 rounds, short profiles: does it run, not how fast")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 3, 12.0
    return options


def _compare(model: UnevenModel, options: argparse.Namespace, folder: Path) -> list[Row]:
    print(f"{model.name} ...", file=sys.stderr, flush=True)
    arguments = (model, options.rounds, options.seconds)
    real: Compared = run_ranks("partition_runs:measure_real", arguments, REAL_STAGES, folder)
    counts = [layer.num_parameters for layer in model.described()[1]][real.first :]
    emulated: Compared = run_ranks(
        "partition_runs:measure_emulated",
        (real.times, real.machine, counts, options.rounds),
        EMULATED_STAGES,
        folder,
    )
    return [row_of(model, "real", real, counts), row_of(model, "emulated", emulated, counts)]


if __name__ == "__main__":
    sys.exit(main())
