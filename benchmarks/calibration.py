"""What our simulator has to be told of this machine: the cost of actions, hops and steps, from runs of their own.

Other processes than those compared run two schedules on the emulated layers, with another number of micro-batches,
while our clock listens:

    action     the sleep, and what the executor does around it, without waiting for messages
    overhead   all else between a rank's first and last action: sends, posted receives, the loop; by actions
    hop        from the end of the action that made a tensor to its arrival, where its receiver was waiting
    step       what a step takes besides its actions: the batch, the optimizer, the loss

The clocks of ranks on one machine are the same clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean, median

import torch.distributed as dist

from pipemlp.schedule.action import Action
from pipemlp.schedule.costs import Costs
from pipemlp.schedule.measured import Event
from pipemlp.schedule.schedule import Schedule

NUM_STEPS = 12
NUM_WARM_UP = 2
COMPUTED = ("F", "I", "W")
SCHEDULES = {1: "zb-h1", 2: "zb-v"}
"""By virtual stages per stage; both have all three kinds of actions."""


RankStep = tuple[float, list[Event]]
"""The seconds of a step on one rank, and its actions."""


@dataclass(frozen=True)
class Calibration:
    """Seconds, by the number of virtual stages per stage where they depend on it.

    Args:
        actions: of each F, I and W of a virtual stage.
        overhead: of every action besides.
        hop: from stage to stage.
        step: of every step besides.
    """

    actions: dict[int, dict[str, float]] = field(default_factory=dict)
    overhead: dict[int, float] = field(default_factory=dict)
    hop: float = 0.0
    step: float = 0.0

    def costs_of(self, num_stages: int, num_virtual_stages: int) -> Costs:
        """For a grid of equal stages; bytes in units of what a stage keeps for one micro-batch."""
        depth, seconds = num_stages * num_virtual_stages, self.actions[num_virtual_stages]
        share = (1.0 / num_virtual_stages,) * depth
        return Costs(
            forward=(seconds["F"],) * depth,
            input_gradient=(seconds["I"],) * depth,
            weight_gradient=(seconds["W"],) * depth,
            hop=(self.hop,) * (depth - 1),
            kept_bytes=share,
            pending_bytes=share,
            hop_bytes=(0.0,) * (depth - 1),
            overhead=self.overhead[num_virtual_stages],
        )

    def costs(self, order: Schedule) -> Costs:
        """For the sizes of a schedule."""
        return self.costs_of(order.num_stages, order.num_virtual_stages)


def calibrate(num_stages: int, message_bytes: int) -> Calibration:
    """Run on every rank; the same result on every rank."""
    from emulated import calibrate_sleep
    from emulation import LAYER_SECONDS, emulated_workload
    from ours_schedules import Ours

    from pipemlp.schedule.methods import make_schedule

    calibrate_sleep(LAYER_SECONDS)
    workload = emulated_workload(num_stages, num_stages + 3, message_bytes)
    sizes = num_stages, workload.num_micro_batches
    runs = {
        num_virtual: _listened(Ours(workload, make_schedule(name, *sizes, num_virtual)))
        for num_virtual, name in SCHEDULES.items()
    }
    return calibration_of(runs)


def calibration_of(runs: dict[int, list[list[RankStep]]]) -> Calibration:
    """From the steps of both schedules, by rank."""
    steps = [step for run in runs.values() for step in run]
    hops = [fmean(hops) for hops in (list(_hops(step)) for step in steps) if hops]
    return Calibration(
        actions={num_virtual: _actions(run) for num_virtual, run in runs.items()},
        overhead={num_virtual: _overhead(run) for num_virtual, run in runs.items()},
        hop=median(hops),
        step=median(min(seconds - _span(events) for seconds, events in step) for step in steps),
    )


def _listened(ours: "Ours") -> list[list[RankStep]]:  # type: ignore[name-defined]  # noqa: F821
    """Steps of every rank, with their actions."""
    import time

    clock = ours.pipeline.clock
    clock._offset = 0.0  # ranks on one machine have one clock, more exactly than the product can align several
    own: list[RankStep] = []
    for index in range(NUM_WARM_UP + NUM_STEPS):
        clock.listen()
        dist.barrier()
        started = time.perf_counter()
        ours.step()
        seconds = time.perf_counter() - started
        events = clock.events()
        if index >= NUM_WARM_UP:
            own.append((seconds, events))
    everyone: list[list[RankStep]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, own)
    return [list(step) for step in zip(*everyone, strict=True)]


def _actions(run: list[list[RankStep]]) -> dict[str, float]:
    """Seconds of each kind, without waiting: the mean over a step, of the median step."""
    return {
        kind: median(
            fmean(e.end - e.start - e.waited for _, own in step for e in own if e.action.kind == kind) for step in run
        )
        for kind in COMPUTED
    }


def _overhead(run: list[list[RankStep]]) -> float:
    """Seconds per action that are neither an action's own nor spent waiting, of the median step."""
    return median(_overhead_of([events for _, events in step]) for step in run)


def _overhead_of(step: list[list[Event]]) -> float:
    rest = sum(_span(events) - sum(e.end - e.start for e in _computed(events)) for events in step)
    return rest / sum(len(_computed(events)) for events in step)


def _computed(events: list[Event]) -> list[Event]:
    return [event for event in events if event.action.kind in COMPUTED]


def _span(events: list[Event]) -> float:
    """From the first action, a posted receive perhaps, to the end of the last that computes."""
    return _computed(events)[-1].end - events[0].start


def _hops(step: list[RankStep]) -> Iterator[float]:
    """Of all messages that were waited for when they were made."""
    ends = {event.action: event.end for _, events in step for event in events}
    for _, events in step:
        for event in events:
            virtual_stage, kind, micro_batch = event.action
            source = Action(virtual_stage + (1 if kind == "I" else -1), kind, micro_batch)
            if event.waited and ends[source] > event.start:
                yield event.start + event.waited - ends[source]
