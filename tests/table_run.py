"""A small regression on a table with numbers and categories, trained once from Python for all tests that use it."""

import csv
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

from commands import succeed

CONFIG = """
data: {path: {train: train.csv, validation: validation.csv, test: test.csv}, target: price}
model: {hidden: {width: 16, depth: 2}}
training: {epochs: 4, global_batch_size: 16}
optimizer: {name: adam, lr: 0.01}
"""
SCRIPT = """
import json, pipemlp
run = pipemlp.train(pipemlp.load_config("table.yaml", ["run.dir=run"]))
print(json.dumps({"dir": str(run.dir), "state": run.status.state, "metrics": run.metrics}))
"""


@dataclass(frozen=True)
class TableRun:
    """Where the run and its files are, and what the Python script said of it."""

    folder: Path
    reported: dict

    @property
    def dir(self) -> Path:
        return self.folder / "run"


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV as they are written."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict]) -> Path:
    """A CSV with the columns of the first row."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def train_table(folder: Path) -> TableRun:
    """Write the files, and train through `pipemlp.train` in a process of its own."""
    random.seed(7)
    for name, num_rows in (("train", 90), ("validation", 20), ("test", 37)):
        write_rows(folder / f"{name}.csv", [_house() for _ in range(num_rows)])
    (folder / "table.yaml").write_text(CONFIG)
    started = succeed([sys.executable, "-c", SCRIPT], folder, XDG_CACHE_HOME=str(folder / "cache"))
    return TableRun(folder, json.loads(started.out.splitlines()[-1]))


def _house() -> dict:
    area, rooms, kind = random.uniform(30, 200), random.randint(1, 8), random.choice(["flat", "terraced", "detached"])
    price = 3000 * area + 8000 * rooms + 50_000 * len(kind) + random.gauss(0, 10_000)
    return {"area": round(area, 2), "rooms": rooms, "kind": kind, "price": round(price)}
