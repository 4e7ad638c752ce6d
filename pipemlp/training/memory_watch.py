"""The most bytes that this rank holds during a training step: by the allocator on a GPU, by counting tensors on a CPU.

    begin()   a step starts: from here on every storage that an operation makes is followed until it is let go
    end()     what tensors hold now, without what is left of those, and the most that those ever held together

What a step finds and lets go of at once, such as the batch before, does not count. In the other steps nothing is done.
"""

import gc
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pipemlp.profiling.storage_count import StorageCount, has_storage


class MemoryWatch:
    """Measures one training step at a time; the numbers it computes stay the same.

    A step on a CPU takes longer while it is watched, as Python is asked at every operation. Not seen there is what is
    not a tensor: scratch space inside an operation, gloo's copies, arrays that the reader of batches works with.

    Args:
        device: of this rank's tensors.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._following: StorageCount | None = None

    def begin(self) -> None:
        """A training step is about to run in this thread."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._following = StorageCount()
            self._following.__enter__()

    def end(self) -> int:
        """It has run: the peak in bytes of all that was held, parameters and optimizer included."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return torch.cuda.max_memory_allocated(self._device)
        following, self._following = self._following, None
        assert following is not None, "begin() comes first"
        following.__exit__(None, None, None)
        return resting_bytes() - following.num_bytes + following.num_peak_bytes


def resting_bytes() -> int:
    """What all tensors of this process that Python knows hold now, and the gradients that hang on them."""
    # by type(), not isinstance: some modules warn when they are asked for their class
    known: Iterator[Tensor] = (thing for thing in gc.get_objects() if issubclass(type(thing), Tensor))
    return size_of(own for tensor in known for own in (tensor, tensor.grad if tensor.is_leaf else None))


def size_of(tensors: Iterable[Tensor | None]) -> int:
    """Bytes of the distinct storages."""
    present = (tensor for tensor in tensors if tensor is not None and has_storage(tensor))
    storages = (tensor.untyped_storage() for tensor in present)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
