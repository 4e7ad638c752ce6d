"""Tensors of a bucket as one vector, and back."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


def take_apart(vector: Tensor, views: Sequence[Tensor]) -> None:
    """Copy the values of a vector to tensors, one after the other."""
    for view, values in zip(views, vector.split([view.numel() for view in views]), strict=True):
        view.copy_(values.view(view.shape))


@contextmanager
def as_one_vector(views: Sequence[Tensor]) -> Iterator[Tensor]:
    """All values one after the other; what is done to them is done to the tensors.

    Neighbours in memory are not copied.
    """
    if not views:
        yield torch.empty(0)
        return
    if _are_neighbours(views):
        first = views[0]
        yield first.as_strided((sum(view.numel() for view in views),), (1,), first.storage_offset())
        return
    vector = torch.cat([view.flatten() for view in views])
    yield vector
    take_apart(vector, views)


def _are_neighbours(views: Sequence[Tensor]) -> bool:
    end = views[0].data_ptr()
    storage = views[0].untyped_storage().data_ptr()
    for view in views:
        in_line = view.is_contiguous() and view.data_ptr() == end and view.dtype == views[0].dtype
        if not in_line or view.untyped_storage().data_ptr() != storage:
            return False
        end += view.nbytes
    return True
