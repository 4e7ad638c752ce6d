"""The layers of one stage as DeepSpeed's PipelineModule, cut where the plan says."""

from collections.abc import Callable, Iterator, Sequence

import torch
from deepspeed.pipe import PipelineModule
from deepspeed.runtime.pipe.topology import PipeDataParallelTopology
from torch.utils.checkpoint import checkpoint

from pipemlp.model.build import build_layer
from pipemlp.model.dropout import DropoutKey
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.plan import Plan

LossFunction = Callable[[torch.Tensor, tuple[torch.Tensor, torch.Tensor]], torch.Tensor]


class StageModule(PipelineModule):
    """A PipelineModule that builds its own layers only, between explicit boundaries.

    DeepSpeed knows no explicit cut, and builds every layer on every rank to count parameters; both are
    replaced here (`_partition_layers`, `_build`). Forwards of one batch come in the order of the
    micro-batches, which is how each finds its rows in the global batch, and so its dropout masks.
    """

    def __init__(
        self, layers: Sequence[LayerDescription], plan: Plan, *, seed: int, dtype: torch.dtype, loss: LossFunction
    ) -> None:
        self._plan = plan
        self._seed = seed
        self._dtype = dtype
        self._step = 0
        self._next_micro_batch = 0
        self._named_parameters: tuple[tuple[str, torch.nn.Parameter], ...] = ()
        topology = PipeDataParallelTopology(num_pp=plan.num_stages, num_dp=plan.num_replicas)
        super().__init__(layers=layers, topology=topology, loss_fn=loss)
        self._first_row = self._grid.get_data_parallel_rank() * plan.num_micro_batches * plan.micro_batch_rows

    def _partition_layers(self, method: str = "") -> None:
        self.parts = list(self._plan.boundaries)
        self._set_bounds(start=self.parts[self.stage_id], stop=self.parts[self.stage_id + 1])

    def _build(self) -> None:
        for layer in self._layer_specs[self._local_start : self._local_stop]:
            module = build_layer(layer, seed=self._seed, device=torch.device("cpu"), dtype=self._dtype)
            self.fwd_map[str(layer.index)] = len(self.forward_funcs)
            self.forward_funcs.append(module)
            self.add_module(str(layer.index), module)
        for parameter in self.parameters():
            parameter.ds_pipe_replicated = False
            # fp32 with ZeRO 0 clips by the first stage's norm only, unless every parameter says this
            parameter.model_parallel = True

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """As ever, but walked once: DeepSpeed asks several times per step, and they stay the same objects."""
        if prefix or not recurse or not remove_duplicate:
            return super().named_parameters(prefix, recurse, remove_duplicate)
        if not self._named_parameters:
            self._named_parameters = tuple(super().named_parameters())
        return iter(self._named_parameters)

    def train(self, mode: bool = True) -> "StageModule":
        """As ever, but only where it changes something: DeepSpeed calls it at every step."""
        return self if self.training == mode else super().train(mode)

    def begin_batch(self, step: int) -> None:
        """Note the step whose micro-batches are about to come."""
        self._step = step
        self._next_micro_batch = 0

    def forward(self, x: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Run one micro-batch through this stage's layers."""
        key = None
        if self.training:
            key = DropoutKey(
                seed=self._seed,
                step=self._step,
                first_row=self._first_row + self._next_micro_batch * self._plan.micro_batch_rows,
            )
            self._next_micro_batch += 1
        group = self._plan.recompute_layers
        if group == 0 or not torch.is_grad_enabled():
            return self._run(0, len(self.forward_funcs), x, key)
        for start in range(0, len(self.forward_funcs), group):
            stop = min(start + group, len(self.forward_funcs))
            # the key travels as an argument, so that the second run draws the same masks
            x = checkpoint(self._run, start, stop, x, key, use_reentrant=False, preserve_rng_state=False)
        return x  # type: ignore[return-value]

    def _run(self, start: int, stop: int, x: object, key: DropoutKey | None) -> torch.Tensor:
        for layer in self.forward_funcs[start:stop]:
            x = layer(x, key)
        return x  # type: ignore[return-value]
