"""A step as it happened: every action of every stage with its times, as timeline.json holds it.

A computation begins with the wait for its message, if it needs one:

    start ........................... start + waited ------------------ end
            nothing to work on                         it computes

A receive lasts from when it was posted until its message was taken, a send until its stage saw that it was done.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

from pipemlp.schedule.action import COMPUTE_KINDS, Action, parse_action
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulation import Simulation
from pipemlp.schedule.torch_csv import read_csv

FORMAT = 1
"""Version of timeline.json; raised when it changes."""
_ROUNDING = 1e-6
"""Seconds by which the rounded times of one event may contradict each other."""


class Event(NamedTuple):
    """One action as it happened, in seconds; `waited` of them passed before its message had arrived."""

    action: Action
    start: float
    end: float
    waited: float

    @property
    def computes_from(self) -> float:
        """When the wait was over."""
        return self.start + self.waited


@dataclass(frozen=True)
class MeasuredStep:
    """One training step of one replica.

    Args:
        schedule: what was run.
        step: its number, counted from 1.
        replica: which copy of the pipeline.
        computations: for each stage its computations in order, parallel to `schedule.actions`.
        transfers: for each stage its sends and receives.
    """

    schedule: Schedule
    step: int
    replica: int
    computations: tuple[tuple[Event, ...], ...]
    transfers: tuple[tuple[Event, ...], ...]

    @property
    def start(self) -> float:
        """When the first computation began, its wait left out."""
        return min(event.computes_from for events in self.computations for event in events)

    @property
    def end(self) -> float:
        """When the last computation ended."""
        return max(event.end for events in self.computations for event in events)

    @property
    def makespan(self) -> float:
        """Seconds from the first forward to the last gradient; the optimizer is not in it."""
        return self.end - self.start


def measured_of(simulation: Simulation) -> MeasuredStep:
    """A simulated step, as if it had been measured: a stage that has nothing to do waits for its next message."""
    computations = []
    for actions, starts, ends in zip(simulation.schedule.actions, simulation.starts, simulation.ends, strict=True):
        free = (0.0, *ends)
        computations.append(tuple(map(_simulated_event, actions, free, starts, ends)))
    return MeasuredStep(simulation.schedule, 0, 0, tuple(computations), ((),) * simulation.schedule.num_stages)


def _simulated_event(action: Action, free: float, start: float, end: float) -> Event:
    return Event(action, free, end, start - free)


def read_timeline(text: str) -> tuple[tuple[MeasuredStep, ...], ...]:
    """The recorded steps in order, each with all its replicas, from the text of timeline.json.

    Raises:
        ValueError: if the text is damaged, or of another version.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        found = value.get("format") if isinstance(value, dict) else None
        raise ValueError(f"is not of the format that this version reads: {FORMAT} expected, {found} found")
    try:
        schedule = read_csv(str(value["schedule"]["csv"]), str(value["schedule"]["name"]))
        num_replicas = int(value["num_replicas"])
        steps = tuple(_read_step(step, schedule, num_replicas) for step in value["steps"])
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"a part is missing or of another type: {type(error).__name__}: {error}") from error
    if not steps or num_replicas < 1:
        raise ValueError(f"{len(steps)} steps of {num_replicas} replicas are recorded; there is at least one of each")
    return steps


def _read_step(value: Mapping[str, Any], schedule: Schedule, num_replicas: int) -> tuple[MeasuredStep, ...]:
    step, ranks = int(value["step"]), value["ranks"]
    if len(ranks) != schedule.num_stages * num_replicas:
        raise ValueError(
            f"step {step}: {len(ranks)} ranks, but {schedule.num_stages} stages x {num_replicas} replicas "
            f"are {schedule.num_stages * num_replicas}"
        )
    events = []
    for rank, own in enumerate(ranks):
        stage, replica = divmod(rank, num_replicas)
        if (own["rank"], own["stage"], own["replica"]) != (rank, stage, replica):
            raise ValueError(f"step {step}: entry {rank} of the ranks is not stage {stage} of replica {replica}")
        events.append([_read_event(entry, f"step {step}, rank {rank}") for entry in own["events"]])
        if tuple(event.action for event in events[-1] if _computes(event)) != schedule.actions[stage]:
            raise ValueError(f"step {step}, rank {rank}: its computations are not those of the schedule, in its order")
    return tuple(
        MeasuredStep(
            schedule,
            step,
            replica,
            tuple(tuple(filter(_computes, own)) for own in events[replica::num_replicas]),
            tuple(tuple(event for event in own if not _computes(event)) for own in events[replica::num_replicas]),
        )
        for replica in range(num_replicas)
    )


def _computes(event: Event) -> bool:
    return event.action.kind in COMPUTE_KINDS


def _read_event(value: Any, where: str) -> Event:
    name, *times = value
    event = Event(parse_action(str(name)), *map(float, times))
    start, end, waited = event[1:]
    if not all(map(isfinite, event[1:])) or waited < -_ROUNDING or end - start < waited - _ROUNDING:
        raise ValueError(f"{where}: {name} from {start} to {end} s, {waited} s of it waited, cannot be")
    return event
