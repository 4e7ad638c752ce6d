"""The most that each stage holds around its actions, tensors in transfer included: where something is made besides.

before B, I, W    what it will let go of is there
at the end of F, I    what it makes is there too, and what is let go of when it has ended
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipemlp.schedule.action import Action
from pipemlp.schedule.coding import bytes_table, code_of
from pipemlp.schedule.costs import Costs
from pipemlp.schedule.memory import transfer_tables
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import programs


@dataclass(frozen=True)
class ActivationPeaks:
    """Bytes that one stage holds at most.

    Args:
        kept: after any action, transfers aside.
        first_forward: at the end of the step's first `F`, of each of its virtual stages in rising order.
        forward: at the end of any `F`.
        backward: before a `B`; None where there is none, as with the others.
        input_gradient: before an `I`.
        weight_gradient: before a `W`, or at the end of an `I`.
    """

    kept: float
    first_forward: tuple[float | None, ...]
    forward: tuple[float | None, ...]
    backward: tuple[float | None, ...]
    input_gradient: tuple[float | None, ...]
    weight_gradient: tuple[float | None, ...]

    @staticmethod
    def all_equal(peak_bytes: float, num_virtual_stages: int) -> "ActivationPeaks":
        """What is known from the peak alone: no more than that anywhere."""
        everywhere, nowhere = (peak_bytes,) * num_virtual_stages, (None,) * num_virtual_stages
        return ActivationPeaks(peak_bytes, everywhere, everywhere, everywhere, nowhere, everywhere)


def activation_peaks(schedule: Schedule, costs: Costs) -> tuple[ActivationPeaks, ...]:
    """By stage. A tensor that crosses a cut counts as in `Costs`, by the programs that the stages run."""
    return tuple(_peaks(schedule, stage, program, costs) for stage, program in enumerate(programs(schedule, costs)))


def _peaks(schedule: Schedule, stage: int, program: Sequence[Action], costs: Costs) -> ActivationPeaks:
    """Walks one stage's program; received tensors and handed on ones as in `schedule.memory.peak_with_transfers`."""
    cuts, depth = costs.hop_bytes, schedule.depth
    made, used, sent = transfer_tables(schedule, costs)
    own = bytes_table(costs)
    around: dict[tuple[str, int], float] = {}
    held = kept = most_kept = leaving = 0.0
    for virtual_stage, kind, micro_batch in program:
        if kind == "RECV_F":
            held += cuts[virtual_stage - 1]
        elif kind == "RECV_B":
            held += cuts[virtual_stage]
        elif kind not in ("SEND_F", "SEND_B"):
            code, place = code_of(Action(virtual_stage, kind, micro_batch), depth), (kind, virtual_stage)
            before, whole = held, held + own[code] + made[code]
            held = whole - used[code] - leaving
            leaving = sent[code]
            kept += own[code]
            most_kept = max(most_kept, kept)
            if kind == "F":
                before = whole - used[code]  # what was received is now kept
                around.setdefault(("first", virtual_stage), before)
            elif kind == "I":
                around["W", virtual_stage] = max(around.get(("W", virtual_stage), 0.0), whole)
            around[place] = max(around.get(place, 0.0), before)
    own_stages = schedule.virtual_stages_of(stage)
    return ActivationPeaks(
        most_kept,
        *(tuple(around.get((kind, s)) for s in own_stages) for kind in ("first", "F", "B", "I", "W")),
    )
