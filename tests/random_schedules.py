"""Schedules and costs that no method would choose: any legal order, any split of backwards, any unequal costs."""

import random
from dataclasses import replace

from hypothesis import strategies as st

from pipemlp.schedule.action import Action, Kind, parse_action
from pipemlp.schedule.costs import Costs
from pipemlp.schedule.placement import Placement
from pipemlp.schedule.schedule import Schedule

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def schedules(
    draw: st.DrawFn, num_stages: int = 5, num_virtual_stages: int = 3, num_micro_batches: int = 6
) -> Schedule:
    """A random legal schedule of at most these sizes."""
    empty = Schedule(
        name="random",
        num_stages=draw(st.integers(1, num_stages)),
        num_virtual_stages=draw(st.integers(1, num_virtual_stages)),
        num_micro_batches=draw(st.integers(1, num_micro_batches)),
        placement=draw(st.sampled_from(("loop", "v"))),
        actions=(),
    )
    return fill(empty, random.Random(draw(SEEDS)))


def fill(empty: Schedule, generator: random.Random) -> Schedule:
    """The sizes with actions: one at a time that could run now, on whichever stage."""
    rows: list[list[Action]] = [[] for _ in range(empty.num_stages)]
    ready = [Action(0, "F", micro_batch) for micro_batch in range(empty.num_micro_batches)]
    while ready:
        action = ready.pop(generator.randrange(len(ready)))
        rows[empty.stage_of(action.virtual_stage)].append(action)
        ready.extend(_next(action, empty.depth, generator))
    return replace(empty, actions=tuple(map(tuple, rows)))


def _next(action: Action, depth: int, generator: random.Random) -> list[Action]:
    """What may run once `action` is done."""
    virtual_stage, kind, micro_batch = action
    backward: Kind = "I" if generator.random() < 0.5 else "B"
    found = [Action(virtual_stage, "W", micro_batch)] if kind == "I" else []
    if kind == "F" and virtual_stage + 1 < depth:
        found.append(Action(virtual_stage + 1, "F", micro_batch))
    elif kind == "F":
        found.append(Action(virtual_stage, backward, micro_batch))
    elif kind in ("B", "I") and virtual_stage > 0:
        found.append(Action(virtual_stage - 1, backward, micro_batch))
    return found


@st.composite
def costs_of(draw: st.DrawFn, depth: int, *, smallest: float = 0.01) -> Costs:
    """Random unequal costs; seconds from `smallest`."""
    generator = random.Random(draw(SEEDS))

    def seconds(count: int) -> tuple[float, ...]:
        return tuple(generator.choice((smallest, generator.uniform(smallest, 3.0))) for _ in range(count))

    def sizes(count: int) -> tuple[float, ...]:
        return tuple(float(generator.randrange(100)) for _ in range(count))

    return Costs(
        forward=seconds(depth),
        input_gradient=seconds(depth),
        weight_gradient=seconds(depth),
        hop=seconds(depth - 1) if draw(st.booleans()) else (0.0,) * (depth - 1),
        kept_bytes=sizes(depth),
        pending_bytes=sizes(depth),
        hop_bytes=sizes(depth - 1) if draw(st.booleans()) else (0.0,) * (depth - 1),
        overhead=draw(st.sampled_from((0.0, 0.25))),
    )


def schedule_of(
    *rows: str, num_virtual_stages: int = 1, num_micro_batches: int, placement: Placement = "loop"
) -> Schedule:
    """A schedule from its text, one string of actions for each stage."""
    return Schedule(
        name="written",
        num_stages=len(rows),
        num_virtual_stages=num_virtual_stages,
        num_micro_batches=num_micro_batches,
        placement=placement,
        actions=tuple(program(row) for row in rows),
    )


def program(text: str) -> tuple[Action, ...]:
    """The actions of one row of text."""
    return tuple(map(parse_action, text.split()))
