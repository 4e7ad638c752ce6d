"""Add the transfers to a schedule, so that no run of it can hang, however little the links promise.

    stage 0   0F0  0SEND_F0  0F1  0SEND_F1  0RECV_B0  0RECV_B1  0B0  0B1
    stage 1   1RECV_F0  1RECV_F1  1F0  1B0  1SEND_B0  1F1  1B1  1SEND_B1       (F takes 1 s, B 2 s, a hop nothing)

A result is sent right after the action that made it. Its receiver gets ready (posts the receive) before the first
of its own actions that ends after the sender's action has started: early enough to overlap the transfer, late
enough not to hold a buffer for long. On each directed link both sides have the sender's order, which is all a
first-in first-out link needs.

Why it cannot hang, even if a send holds up its whole rank until the receive is posted: take the actions by the
time at which they end in the simulation. The receive of a message is posted right after an action that ends
before the sender's action starts, and so before it ends. If all actions that end earlier got done, with their
sends, then so does this one: its rank is free, its inputs were sent, and whoever it sends to is ready.
"""

from bisect import bisect_right

from pipemlp.schedule.action import Action
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulation import Simulation

Program = tuple[Action, ...]
"""What one stage does in order: computations, sends, and receives to post."""


def lower(simulation: Simulation) -> tuple[Program, ...]:
    """The program of every stage. Simulate with positive costs; any will do, the true ones overlap best."""
    schedule = simulation.schedule
    posts: list[list[list[Action]]] = [[[] for _ in actions] for actions in schedule.actions]
    by_start = sorted(
        (start, stage, index) for stage, starts in enumerate(simulation.starts) for index, start in enumerate(starts)
    )
    for start, stage, index in by_start:
        receive = _receive_of(schedule, schedule.actions[stage][index])
        if receive is not None:
            receiver = schedule.stage_of(receive.virtual_stage)
            posts[receiver][bisect_right(simulation.ends[receiver], start)].append(receive)
    return tuple(
        tuple(
            step
            for index, action in enumerate(actions)
            for step in (*posts[stage][index], *_with_send(schedule, action))
        )
        for stage, actions in enumerate(schedule.actions)
    )


def _with_send(schedule: Schedule, action: Action) -> tuple[Action, ...]:
    if _receive_of(schedule, action) is None:
        return (action,)
    return action, Action(action.virtual_stage, "SEND_F" if action.kind == "F" else "SEND_B", action.micro_batch)


def _receive_of(schedule: Schedule, action: Action) -> Action | None:
    """What another stage receives when `action` is done, if anything."""
    virtual_stage, kind, micro_batch = action
    if kind == "W":
        return None
    other = virtual_stage + 1 if kind == "F" else virtual_stage - 1
    if not 0 <= other < schedule.depth or schedule.stage_of(other) == schedule.stage_of(virtual_stage):
        return None
    return Action(other, "RECV_F" if kind == "F" else "RECV_B", micro_batch)
