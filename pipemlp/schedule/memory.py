"""The most that every stage holds, by the rules of `Costs`, walking its actions in order."""

from collections.abc import Sequence
from itertools import accumulate

from pipemlp.schedule.action import Action
from pipemlp.schedule.coding import Coded, bytes_table, code_of, hop_table, in_flight_table
from pipemlp.schedule.costs import Costs
from pipemlp.schedule.schedule import Schedule


def peak_in_flight(schedule: Schedule, coded: Coded) -> tuple[float, ...]:
    """The most micro-batches that each stage holds from an `F` to its `B` or `W`, in whole stages."""
    change = in_flight_table(schedule.depth).__getitem__
    return tuple(max(accumulate(map(change, row)), default=0) / schedule.num_virtual_stages for row in coded.codes)


def peak_kept(coded: Coded, costs: Costs) -> tuple[float, ...]:
    """The most bytes that each stage holds after an action, transfers aside."""
    change = bytes_table(costs).__getitem__
    return tuple(max(accumulate(map(change, row)), default=0.0) for row in coded.codes)


def peak_with_transfers(schedule: Schedule, programs: Sequence[Sequence[Action]], costs: Costs) -> tuple[float, ...]:
    """The most bytes that each stage holds between two actions, tensors on their way included.

    A tensor that crosses a cut counts `hop_bytes`: for its sender from the end of the action that made it until
    the end of the next action; for its receiver from the post of the receive until the end of the action that
    needs it; if one stage is both, from one end to the other. What is kept by its maker anyway counts there.
    """
    cuts, depth = costs.hop_bytes, schedule.depth
    made, used, sent = transfer_tables(schedule, costs)
    change = [own + new - old for own, new, old in zip(bytes_table(costs), made, used, strict=True)]
    peaks = []
    for program in programs:
        held = leaving = peak = 0.0
        for step in program:
            if step.kind == "RECV_F":
                held += cuts[step.virtual_stage - 1]
            elif step.kind == "RECV_B":
                held += cuts[step.virtual_stage]
            elif step.kind not in ("SEND_F", "SEND_B"):
                code = code_of(step, depth)
                held += change[code] - leaving
                leaving = sent[code]
            peak = max(peak, held)
        peaks.append(peak)
    return tuple(peaks)


def transfer_tables(schedule: Schedule, costs: Costs) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Bytes that every action, by its code, makes for another stage, has received, and leaves until its send is over.

    What is kept by its maker anyway is not counted as made.
    """
    cuts, depth, home = costs.hop_bytes, schedule.depth, schedule.stage_of
    shared = costs.shared_bytes or (0.0,) * len(cuts)
    alone = [whole - both for whole, both in zip(cuts, shared, strict=True)]
    # the next virtual stage of the same stage lets go of it, but its maker does not
    stays = [both if home(cut) == home(cut + 1) else 0.0 for cut, both in enumerate(shared)]
    back = [whole + both for whole, both in zip(cuts, stays, strict=True)]
    made = (*alone, 0.0, *((0.0, *back) * 2), *((0.0,) * depth))
    used = (0.0, *cuts, *((*cuts, 0.0) * 2), *((0.0,) * depth))
    sent = (*hop_table(schedule, alone)[:depth], *hop_table(schedule, cuts)[depth:])
    return made, used, sent
