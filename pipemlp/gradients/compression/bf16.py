"""bfloat16: the upper half of a float32, rounded to nearest; messages of it also add up hop by hop."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipemlp.gradients.compression.codec import AnyVector, in_words
from pipemlp.gradients.compression.sender import Sender
from pipemlp.gradients.compression.vectors import take_apart
from pipemlp.gradients.pattern import Pattern


class Bf16(AnyVector):
    """Two bytes per value: 8 bits of precision, the range of float32."""

    def message_bytes(self, num_values: int) -> int:
        """See `Codec`."""
        return in_words(2 * num_values)

    def encode(self, values: Tensor) -> Tensor:
        """See `Codec`."""
        message = torch.empty(self.message_bytes(len(values)), dtype=torch.uint8, device=values.device)
        message[2 * len(values) :] = 0
        rounded(message, len(values)).copy_(values)
        return message

    def decode(self, message: Tensor, num_values: int) -> Tensor:
        """See `Codec`."""
        return rounded(message, num_values).float()


def rounded(message: Tensor, num_values: int) -> Tensor:
    """The values in a message, bfloat16 [num_values], in place."""
    return message.view(torch.bfloat16)[:num_values]


class Bf16Sum:
    """Sums in bfloat16 by any pattern: what a replica rounds away it adds to its next gradient.

    What the pattern rounds away while it adds is lost.
    """

    def __init__(self, pattern: Pattern, num_values: int, *, error_feedback: bool) -> None:
        self._pattern, self._num_values, self._codec = pattern, num_values, Bf16()
        self._sender = Sender(self._codec, num_values, error_feedback=error_feedback)

    def sum(self, views: Sequence[Tensor]) -> None:
        """See `Compression`."""
        self._sender.take(views)
        message = self._sender.encode()
        self._pattern.sum(rounded(message, self._num_values))
        take_apart(self._codec.decode(message, self._num_values), views)

    def state(self) -> dict[str, Tensor]:
        """See `Compression`."""
        return self._sender.state()
