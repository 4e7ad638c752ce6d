"""The largest values only, with their places (Aji and Heafield 2017; Lin et al. 2018).

    message   places, int32, rising | values, float32

Of equal magnitudes the first in the vector count as larger. Bits of a magnitude, read as an integer, are in the order
of the magnitudes, with infinity above all numbers and NaN above infinity: what is not finite is sent first.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipemlp.gradients.compression.codec import AnyVector
from pipemlp.gradients.compression.float32 import Float32

MAGNITUDE_BITS = 0x7FFFFFFF
SAMPLE_STEP = 61
"""One in so many values is looked at to guess where the largest begin; prime, as rows of a weight are not so long."""
SMALLEST_GUESSED = 2**16


class TopK(AnyVector):
    """A share of the values, each with its place.

    Args:
        ratio: the share, in (0, 1]; of few values one at least.
        num_messages: whose sum is sent; so many times as many values, thus all that can differ from zero.
    """

    def __init__(self, ratio: float, num_messages: int = 1) -> None:
        self._ratio = ratio
        self._num_messages = num_messages

    def message_bytes(self, num_values: int) -> int:
        """See `Codec`."""
        return min(8 * self.num_sent(num_values), 4 * num_values)

    def num_sent(self, num_values: int) -> int:
        """How many of the values are sent; from half of them on, all."""
        share = max(1, math.ceil(round(self._ratio * num_values, 6)))
        return self._num_messages * share if 2 * self._num_messages * share < num_values else num_values

    def encode(self, values: Tensor) -> Tensor:
        """See `Codec`."""
        num_sent = self.num_sent(len(values))
        if num_sent == len(values):
            return Float32().encode(values)
        message = torch.empty(8 * num_sent, dtype=torch.uint8, device=values.device)
        places, sent = _places(message)
        largest = _largest(values.view(torch.int32) & MAGNITUDE_BITS, num_sent)
        places[: len(largest)] = largest
        places[len(largest) :] = places[0] if len(largest) else 0  # said again, as all others are zero
        torch.index_select(values, 0, places, out=sent)
        return message

    def decode(self, message: Tensor, num_values: int) -> Tensor:
        """See `Codec`."""
        if self.num_sent(num_values) == num_values:
            return Float32().decode(message, num_values)
        places, sent = _places(message)
        return torch.zeros(num_values, device=message.device).index_copy_(0, places.long(), sent)

    def for_sums(self, num_replicas: int) -> TopK:
        """See `Codec`; exact, as no more values than the messages had can differ from zero."""
        return TopK(self._ratio, self._num_messages * num_replicas)


def _places(message: Tensor) -> tuple[Tensor, Tensor]:
    half = len(message) // 2
    return message[:half].view(torch.int32), message[half:].view(torch.float32)


def _largest(sizes: Tensor, num_wanted: int) -> Tensor:
    """The rising places of the largest sizes, int32, leaving out zeros; of equal ones the first."""
    candidates = (sizes >= _guess(sizes, num_wanted)).nonzero().flatten()
    if len(candidates) < num_wanted:
        candidates = sizes.nonzero().flatten()
    if len(candidates) <= num_wanted:
        return candidates
    candidate_sizes = sizes[candidates]
    least = candidate_sizes.kthvalue(len(candidates) - num_wanted + 1).values
    larger, equal = candidate_sizes > least, candidate_sizes == least
    first_equal = equal & (equal.cumsum(0) <= num_wanted - larger.sum())
    return candidates[larger | first_equal]


def _guess(sizes: Tensor, num_wanted: int) -> int:
    """A size that, judged by a sample, a few more values than wanted reach; never zero."""
    if len(sizes) < SMALLEST_GUESSED:
        return 1
    sample = sizes[::SAMPLE_STEP]
    expected = num_wanted / SAMPLE_STEP
    rank = math.ceil(expected + 4 * math.sqrt(expected)) + 1
    return max(1, int(sample.kthvalue(max(1, len(sample) - rank + 1)).values))
