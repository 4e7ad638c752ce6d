"""When every action of a schedule starts and ends, if sends never hold up the stage that makes them.

An action starts once the previous one of its stage has ended and its input has arrived:

    F(s, m)      after F(s - 1, m)
    B/I(s, m)    after B/I(s + 1, m); its own F comes earlier on its stage
    W(s, m)      at once; its own I comes earlier on its stage

A result that goes to another stage arrives a hop after the end of its action, within a stage at once.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain

from pipemlp.schedule.coding import Coded, hop_table, seconds_table
from pipemlp.schedule.costs import Costs
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.waiting import Columns, circle, waits_for_input

Times = list[list[float]]

NOT_YET = -1.0
"""Stands for the time of a result that is not there; below it stands the number of the stage that waits for it."""


def clock(schedule: Schedule, coded: Coded, costs: Costs, columns: Columns | None = None) -> tuple[Times, Times]:
    """Starts and ends in seconds, by stage and position, of all actions of a schedule with legal rows.

    Every stage runs until an input is missing and goes on when that arrives. Each result is kept as the time at
    which it can be used, in a table by the code of the action that needs it; a stage that comes too early leaves
    its number there. Made for millions of actions: no objects but the times.

    Raises:
        ScheduleError: if the stages wait for each other; it names who waits for whom, and where: by `columns`
            if the schedule comes from a file.
    """
    seconds, hop = seconds_table(costs), hop_table(schedule, costs.hop)
    inputs, outputs = result_tables(schedule)
    num_stages = schedule.num_stages
    todo = deque(chain(range(1, num_stages, 2), range(0, num_stages, 2)))  # neighbours in turn: long runs of each
    starts: Times = [[] for _ in schedule.actions]
    ends: Times = [[] for _ in schedule.actions]

    def run(stage: int, add_start: Callable[[float], None], add_end: Callable[[float], None]) -> Iterator[None]:
        now, me = 0.0, NOT_YET - 1.0 - stage
        for code, micro_batch in zip(coded.codes[stage], coded.micro_batches[stage], strict=True):
            arrivals = inputs[code]
            ready = arrivals[micro_batch]
            if ready < 0.0:
                arrivals[micro_batch] = me
                yield
                ready = arrivals[micro_batch]
            if ready > now:
                now = ready
            add_start(now)
            now += seconds[code]
            add_end(now)
            results = outputs[code]
            waiting = results[micro_batch]
            delay = hop[code]
            results[micro_batch] = now + delay if delay else now
            if waiting < NOT_YET:
                todo.append(int(NOT_YET - 1.0 - waiting))

    runs = [run(stage, starts[stage].append, ends[stage].append) for stage in range(num_stages)]
    while todo:
        next(runs[todo.popleft()], None)
    done = [len(times) for times in ends]
    if done != [len(row) for row in schedule.actions]:
        raise circle(waits_for_input(schedule, done, columns))
    return starts, ends


def result_tables(schedule: Schedule) -> tuple[list[list[float]], list[list[float]]]:
    """Where every action finds the arrival times of its input and leaves that of its result, by code.

    Each entry is a list by micro-batch, shared between the action that makes a result and the one that needs it.
    """
    depth, num_micro_batches = schedule.depth, schedule.num_micro_batches
    at_once = [0.0] * num_micro_batches
    nobody = [0.0] * num_micro_batches
    forwards = [[NOT_YET] * num_micro_batches for _ in range(depth - 1)]
    backwards = [[NOT_YET] * num_micro_batches for _ in range(depth - 1)]
    return (
        [at_once, *forwards, *backwards, at_once, *backwards, at_once, *([at_once] * depth)],
        [*forwards, nobody, nobody, *backwards, nobody, *backwards, *([nobody] * depth)],
    )
