"""Error feedback: what a message leaves out is added to the next one, so that in the long run all arrives.

    step         to send                    message             kept
    1            g1                         m1                  e1 = g1 - m1
    2            g2 + e1                    m2                  e2 = g2 + e1 - m2
    3            g3 + e2                    m3                  e3 = g3 + e2 - m3
                                            m1 + m2 + m3  =  g1 + g2 + g3 - e3

What is kept stays bounded while the sums grow (Seide et al. 2014; Karimireddy et al. 2019, who prove that SGD then
converges as fast as without compression).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipemlp.config.errors import ModelFileError
from pipemlp.gradients.compression.codec import Codec


class Sender:
    """What a replica has to send of a vector that comes anew in every step; on the device of the values.

    Args:
        codec: makes the messages.
        num_values: of the vector.
        error_feedback: whether what a message leaves out is kept for the next one.
    """

    def __init__(self, codec: Codec, num_values: int, *, error_feedback: bool) -> None:
        self._codec, self._feedback = codec, error_feedback
        self._to_send = torch.zeros(num_values)

    def take(self, values: Sequence[Tensor]) -> None:
        """The values of a step: tensors of any shapes, one after the other in the vector."""
        if values and values[0].device != self._to_send.device:
            self._to_send = self._to_send.to(values[0].device)
        for tensor, place in zip(values, self._to_send.split([tensor.numel() for tensor in values]), strict=True):
            if self._feedback:
                place.view(tensor.shape).add_(tensor)
            else:
                place.view(tensor.shape).copy_(tensor)

    def encode(self) -> Tensor:
        """The message of the step."""
        message = self._codec.encode(self._to_send)
        if self._feedback:
            self._to_send.sub_(self._codec.decode(message, len(self._to_send)))
            forget_non_finite(self._to_send)
        return message

    def state(self) -> dict[str, Tensor]:
        """What was left out so far: the tensor itself, not a copy."""
        return {"residual": self._to_send} if self._feedback else {}


def forget_non_finite(kept: Tensor) -> None:
    """A value that is not finite is sent, once; kept, it would be in all messages to come."""
    if not kept.sum().isfinite():
        kept.nan_to_num_(0.0, 0.0, 0.0)


def load_tensors(own: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    """Copy a saved state into one's own tensors.

    Raises:
        ModelFileError: if names or shapes differ.
    """
    there, here = ({name: tuple(tensor.shape) for name, tensor in each.items()} for each in (state, own))
    if there != here:
        raise ModelFileError(f"the saved state of the compression has {there}, and this run needs {here}")
    for name, tensor in own.items():
        tensor.copy_(state[name])


def nested(parts: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """States of several things as one, each name after that of its owner."""
    return {f"{owner}.{name}": tensor for owner, state in parts.items() for name, tensor in state.items()}
