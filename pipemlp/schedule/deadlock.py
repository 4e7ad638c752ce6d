"""Prove that lowered programs cannot hang or mix up messages, however little the links promise.

The weakest links: each directed link (stage a -> stage b) delivers first in, first out and knows no tags, so that
the k-th send is received by the k-th receive, whatever they mean; and a send may hold up its stage until that
receive is posted. Whether programs hang then does not depend on how fast anything is: no step ever chooses, each
waits for given others. One run with any costs therefore tells for all runs.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import zip_longest

from pipemlp.schedule.action import COMPUTE_KINDS, Action
from pipemlp.schedule.blocking import HeldClock, message_of, result_of
from pipemlp.schedule.costs import uniform_costs
from pipemlp.schedule.errors import ScheduleError
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.waiting import input_of, place

Step = tuple[int, Action]
"""A transfer and its position in its program."""


def check_links(programs: Sequence[Sequence[Action]], schedule: Schedule) -> None:
    """Accept programs that compute the schedule and neither hang nor mix up messages on the weakest links.

    Args:
        programs: of every stage, from `lower`; rows and columns of a message count their steps.
        schedule: what they carry out, one that `check` accepts.

    Raises:
        ScheduleError: if a program computes something else, a result is sent before it is computed, an input's
            receive is not posted before it is needed, sends and receives of a link are not in the same order, or
            the stages hang; it names who waits for whom for which action.
    """
    if len(programs) != schedule.num_stages:
        raise ScheduleError(f"{len(programs)} programs for {schedule.num_stages} stages; every stage needs one")
    for stage, program in enumerate(programs):
        _check_program(schedule, stage, program)
    _check_order(schedule, programs)
    HeldClock(schedule, programs, uniform_costs(schedule.num_stages, schedule.num_virtual_stages)).run()


def _check_program(schedule: Schedule, stage: int, program: Sequence[Action]) -> None:
    """Its computations are the schedule's, its sends come after them and its receives before them."""
    computed = tuple(step for step in program if step.kind in COMPUTE_KINDS)
    if computed != schedule.actions[stage]:
        raise ScheduleError(f"row {stage + 1}: the program does not compute what the schedule says", stage=stage)
    made: set[Action] = set()
    posted: set[Action] = set()
    for position, step in enumerate(program):
        if step.kind in ("SEND_F", "SEND_B"):
            reason = _wrong_send(schedule, stage, step, made)
        elif step.kind in ("RECV_F", "RECV_B"):
            own = step.virtual_stage in schedule.virtual_stages_of(stage) and _sender(schedule, step) is not None
            reason = "" if own else f"{step} receives nothing that this row needs from another"
            posted.add(step)
        elif step.kind == "W":
            reason = ""
        else:
            receive = step._replace(kind="RECV_F" if step.kind == "F" else "RECV_B")
            absent = _sender(schedule, receive) is not None and receive not in posted
            reason = f"{step} needs {receive}, which does not come before it" if absent else ""
            made.add(result_of(step))
        if reason:
            raise ScheduleError(f"{place(stage, position)}: {reason}", stage=stage, position=position)


def _wrong_send(schedule: Schedule, stage: int, send: Action, made: set[Action]) -> str:
    message = message_of(send)
    if message not in made:
        return f"{send} sends what is not computed before it in this row"
    if not 0 <= message.virtual_stage < schedule.depth or schedule.stage_of(message.virtual_stage) == stage:
        return f"{send} sends what no other row needs"
    return ""


def _sender(schedule: Schedule, receive: Action) -> int | None:
    """The other stage that makes what `receive` is for; None if none does."""
    source = input_of(schedule, message_of(receive))
    if source is None:
        return None
    sender, receiver = schedule.stage_of(source.virtual_stage), schedule.stage_of(receive.virtual_stage)
    return sender if sender != receiver else None


def _check_order(schedule: Schedule, programs: Sequence[Sequence[Action]]) -> None:
    """On every link the k-th send and the k-th receive are for the same message."""
    sends: dict[tuple[int, int], list[Step]] = defaultdict(list)
    receives: dict[tuple[int, int], list[Step]] = defaultdict(list)
    for stage, program in enumerate(programs):
        for position, step in enumerate(program):
            if step.kind in ("SEND_F", "SEND_B"):
                sends[stage, schedule.stage_of(message_of(step).virtual_stage)].append((position, step))
            elif step.kind in ("RECV_F", "RECV_B"):
                sender = _sender(schedule, step)
                assert sender is not None  # checked before
                receives[sender, stage].append((position, step))
    for link in sorted(sends.keys() | receives.keys()):
        for number, (sent, received) in enumerate(zip_longest(sends[link], receives[link]), 1):
            if sent is None or received is None or message_of(sent[1]) != message_of(received[1]):
                raise _mismatch(link, number, sent, received)


def _mismatch(link: tuple[int, int], number: int, sent: Step | None, received: Step | None) -> ScheduleError:
    left, right = link
    out = f"{sent[1]} ({place(left, sent[0])})" if sent else "nothing"
    into = f"{received[1]} ({place(right, received[0])})" if received else "nothing"
    stage, step = (right, received) if received else (left, sent)
    assert step is not None
    return ScheduleError(
        f"link from row {left + 1} to row {right + 1}, message {number}: {out} is sent, {into} is received",
        stage=stage,
        position=step[0],
    )
