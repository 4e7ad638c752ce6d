"""The order most schedules share: warm up with forwards, then a forward and a backward in turn, then drain.

One forward of warm-up, weight gradients one backward late:

    warm-up   in turn                     drain
    F0        F1 I0   F2 I1 W0   F3 I2 W1   I3 W2   W3
"""

from collections.abc import Sequence

from pipemlp.schedule.action import Action, Kind

Step = tuple[int, int]
"""A virtual stage and a micro-batch."""


def alternate(
    forwards: Sequence[Step], backwards: Sequence[Step], num_warmup: int, weight_delay: int | None = None
) -> tuple[Action, ...]:
    """The actions of one stage.

    Args:
        forwards, backwards: what to compute, in these orders; equally many.
        num_warmup: forwards before the first pair of a forward and a backward.
        weight_delay: None for whole backwards. A number splits them: from that backward on (counted from 0) each
            has a weight gradient behind it, which is that many backwards older.
    """
    ahead = _actions("F", forwards)
    back = _actions("B" if weight_delay is None else "I", backwards)
    late = [] if weight_delay is None else _actions("W", backwards)
    delay = len(back) if weight_delay is None else min(weight_delay, len(back))
    row = ahead[:num_warmup]
    for index, action in enumerate(back):
        if index + num_warmup < len(ahead):
            row.append(ahead[index + num_warmup])
        row.append(action)
        if index >= delay:
            row.append(late[index - delay])
    return (*row, *late[len(back) - delay :])


def _actions(kind: Kind, steps: Sequence[Step]) -> list[Action]:
    new = tuple.__new__  # half the time of Action(...), and there may be millions
    return [new(Action, (virtual_stage, kind, micro_batch)) for virtual_stage, micro_batch in steps]


def check_sizes(num_stages: int, num_micro_batches: int, num_virtual_stages: int = 1) -> None:
    """Refuse what is no pipeline.

    Raises:
        ValueError: naming the number that is not at least 1.
    """
    sizes = {"stages": num_stages, "micro-batches": num_micro_batches, "virtual stages per stage": num_virtual_stages}
    for words, size in sizes.items():
        if size < 1:
            raise ValueError(f"{size} {words}; a pipeline needs at least 1")
