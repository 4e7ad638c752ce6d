"""Counts what is alive by storages, which misses nothing: graphs, queues of weight gradients, buffers, messages."""

from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from pipemlp.profiling.storage_count import tensors_in
from pipemlp.training.memory_watch import size_of

__all__ = ["LiveStorages", "size_of", "tensors_in"]


class LiveStorages(TorchDispatchMode):
    """Follows every storage made inside; `num_bytes` sums those that still exist."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        before = {tensor.untyped_storage().data_ptr() for tensor in tensors_in((args, kwargs))}
        for tensor in tensors_in(result):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in before:
                self._known[storage.data_ptr()] = (StorageWeakRef(storage), storage.nbytes())
        return result

    @property
    def num_bytes(self) -> int:
        self._known = {key: known for key, known in self._known.items() if not known[0].expired()}
        return sum(size for _, size in self._known.values())
