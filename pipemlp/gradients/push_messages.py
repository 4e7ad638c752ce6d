"""The messages of a bucket's parts to those who serve them, each with what the one before left out."""

from collections.abc import Sequence

from torch import Tensor

from pipemlp.gradients.compression.codec import Codec
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
        self.codecs = [part_codec(codec, [shapes], num_servers, server) for server in range(num_servers)]
        self._senders = [Sender(own, own.num_values, error_feedback=error_feedback) for own in self.codecs]

    def encode(self, values: Tensor) -> list[Tensor]:
        """The bucket's values [n], as a message for each server, uint8; once per step."""
        for sender, part in zip(self._senders, values.split([own.num_values for own in self.codecs]), strict=True):
            sender.take([part])
        return [sender.encode() for sender in self._senders]

    def decode(self, message: Tensor, server: int) -> Tensor:
        """What a message to a server says, float32, of its part."""
        codec = self.codecs[server]
        return codec.decode(message, codec.num_values)

    def state(self) -> dict[str, Tensor]:
        """What was left out so far."""
        return {
            f"{server}.{name}": tensor
            for server, sender in enumerate(self._senders)
            for name, tensor in sender.state().items()
        }
