"""The files of layers in a checkpoint: stretches of parameters, with what the optimizer knows about them.

    layer-00003.replica-0.safetensors      weight/value@0  weight/exp_avg@0  weight/step@0  bias/value@0 ...
    layer-00003.replica-1.safetensors      weight/value@8192 ...        (ZeRO 1 and servers: the rest of the layer)

A key says which parameter, what of it, and where the stretch begins in the flattened parameter.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipemlp.config.errors import ModelFileError
from pipemlp.engine.share import VALUE, Piece

_FILE = re.compile(r"layer-(\d{5,9})\.replica-(\d+)\.safetensors")
_KEY = re.compile(r"([^/@]+)/([^/@]+)@(\d{1,18})")


def layer_state_file(layer: int, replica: int) -> str:
    """What a replica writes of a layer."""
    return f"layer-{layer:05d}.replica-{replica}.safetensors"


def replica_of_file(name: str) -> int | None:
    """Which replica wrote a file of a layer; None for other files."""
    found = _FILE.fullmatch(name)
    return int(found[2]) if found else None


def keyed(pieces: Iterable[Piece]) -> dict[int, dict[str, Tensor]]:
    """Live tensors by layer and key."""
    layers: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for piece in pieces:
        for kind, tensor in piece.tensors.items():
            layers[piece.layer][f"{piece.name}/{kind}@{piece.start}"] = tensor
    return dict(layers)


class StateFiles:
    """A checkpoint's layers as a source of values: of one copy, which one or more replicas wrote together.

    Args:
        directory: of the checkpoint.
        names: of its files of layers, those of one copy.
    """

    def __init__(self, directory: Path, names: Iterable[str]) -> None:
        self._directory = directory
        self._files: dict[int, list[str]] = defaultdict(list)
        for name in sorted(names):
            found = _FILE.fullmatch(name)
            if found:
                self._files[int(found[1])].append(name)
        self._stretches: dict[int, dict[tuple[str, str], list[_Stretch]]] = {}

    @property
    def layers(self) -> Sequence[int]:
        """That have parameters, rising."""
        return sorted(self._files)

    def names(self, layer: int) -> tuple[str, ...]:
        """Of the parameters of a layer."""
        return tuple(dict.fromkeys(name for name, _ in self._of(layer)))

    def kinds(self, layer: int, name: str) -> tuple[str, ...]:
        """See `Source`."""
        return tuple(kind for own, kind in self._of(layer) if own == name)

    def length(self, layer: int, name: str) -> int:
        """Values of a parameter."""
        return sum(each.length for each in self._of(layer).get((name, VALUE), ()))

    def read(self, layer: int, name: str, kind: str, start: int, length: int) -> Tensor:
        """See `Source`; stretches of different files are put together."""
        parts, at = [], start
        for each in self._of(layer).get((name, kind), ()):
            if each.is_number and each.start <= start:
                parts = [each.tensor()]
            elif not each.is_number and each.start <= at < each.start + each.length and at < start + length:
                upto = min(each.start + each.length, start + length)
                parts.append(each.tensor(at - each.start, upto - each.start))
                at = upto
        if not parts or (parts[0].dim() and at != start + length):
            raise ModelFileError(
                f"{self._directory}: layer {layer}: {name}: {kind} is there up to {at} of {start + length} values only"
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _of(self, layer: int) -> "dict[tuple[str, str], list[_Stretch]]":
        if layer not in self._stretches:
            found: dict[tuple[str, str], list[_Stretch]] = defaultdict(list)
            for name in self._files.get(layer, ()):
                for own, kind, stretch in _stretches(self._directory / name):
                    found[own, kind].append(stretch)
            for each in found.values():
                each.sort(key=lambda stretch: stretch.start)
            self._stretches[layer] = dict(found)
        return self._stretches[layer]


class _Stretch:
    """A tensor in a file, read when it is asked for."""

    def __init__(self, path: Path, key: str, start: int, shape: Sequence[int]) -> None:
        self._path, self._key, self.start = path, key, start
        self.is_number = not shape
        self.length = shape[0] if shape else 1

    def tensor(self, first: int = 0, last: int | None = None) -> Tensor:
        with safe_open(self._path, "pt") as file:
            if self.is_number or (first == 0 and last in (None, self.length)):
                return file.get_tensor(self._key)
            return file.get_slice(self._key)[first:last]


def _stretches(path: Path) -> Iterator[tuple[str, str, _Stretch]]:
    try:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118 - no dictionary
                found, shape = _KEY.fullmatch(key), file.get_slice(key).get_shape()
                if not found or len(shape) > 1:
                    raise ModelFileError(f"{path}: damaged: {key} {shape} is nothing that a checkpoint holds")
                yield found[1], found[2], _Stretch(path, key, int(found[3]), shape)
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{path}: damaged: {error}") from error
