"""One bit per value: its sign; all values of a block are taken to be as large as their average magnitude.

    message   magnitudes, float32, one per block | signs, eight to a byte, the first value in the lowest bit |
              zeros up to a multiple of 4

Of all vectors of these signs and one magnitude per block, it is the nearest to the values, which makes it lose a fixed
share at most: what error feedback needs (Karimireddy et al. 2019). Bits of values go back to Seide et al. (2014).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from pipemlp.gradients.compression.blocks import in_blocks, num_blocks
from pipemlp.gradients.compression.codec import in_words

GATHER = 0x0102040810204080
"""Eight bytes of 0 or 1, times this: the highest byte has the n-th of them as its n-th bit."""


class OneBit:
    """The signs, and an average magnitude for each block."""

    def message_bytes(self, num_values: int) -> int:
        """See `Codec`."""
        return 4 * num_blocks(num_values) + in_words(-(-num_values // 8))

    def encode(self, values: Tensor) -> Tensor:
        """See `Codec`."""
        message = torch.zeros(self.message_bytes(len(values)), dtype=torch.uint8, device=values.device)
        magnitudes, packed = _places(message, len(values))
        for blocks, rows in in_blocks(values):
            magnitudes[blocks] = rows.abs().mean(1)
        signs = torch.zeros(8 * len(packed), dtype=torch.bool, device=values.device)
        torch.ge(values, 0, out=signs[: len(values)])
        packed.copy_(signs.view(torch.int64).mul(GATHER).bitwise_right_shift_(56).bitwise_and_(255))
        return message

    def decode(self, message: Tensor, num_values: int) -> Tensor:
        """See `Codec`."""
        magnitudes, packed = _places(message, num_values)
        values = _eight_signs(message.device).index_select(0, packed.int()).flatten()[:num_values]
        for blocks, rows in in_blocks(values):
            rows.mul_(magnitudes[blocks].unsqueeze(1))
        return values

    def for_sums(self, num_replicas: int) -> OneBit:
        """See `Codec`."""
        return self


def _places(message: Tensor, num_values: int) -> tuple[Tensor, Tensor]:
    end = 4 * num_blocks(num_values)
    return message[:end].view(torch.float32), message[end : end + -(-num_values // 8)]


@cache
def _eight_signs(device: torch.device) -> Tensor:
    """What each byte stands for: [256, 8] of 1 and -1."""
    bits = torch.arange(256).unsqueeze(1) >> torch.arange(8) & 1
    return (2 * bits - 1).float().to(device)
