"""How good a plan's first choice is: on two ranks of real compute, all candidates run, the fastest again in turns.

    python benchmarks/plan_choice.py [--json FILE] [--only TEXT] [--rounds N] [--quick]

README.md says what is run and how to read it.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch
from alternation import alternate
from partition_runs import CutPipeline
from plan_cases import CHOICES
from planned_run import CPU, profiled
from rich.console import Console
from rich.table import Table
from start_ranks import run_ranks

from pipemlp.engine.pipeline import Pipeline
from pipemlp.planning.candidates import settings
from pipemlp.planning.making import Known, lay_out
from pipemlp.planning.plan import Plan
from pipemlp.planning.search import search
from pipemlp.planning.workload import Setting, workload_of
from pipemlp.training.building import make_pipeline, weighted_loss
from pipemlp.training.planning import PlanningInputs
from pipemlp.training.profile_units import Making, made_up_batch

NUM_RANKS = 2
NEAR, WANTED_SHARE = 1.05, 0.9
"""The first choice may take so many times the best one's time, in so many of the cases."""
FINALISTS = 4
"""Of all that were run, those that run again beside the first choice."""
STEPS_IN_BLOCK = 4


@dataclass(frozen=True)
class Choice:
    """What became of one case.

    Args:
        num_candidates: that were run.
        first: what the plan would run.
        seconds: of a step, of the first choice and the finalists, medians of the rounds.
        rank: of the first choice among all candidates in the first round, from 1.
    """

    num_candidates: int
    first: Setting
    seconds: dict[Setting, float]
    rank: int


def main() -> int:
    """Run, print, write."""
    options = _options()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="pipemlp-benchmark-") as name:
        folder = Path(name)
        for label, model in CHOICES.items():
            if options.only not in label:
                continue
            print(f"{label} ...", file=sys.stderr, flush=True)
            config = model.write(folder, label.replace(" ", "-").replace(",", ""))
            choice = run_ranks("plan_choice:measure", (config, options), NUM_RANKS, folder)
            rows.append(_row(label, choice))
    _print(rows)
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    parser.add_argument("--only", default="", help="only models whose name contains this")
    parser.add_argument("--rounds", type=int, default=30, help="of the first choice and the finalists, in turns (30)")
    parser.add_argument("--seconds", type=float, default=14.0, help="of each profile (14)")
    parser.add_argument("--quick", action="store_true", help="few candidates: does it run, not how well")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 3, 4.0
    return options


def measure(config_file: Path, options: argparse.Namespace) -> Choice:
    """Run on every rank; the same result on every rank."""
    config, inputs, profile = profiled(config_file, options.seconds)
    workload = workload_of(inputs.config, inputs.layers)
    first = search(workload, NUM_RANKS, profile).ranking[0].setting
    # recomputation only ever adds work: where memory suffices, as here, it is no serious candidate
    candidates = [setting for setting in settings(workload, NUM_RANKS) if setting.recompute == 0]
    if first not in candidates:
        candidates.append(first)
    if options.quick:
        candidates = [first, *candidates[::20]]
    competitors = [_competitor(inputs, lay_out(workload, setting, Known(source=profile))) for setting in candidates]
    once = _seconds(competitors, max(3, options.rounds // 3))
    order = sorted(range(len(candidates)), key=once.__getitem__)
    chosen = candidates.index(first)
    finalists = list(dict.fromkeys([chosen, *order[:FINALISTS]]))
    again = _seconds([competitors[index] for index in finalists], options.rounds)
    found = {candidates[index]: seconds for index, seconds in zip(finalists, again, strict=True)}
    return Choice(len(candidates), first, found, order.index(chosen) + 1)


class BlockOfSteps(CutPipeline):
    """Some steps of the product's pipeline in a row: stages may begin the next while others end one."""

    def step(self) -> None:
        """A block."""
        for _ in range(STEPS_IN_BLOCK):
            super().step()


def _competitor(inputs: PlanningInputs, plan: Plan) -> BlockOfSteps:
    config, layers = inputs.config, inputs.layers
    loss = weighted_loss(config)
    making = Making(CPU, torch.float32, loss, inputs.shape.task, config.run.seed)
    batch = made_up_batch(making, layers, plan.micro_batch_rows, plan.num_micro_batches)

    def build(own: Plan) -> Pipeline:
        return make_pipeline(config, layers, own, loss)

    return BlockOfSteps(plan.schedule.name, plan, build, batch, config.optimizer.lr)


def _seconds(competitors: Sequence[BlockOfSteps], num_rounds: int) -> list[float]:
    """Of a step, on the median; the same on every rank."""
    return [median(each.seconds) / STEPS_IN_BLOCK for each in alternate(competitors, num_rounds)]


def _row(label: str, choice: Choice) -> dict[str, object]:
    best = min(choice.seconds, key=choice.seconds.__getitem__)
    return {
        "model": label,
        "candidates": choice.num_candidates,
        "first_choice": setting_text(choice.first),
        "rank_among_all": choice.rank,
        "best_measured": setting_text(best),
        "first_seconds": choice.seconds[choice.first],
        "best_seconds": choice.seconds[best],
        "ratio": choice.seconds[choice.first] / choice.seconds[best],
        "finalists": {setting_text(each): seconds for each, seconds in choice.seconds.items()},
    }


def setting_text(setting: Setting) -> str:
    """In one line."""
    plain = replace(setting, recompute=0)
    again = "" if plain == setting else f", recompute {setting.recompute}"
    zero = f", ZeRO {setting.zero_stage}" if setting.zero_stage else ""
    return (
        f"{setting.num_stages} x {setting.num_replicas}, {setting.schedule}, {setting.num_micro_batches} "
        f"micro-batches{zero}{again}"
    )


def _print(rows: Sequence[dict[str, object]]) -> None:
    console = Console(width=130, highlight=False)
    table = Table(title="the plan's first choice against the best of all candidates", title_justify="left")
    for name in ("model", "run", "first choice", "best measured", "ratio"):
        table.add_column(name, justify="right" if name in ("run", "ratio") else "left")
    for row in rows:
        cells = [str(row[name]) for name in ("model", "candidates", "first_choice", "best_measured")]
        table.add_row(*cells, f"{float(row['ratio']):.3f}")  # type: ignore[arg-type]
    console.print(table)
    near = sum(float(row["ratio"]) <= NEAR for row in rows)  # type: ignore[arg-type]
    console.print(f"within 5 %: {near} of {len(rows)} (wanted {WANTED_SHARE:.0%})")


if __name__ == "__main__":
    sys.exit(main())
