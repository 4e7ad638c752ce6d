"""Follows the storages that operations make until nobody holds them any more, and sums up their sizes."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class StorageCount(TorchDispatchMode):
    """Follows every storage that operations make while it is entered, with no hold on it.

    Attributes:
        num_bytes: of those that still exist.
        num_peak_bytes: the most that existed at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = 0
        self.num_peak_bytes = 0
        self._watches: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._num_made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation; storages of its results that are not its arguments' are new."""
        result = func(*args, **(kwargs or {}))
        given: set[int] | None = None
        for tensor in tensors_in(result):
            if given is None:
                given = {own.untyped_storage().data_ptr() for own in tensors_in((args, kwargs))}
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in given:
                given.add(storage.data_ptr())
                self._follow(storage)
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = self._num_made, storage.nbytes()
        self._num_made += 1

        def gone(_: object) -> None:
            self.num_bytes -= size
            del self._watches[key]

        self._watches[key] = weakref.ref(storage, gone)
        self.num_bytes += size
        self.num_peak_bytes = max(self.num_peak_bytes, self.num_bytes)


def tensors_in(tree: object) -> list[Tensor]:
    """The tensors of an operation's arguments or results that hold memory."""
    return [value for value in tree_iter(tree) if isinstance(value, Tensor) and has_storage(value)]


def has_storage(tensor: Tensor) -> bool:
    """Whether the tensor holds memory of its own kind."""
    return tensor.layout == torch.strided and tensor.device.type != "meta"
