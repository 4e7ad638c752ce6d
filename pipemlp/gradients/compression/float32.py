"""Values as they are, for whoever sends messages without a compression."""

import torch
from torch import Tensor

from pipemlp.gradients.compression.codec import AnyVector


class Float32(AnyVector):
    """Four bytes per value, nothing lost."""

    def message_bytes(self, num_values: int) -> int:
        """See `Codec`."""
        return 4 * num_values

    def encode(self, values: Tensor) -> Tensor:
        """See `Codec`."""
        return values.clone().view(torch.uint8)

    def decode(self, message: Tensor, num_values: int) -> Tensor:
        """See `Codec`."""
        return message.view(torch.float32)[:num_values].clone()
