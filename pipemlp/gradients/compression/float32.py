"""Values as they are, for whoever sends messages without a compression."""

from __future__ import annotations

import torch
from torch import Tensor


class Float32:
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

    def for_sums(self, num_replicas: int) -> Float32:
        """See `Codec`."""
        return self
