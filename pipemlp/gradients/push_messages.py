"""The messages of a bucket's parts to those who serve them, each with what the one before left out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipemlp.gradients.compression.codec import Codec
from pipemlp.gradients.compression.float32 import Float32
from pipemlp.gradients.compression.part_codec import part_codec
from pipemlp.gradients.compression.sender import Sender

Shapes = Sequence[Sequence[int]]


class PushMessages:
    """Of one bucket and one worker.

    Args:
        codec: of large tensors.
        shapes: of the tensors of the bucket.
        num_servers: the bucket has so many parts (see `part_of`).
        error_feedback: whether what a message leaves out is kept for the next step.
    """

    def __init__(self, codec: Codec, shapes: Shapes, num_servers: int, *, error_feedback: bool) -> None:
        self.codecs = [part_codec(codec, shapes, num_servers, server) for server in range(num_servers)]
        self._is_plain = isinstance(codec, Float32)
        sizes = [0 if self._is_plain else own.num_values for own in self.codecs]
        self._senders = [
            Sender(own, size, error_feedback=error_feedback) for own, size in zip(self.codecs, sizes, strict=True)
        ]

    def encode(self, values: Tensor) -> list[Tensor]:
        """The bucket's values [n], as a message for each server, uint8; once per step. Plain ones are not copied."""
        parts = values.split([own.num_values for own in self.codecs])
        if self._is_plain:
            return [part.float().view(torch.uint8) for part in parts]
        for sender, part in zip(self._senders, parts, strict=True):
            sender.take([part])
        return [sender.encode() for sender in self._senders]

    def decode(self, message: Tensor, server: int) -> Tensor:
        """What a message to a server says, float32, of its part."""
        if self._is_plain:
            return message.view(torch.float32)
        codec = self.codecs[server]
        return codec.decode(message, codec.num_values)

    def state(self) -> dict[str, Tensor]:
        """What was left out so far."""
        return {
            f"{server}.{name}": tensor
            for server, sender in enumerate(self._senders)
            for name, tensor in sender.state().items()
        }
