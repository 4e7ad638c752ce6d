"""When every action starts and ends, if a send holds up its stage until the message has been received.

The stages run their lowered programs step by step:

    a receive    is posted when its stage reaches it, and takes no time
    a send       begins when its stage has reached it and the receive is posted, and lasts a hop; until then the
                 sender's next step cannot start, and the result cannot be used
    an action    starts when its stage has reached it and its input has arrived

That is what a link without buffers does to a stage that has no other thread to send with.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from pipemlp.schedule.action import Action
from pipemlp.schedule.clock import Times
from pipemlp.schedule.coding import encode, seconds_table
from pipemlp.schedule.costs import Costs
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.waiting import Wait, circle, input_of, place


def message_of(step: Action) -> Action:
    """The message that a send or a receive is about, named by the `F` or `B` that needs it."""
    virtual_stage, kind, micro_batch = step
    if kind == "SEND_F":
        return Action(virtual_stage + 1, "F", micro_batch)
    if kind == "SEND_B":
        return Action(virtual_stage - 1, "B", micro_batch)
    return Action(virtual_stage, "F" if kind == "RECV_F" else "B", micro_batch)


class HeldClock:
    """The clock of programs whose sends hold up their stage; `run` sets it going.

    Attributes:
        starts, ends: seconds of every action, by stage and position in the schedule.
        released: when the stage can go on after every action: at its end, or later when its send has been received.
        receivers: by stage and position of an action that sends, the receiving stage, and how many of that stage's
            actions came before it got ready to receive.
    """

    def __init__(self, schedule: Schedule, programs: Sequence[Sequence[Action]], costs: Costs) -> None:
        self.starts: Times = [[] for _ in programs]
        self.ends: Times = [[] for _ in programs]
        self.released: Times = [[] for _ in programs]
        self.receivers: dict[tuple[int, int], tuple[int, int]] = {}
        self._posts: dict[Action, tuple[float, int]] = {}  # when, and after how many of the receiver's actions
        self._schedule = schedule
        self._programs = programs
        self._codes = encode(schedule).codes
        self._seconds = seconds_table(costs)
        self._hop = costs.hop
        self._arrivals: dict[Action, float] = {}

    def run(self) -> "HeldClock":
        """Run every stage as far as it goes, and again after each stage that it waits for.

        Raises:
            ScheduleError: if the stages hang; it names who waits for whom for which action.
        """
        runs = [self._steps(stage) for stage in range(len(self._programs))]
        waits: dict[int, Wait] = {}
        todo = deque(range(len(runs)))
        while todo:
            stage = todo.popleft()
            before = waits.pop(stage, None)
            wait = next(runs[stage], None)
            if wait is not None:
                waits[stage] = wait
            if wait != before:
                todo.extend(other for other, on in waits.items() if on.on == stage and other not in todo)
        if waits:
            raise circle(waits)
        return self

    def _steps(self, stage: int) -> Iterator[Wait]:
        """Run one stage; gives what it waits for, again and again until that has come."""
        now = 0.0
        for position, step in enumerate(self._programs[stage]):
            if step.kind in ("RECV_F", "RECV_B"):
                self._posts[message_of(step)] = (now, len(self.ends[stage]))
            elif step.kind in ("SEND_F", "SEND_B"):
                message = message_of(step)
                receiver = self._schedule.stage_of(message.virtual_stage)
                reason = f"{step} waits until row {receiver + 1} gets ready to receive it"
                while message not in self._posts:
                    yield Wait(place(stage, position), position, reason, receiver)
                posted, count = self._posts[message]
                action = len(self.ends[stage]) - 1
                self.receivers[stage, action] = (receiver, count)
                now = max(now, posted) + self._hop[min(step.virtual_stage, message.virtual_stage)]
                self.released[stage][-1] = self._arrivals[message] = now
            else:
                source = input_of(self._schedule, step)
                if source is not None:
                    message = result_of(source)
                    sender = self._schedule.stage_of(source.virtual_stage)
                    reason = f"{step} waits for {source} of row {sender + 1}"
                    while message not in self._arrivals:
                        yield Wait(place(stage, position), position, reason, sender)
                    now = max(now, self._arrivals[message])
                now = self._compute(stage, step, now)

    def _compute(self, stage: int, action: Action, start: float) -> float:
        end = start + self._seconds[self._codes[stage][len(self.ends[stage])]]
        self.starts[stage].append(start)
        self.ends[stage].append(end)
        self.released[stage].append(end)
        message = result_of(action)
        inside = action.kind != "W" and 0 <= message.virtual_stage < self._schedule.depth
        if inside and self._schedule.stage_of(message.virtual_stage) == stage:
            self._arrivals[message] = end
        return end


def result_of(action: Action) -> Action:
    """The message that carries the result of an `F`, `B` or `I`."""
    return message_of(action._replace(kind="SEND_F" if action.kind == "F" else "SEND_B"))
