"""What workers and servers tell each other: a header of numbers, then values, in one tensor of bytes."""

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

HEADER_BYTES = 32
"""Four float64."""


class Kind(IntEnum):
    """What a message is for."""

    PUSH = 0
    """A gradient; the answer is the parameters, as soon as the bound allows."""
    SKIP = 1
    """A step whose gradient is not finite, on some stage of the worker's replica: it counts as a step, moves nothing,
    and is answered like a push."""
    PAUSE = 2
    """The worker takes no further step for now: nobody has to wait for it."""
    STOP = 3
    """The worker is done for good."""


@dataclass(frozen=True)
class Header:
    """The numbers of a message.

    Args:
        kind: what it is for.
        steps: that the worker has done since all were last together, this one included.
        version: updates that the server had done when the worker pulled; in an answer, has done now.
        learning_rate: of the step.
    """

    kind: Kind
    steps: int = 0
    version: int = 0
    learning_rate: float = 0.0


def write_header(message: Tensor, header: Header) -> None:
    """Into the first bytes."""
    numbers = [float(header.kind), float(header.steps), float(header.version), header.learning_rate]
    message[:HEADER_BYTES].copy_(torch.tensor(numbers, dtype=torch.float64).view(torch.uint8))


def read_header(message: Tensor) -> Header:
    """From the first bytes."""
    kind, steps, version, learning_rate = message[:HEADER_BYTES].clone().view(torch.float64).tolist()
    return Header(Kind(int(kind)), int(steps), int(version), learning_rate)
