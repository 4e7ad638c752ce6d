"""One step of one virtual stage on one micro-batch, with the text form `2F0`."""

import re
from typing import Literal, NamedTuple, cast

Kind = Literal["F", "B", "I", "W", "SEND_F", "RECV_F", "SEND_B", "RECV_B"]
COMPUTE_KINDS: tuple[Kind, ...] = ("F", "B", "I", "W")

_TEXT = re.compile(r"(\d+)(F|B|I|W|SEND_F|RECV_F|SEND_B|RECV_B)(\d+)")


class Action(NamedTuple):
    """A step of the global virtual stage on a micro-batch, printed `2F0`.

    `F` is the forward, `I` the gradient of the input, `W` that of the weights, `B` both in one. `SEND_F` sends
    what `F` computed to the next virtual stage, `RECV_F` gets ready to receive what the own `F` needs; `SEND_B`
    sends the input's gradient to the previous virtual stage, `RECV_B` gets ready for what the own `B` or `I` needs.
    """

    virtual_stage: int
    kind: Kind
    micro_batch: int

    def __str__(self) -> str:
        return f"{self.virtual_stage}{self.kind}{self.micro_batch}"


def parse_action(text: str) -> Action:
    """The inverse of `str`.

    Raises:
        ValueError: if the text is not of the form `2F0`.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not an action such as 2F0; kinds are {', '.join(COMPUTE_KINDS)}")
    return Action(int(match[1]), cast(Kind, match[2]), int(match[3]))
