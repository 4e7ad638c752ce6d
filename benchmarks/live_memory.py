"""Live activation bytes, counted by storages, with one counter for all.

Every tensor that an operation makes is noted by its storage, weakly, so that it counts for as long as anybody holds
it: autograd's graph, a queue of weight gradients, a pipeline's buffers. Storages of parameters, their gradients and the
batch do not count. The sum is taken after every action of a step, and after every instruction of DeepSpeed's.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from alternation import alternate
from dense import Dense, dense_workload
from ours_schedules import Ours
from pipeline_rivals import DeepSpeed
from schedule_lines import Footprint, Measured
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary
from workload import Competitor, Workload

from pipemlp.planning.recompute import Recompute
from pipemlp.schedule.methods import make_schedule

LAYERS_PER_STAGE = 4
NUM_STEPS = 2
"""The first step makes the buffers that stay."""

OURS: tuple[Recompute, ...] = (0, "elementwise")
MODELS: Mapping[str, Dense] = {
    "relu": Dense(1024, 0, "plain", "relu"),
    "gelu": Dense(1024, 0, "plain", "gelu"),
    "gated": Dense(1024, 0, "gated", "silu", "layer"),
}
"""Their depths follow from the number of stages."""


class LiveBytes(TorchDispatchMode):
    """Counts the storages that are alive.

    Args:
        ignored: tensors that are no activations, asked for at every count.
    """

    def __init__(self, ignored: Callable[[], Any]) -> None:
        super().__init__()
        self._ignored = ignored
        self._storages: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._storages[leaf.untyped_storage()] = True
        return result

    def count(self) -> None:
        """After an action."""
        ignored = {tensor.untyped_storage()._cdata for tensor in self._ignored()}
        live = [storage for storage in list(self._storages) if storage._cdata not in ignored]
        self.peak = max(self.peak, sum(storage.nbytes() for storage in live))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._storages.clear()


def measure_memory(num_stages: int, num_micro_batches: int, rows: int, num_rounds: int) -> tuple[list[Footprint], Any]:
    """Run on every rank: footprints of 1F1B, and for each model the steps without and with recomputation."""
    footprints: list[Footprint] = []
    steps: dict[str, list[Measured]] = {}
    order = make_schedule("1f1b", num_stages, num_micro_batches)
    for name, dense in MODELS.items():
        deep = Dense(dense.width, num_stages * LAYERS_PER_STAGE, dense.block, dense.activation, dense.norm)
        workload = dense_workload(deep, num_stages, num_micro_batches, rows)
        steps[name] = alternate([Ours(workload, order, recompute) for recompute in OURS], num_rounds)
        footprints += [
            Footprint("deepspeed", name, 0, _everyone(_deepspeed_peak(workload))),
            *(
                Footprint("pipemlp", name, recompute, _everyone(_our_peak(workload, Ours(workload, order, recompute))))
                for recompute in OURS
            ),
        ]
    return footprints, steps


def _deepspeed_peak(workload: Workload) -> int:
    stock = DeepSpeed(workload)

    def watch(counter: LiveBytes) -> None:
        counted = {
            instruction: _counted(method, counter.count)
            for instruction, method in stock.engine._INSTRUCTION_MAP.items()
        }
        stock.engine._INSTRUCTION_MAP = counted

    return _peak(workload, stock, watch)


def _our_peak(workload: Workload, ours: Ours) -> int:
    def watch(counter: LiveBytes) -> None:
        clock = ours.pipeline.clock
        clock.listen()  # else nobody tells it
        clock.end = _counted(clock.end, counter.count)  # type: ignore[method-assign]

    return _peak(workload, ours, watch)


def _counted(method: Callable[..., None], count: Callable[[], None]) -> Callable[..., None]:
    def then_count(*args: Any, **kwargs: Any) -> None:
        method(*args, **kwargs)
        count()

    return then_count


def _peak(workload: Workload, competitor: Competitor, watch: Callable[[LiveBytes], None]) -> int:
    with LiveBytes(lambda: [*competitor.kept_between_steps(), workload.inputs, workload.target]) as counter:
        watch(counter)
        for _ in range(NUM_STEPS):
            counter.peak = 0
            competitor.step()
    if not counter.peak:
        raise RuntimeError(f"{competitor.system}: nothing was counted")
    return counter.peak


def _everyone(peak: int) -> tuple[int, ...]:
    peaks = torch.zeros(dist.get_world_size(), dtype=torch.int64)
    peaks[dist.get_rank()] = peak
    dist.all_reduce(peaks)
    return tuple(int(value) for value in peaks)
