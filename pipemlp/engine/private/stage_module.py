"""The layers of one rank as DeepSpeed's PipelineModule, cut where the plan says."""

from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from deepspeed.pipe import PipelineModule
from deepspeed.runtime.pipe.topology import PipeDataParallelTopology
from torch import nn

from pipemlp.model.build import build_layer
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.plan import Plan


class StageModule(PipelineModule):
    """A PipelineModule that builds its own layers only: those of all virtual stages of its rank.

    DeepSpeed knows no explicit cut and one run of layers per rank, and builds every layer on every rank to count
    parameters; all of this is replaced here (`_partition_layers`, `_build`). Its `forward` is never called.
    """

    def __init__(
        self,
        layers: Sequence[LayerDescription],
        plan: Plan,
        *,
        seed: int,
        dtype: torch.dtype,
        replicas_apart: bool = False,
    ) -> None:
        self._plan = plan
        self._seed = seed
        self._dtype = dtype
        self._named_parameters: tuple[tuple[str, nn.Parameter], ...] = ()
        topology = PipeDataParallelTopology(num_pp=plan.num_stages, num_dp=plan.num_replicas)
        super().__init__(layers=layers, topology=topology)
        self.data_group: dist.ProcessGroup = self._grid.get_data_parallel_group()
        if replicas_apart:  # the engine is to reduce and average nothing over the replicas
            self._grid.data_parallel_size = 1
            self._grid.dp_proc_group, _ = dist.new_subgroups(group_size=1)
            self._grid.dp_group = [dist.get_rank()]

    def _partition_layers(self, method: str = "") -> None:
        # what DeepSpeed would make of several virtual stages is its checkpoints, which we never write
        self.parts = list(range(self._plan.num_stages + 1))
        self._set_bounds(start=self.stage_id, stop=self.stage_id + 1)

    def _build(self) -> None:
        for virtual_stage in self._plan.schedule.virtual_stages_of(self.stage_id):
            for layer in self._plan.layers_of(virtual_stage, self._layer_specs):
                module = build_layer(layer, seed=self._seed, device=torch.device("cpu"), dtype=self._dtype)
                self.add_module(str(layer.index), module)
        for parameter in self.parameters():
            parameter.ds_pipe_replicated = False
            # fp32 with ZeRO 0 clips by the first stage's norm only, unless every parameter says this
            parameter.model_parallel = True

    def virtual_stages(self) -> dict[int, list[nn.Module]]:
        """The layers of each virtual stage of this rank, by its global index, in rising order."""
        return {
            virtual_stage: [
                self.get_submodule(str(layer.index)) for layer in self._plan.layers_of(virtual_stage, self._layer_specs)
            ]
            for virtual_stage in self._plan.schedule.virtual_stages_of(self.stage_id)
        }

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """As ever, but walked once: DeepSpeed asks several times per step, and they stay the same objects."""
        if prefix or not recurse or not remove_duplicate:
            return super().named_parameters(prefix, recurse, remove_duplicate)
        if not self._named_parameters:
            self._named_parameters = tuple(super().named_parameters())
        return iter(self._named_parameters)

    def train(self, mode: bool = True) -> "StageModule":
        """As ever, but only where it changes something: it is called at every step."""
        return self if self.training == mode else super().train(mode)
