"""A copy of tensors in host memory, made while the training waits, so that they are written while it goes on."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Snapshot:
    """Memory for one copy, used again for every checkpoint."""

    def __init__(self) -> None:
        self._copies: dict[tuple[str, str], Tensor] = {}

    @torch.no_grad()
    def take(self, files: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """Copies of tensors by file and name; they are overwritten by the next call."""
        return {
            file: {name: self._copy((file, name), tensor) for name, tensor in tensors.items()}
            for file, tensors in files.items()
        }

    def _copy(self, key: tuple[str, str], tensor: Tensor) -> Tensor:
        known = self._copies.get(key)
        if known is None or known.shape != tensor.shape or known.dtype != tensor.dtype:
            known = self._copies[key] = torch.empty(tensor.shape, dtype=tensor.dtype)
        return known.copy_(tensor)
