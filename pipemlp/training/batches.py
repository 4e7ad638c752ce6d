"""Batches for one rank: its replica's share of each global batch, padded, weighted, loaded ahead of time."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from pipemlp.data import PreparedData
from pipemlp.data.sampler import batch_positions
from pipemlp.engine.pipeline import MicroBatch
from pipemlp.engine.place import Place
from pipemlp.planning.plan import Plan

Key = TypeVar("Key")


class BatchLoader:
    """Reads what this rank needs of each global batch: inputs for the first virtual stage, targets for the last.

    A global batch holds `num_rows` real rows, fewer than its size at the end of an epoch. It is filled up by
    repeating the last row with weight 0. Real rows weigh micro-batches x replicas / num_rows (times the
    sample's own weight), so that the mean over micro-batches and replicas, which the engine takes, is the
    sum over real rows divided by their number. An evaluation reads real rows only, each with its own weight.
    """

    def __init__(self, data: PreparedData, plan: Plan, place: Place, *, seed: int, device: torch.device) -> None:
        self._data = data
        self._plan = plan
        self._place = place
        self._seed = seed
        self._device = device
        self._share = plan.num_micro_batches * plan.micro_batch_rows
        self.batch_size = self._share * plan.num_replicas
        self._num_slices = plan.num_micro_batches * plan.num_replicas

    def training_batches(self, steps: Iterable[tuple[int, int]]) -> Iterator[Iterator[MicroBatch]]:
        """This replica's micro-batches for each (epoch, step in epoch), one batch read ahead."""
        num_rows = self._data.shape.num_rows[0]

        def load(step: tuple[int, int]) -> list[MicroBatch]:
            positions = batch_positions(num_rows, self._seed, *step, self.batch_size)
            return self._micro_batches("train", positions, self._num_slices / len(positions), self._place.replica)

        return self._ahead(load, steps)

    def slice_of_batch(self, epoch: int, step: int, index: int) -> list[MicroBatch]:
        """Any replica's micro-batches of a global batch: of slice `index`, for whoever takes it."""
        positions = batch_positions(self.num_rows("train"), self._seed, epoch, step, self.batch_size)
        return self._micro_batches("train", positions, self._num_slices / len(positions), index)

    def weight_of_slice(self, step: int, index: int) -> float:
        """Rows of a slice of a global batch, times the share of them in a whole slice; 1 unless the batch is ragged."""
        num_real = min(self.batch_size, self.num_rows("train") - step * self.batch_size)
        own = min(max(0, num_real - index * self._share), self._share)
        return own * self._plan.num_replicas / num_real

    def evaluation_batches(self, split: str) -> Iterator[tuple[list[MicroBatch], list[int]]]:
        """This replica's rows of a split in their order, one batch read ahead, and how many each micro-batch has.

        The last batch is partial: some micro-batches have fewer rows, some replicas have none.
        """

        def load(start: int) -> list[MicroBatch]:
            stop = min(start + self._share, num_rows)
            return self._slices(split, np.arange(start, max(start, stop)), np.ones(max(0, stop - start)))

        num_rows, own = self.num_rows(split), self._place.replica * self._share
        starts = range(own, own + num_rows, self.batch_size)
        for start, batch in zip(starts, self._ahead(load, starts), strict=True):
            size, rows = max(0, min(self._share, num_rows - start)), self._plan.micro_batch_rows
            yield list(batch), [min(rows, size - first) for first in range(0, size, rows)]

    def num_rows(self, split: str) -> int:
        """Rows of `train`, `validation` or `test`."""
        return self._data.shape.num_rows[("train", "validation", "test").index(split)]

    def _micro_batches(self, split: str, positions: np.ndarray, scale: float, index: int) -> list[MicroBatch]:
        num_real = len(positions)
        start = index * self._share
        slots = np.arange(start, start + self._share)
        return self._slices(split, positions[np.minimum(slots, num_real - 1)], scale * (slots < num_real))

    def _slices(self, split: str, positions: np.ndarray, scale: np.ndarray) -> list[MicroBatch]:
        """Rows at `positions`, whose weights are multiplied by `scale`, in slices; nothing where nothing is read."""
        if not (self._place.reads_inputs or self._place.computes_loss) or not len(positions):
            return []
        inputs = self._inputs(split, positions) if self._place.reads_inputs else None
        labels = self._labels(split, positions, scale) if self._place.computes_loss else None
        rows = self._plan.micro_batch_rows
        return [
            (
                None if inputs is None else tuple(t[i : i + rows] for t in inputs),
                None if labels is None else (labels[0][i : i + rows], labels[1][i : i + rows]),
            )
            for i in range(0, len(positions), rows)
        ]

    def _inputs(self, split: str, positions: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        numeric, categorical = self._data.inputs(split, positions)
        return self._tensor(numeric), self._tensor(categorical)

    def _labels(self, split: str, positions: np.ndarray, scale: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        target, weight = self._data.targets(split, positions)
        return self._tensor(target), self._tensor((weight * scale).astype(np.float32))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor if self._device.type == "cpu" else tensor.pin_memory().to(self._device, non_blocking=True)

    def _ahead(self, load: Callable[[Key], list[MicroBatch]], keys: Iterable[Key]) -> Iterator[Iterator[MicroBatch]]:
        """`load(key)` for each key, the next one running in a thread while the current one is used."""
        with ThreadPoolExecutor(1, thread_name_prefix="batches", initializer=self._use_device) as pool:
            upcoming = None
            for key in keys:
                current, upcoming = upcoming, pool.submit(load, key)
                if current is not None:
                    yield iter(current.result())
            if upcoming is not None:
                yield iter(upcoming.result())

    def _use_device(self) -> None:
        """A new thread would pin memory on the first GPU, whichever this rank has."""
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
