"""Eight bits per value: each block in steps of a 127th of its largest magnitude, rounded to nearest.

    message   scales, float32, one per block | values in steps of their scale, int8 | zeros up to a multiple of 4

As in block-wise quantisation (Dettmers et al. 2022), with even steps.
"""

import torch
from torch import Tensor

from pipemlp.gradients.compression.blocks import in_blocks, num_blocks
from pipemlp.gradients.compression.codec import AnyVector, in_words

LARGEST = 127
SMALLEST_SCALE = torch.finfo(torch.float32).tiny
"""A block whose scale would be smaller is zero: the steps would not be even any more."""


class Int8(AnyVector):
    """One byte per value, and a scale for each block."""

    def message_bytes(self, num_values: int) -> int:
        """See `Codec`."""
        return 4 * num_blocks(num_values) + in_words(num_values)

    def encode(self, values: Tensor) -> Tensor:
        """See `Codec`."""
        message = torch.empty(self.message_bytes(len(values)), dtype=torch.uint8, device=values.device)
        message[4 * num_blocks(len(values)) + len(values) :] = 0
        scales, steps = _places(message, len(values))
        for (blocks, rows), (_, row_steps) in zip(in_blocks(values), in_blocks(steps), strict=True):
            scale = rows.abs().amax(1).div_(LARGEST)
            scale[scale < SMALLEST_SCALE] = 0.0
            scales[blocks] = scale
            per_step = torch.where(scale > 0, scale.reciprocal(), 0.0)
            scaled = rows * per_step.unsqueeze(1)
            if not scale.isfinite().all():  # the scale says it, whatever the steps are
                scaled.nan_to_num_(0.0, 0.0, 0.0)
            row_steps.copy_(scaled.round_())
        return message

    def decode(self, message: Tensor, num_values: int) -> Tensor:
        """See `Codec`."""
        scales, steps = _places(message, num_values)
        values = torch.empty(num_values, device=message.device)
        for (blocks, rows), (_, row_steps) in zip(in_blocks(values), in_blocks(steps), strict=True):
            torch.mul(row_steps, scales[blocks].unsqueeze(1), out=rows)
        return values


def _places(message: Tensor, num_values: int) -> tuple[Tensor, Tensor]:
    end = 4 * num_blocks(num_values)
    return message[:end].view(torch.float32), message[end : end + num_values].view(torch.int8)
