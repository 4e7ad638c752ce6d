"""One step of one virtual stage on one micro-batch, with the text form `2F0`."""

from typing import Literal, NamedTuple

Kind = Literal["F", "B"]


class Action(NamedTuple):
    """Forward (`F`) or full backward (`B`) of a micro-batch on a virtual stage; printed `2F0`."""

    virtual_stage: int
    kind: Kind
    micro_batch: int

    def __str__(self) -> str:
        return f"{self.virtual_stage}{self.kind}{self.micro_batch}"
