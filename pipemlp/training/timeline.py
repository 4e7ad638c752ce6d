"""Records some steps as they happened: every action, send and receive of every rank, in timeline.json."""

import json
import os
from pathlib import Path
from typing import Any

import torch.distributed as dist

from pipemlp.engine.pipeline import Pipeline
from pipemlp.engine.place import place_of
from pipemlp.planning.plan import Plan
from pipemlp.schedule.measured import FORMAT
from pipemlp.schedule.torch_csv import write_csv
from pipemlp.training.recorded import TIMELINE_FILE

MOST_KEPT_STEPS = 5
"""Recorded steps that the file holds: the last ones."""
MOST_KEPT_EVENTS = 100_000
"""Actions, sends and receives that the file holds, about 5 MB; fewer steps where they have more, but at least one."""
EARLY = 10
"""The first recorded step comes after 1/10 of the usual distance, so that short runs, and slow ones, have one too."""

Rows = list[list[Any]]
"""One rank's events as [action, start, end, waited], in seconds."""


class TimelineRecorder:
    """Listens to every n-th step, and to an early one; rank 0 writes the file.

    Args:
        run_dir: where timeline.json goes.
        every_steps: 0 never listens.
    """

    def __init__(self, run_dir: Path, pipeline: Pipeline, every_steps: int) -> None:
        self._path = run_dir / TIMELINE_FILE
        self._pipeline = pipeline
        self._every_steps = every_steps
        self._steps: list[tuple[int, str]] = []

    def before(self, step: int) -> None:
        """Step `step` (counted from 1) is about to run."""
        if is_recorded(step, self._every_steps):
            self._pipeline.clock.listen()

    def after(self, step: int) -> None:
        """It has run: gather what every rank noted."""
        if not is_recorded(step, self._every_steps):
            return
        own = [[str(e.action), e.start, e.end, e.waited] for e in self._pipeline.clock.events()]
        first = dist.get_rank() == 0
        gathered: list[Any] | None = [None] * dist.get_world_size() if first else None
        dist.gather_object(own, gathered, dst=0)
        if gathered is not None:
            self._steps.append((sum(map(len, gathered)), _step_json(step, gathered, self._pipeline.plan)))
            self._steps = self._steps[-num_kept([size for size, _ in self._steps]) :]
            self._write(self._pipeline.plan)

    def _write(self, plan: Plan) -> None:
        head = {
            "format": FORMAT,
            "schedule": {"name": plan.schedule.name, "csv": write_csv(plan.schedule)},
            "num_replicas": plan.num_replicas,
        }
        steps = ",\n".join(text for _, text in self._steps)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(f'{json.dumps(head)[:-1]}, "steps": [\n{steps}\n]}}\n', encoding="utf-8")
        os.replace(temporary, self._path)


def is_recorded(step: int, every_steps: int) -> bool:
    """Every n-th step, and the one after a tenth of n."""
    return every_steps > 0 and (step % every_steps == 0 or step == max(1, every_steps // EARLY))


def num_kept(sizes: list[int]) -> int:
    """How many of the last steps fit into the file, by their numbers of events, the newest last."""
    number = min(len(sizes), MOST_KEPT_STEPS)
    while number > 1 and sum(sizes[-number:]) > MOST_KEPT_EVENTS:
        number -= 1
    return number


def _step_json(step: int, ranks: list[Rows], plan: Plan) -> str:
    """All ranks of a step, a line for each, in seconds since the first of their events."""
    origin = min(start for rows in ranks for _, start, _, _ in rows)
    lines = []
    for rank, rows in enumerate(ranks):
        place = place_of(plan, rank)
        head = {
            "rank": rank,
            "stage": place.stage,
            "replica": place.replica,
            "virtual_stages": plan.schedule.virtual_stages_of(place.stage),
        }
        events = [
            [action, round(start - origin, 7), round(end - origin, 7), round(waited, 7)]
            for action, start, end, waited in rows
        ]
        lines.append(json.dumps(head | {"events": events}))
    return f'{{"step": {step}, "ranks": [\n' + ",\n".join(lines) + "\n]}"
