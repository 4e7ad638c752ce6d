"""One rank of the pipeline: train a batch, predict a batch, read and write the layers it holds."""

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist

from pipemlp.config.gradients import GradientsConfig
from pipemlp.config.training import OptimizerConfig
from pipemlp.engine.clock import Clock
from pipemlp.engine.deepspeed_config import deepspeed_config
from pipemlp.engine.executor import Batch, Executor, Wiring
from pipemlp.engine.gradient_sums import GradientSums
from pipemlp.engine.optimizer import build_optimizer
from pipemlp.engine.place import place_of
from pipemlp.engine.private.build_engine import build_engine
from pipemlp.engine.private.gradient_home import flat_buffer
from pipemlp.engine.private.optimizer_shares import optimizer_shares
from pipemlp.engine.private.stage_module import StageModule
from pipemlp.engine.private.timeouts import set_all_timeouts
from pipemlp.engine.share import VALUE, Named, Share, Source
from pipemlp.engine.tracing import Finding, Tracing
from pipemlp.engine.transport import Transport
from pipemlp.engine.updates.making import make_update, steps_apart
from pipemlp.engine.virtual_stage import LossFunction, VirtualStage
from pipemlp.model.dropout import DropoutKey
from pipemlp.model.weight_gradients import split_parameters
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.plan import Plan
from pipemlp.schedule.action import Action
from pipemlp.schedule.costs import Costs, uniform_costs
from pipemlp.schedule.forward_only import forward_only
from pipemlp.schedule.lower import Program
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import programs

MicroBatch = tuple[object, tuple[torch.Tensor, torch.Tensor] | None]
"""Inputs (numeric, categorical) for the first virtual stage, and (target, weight) for the last."""


DEFAULT_GRADIENTS = GradientsConfig()


class Pipeline:
    """This rank's virtual stages, run by our executor, with DeepSpeed's engine for the optimizer.

    Args:
        layers: descriptions of the whole model; only this rank's layers are built.
        plan: boundaries, schedule, grid and micro-batches.
        optimizer: its configuration.
        loss: `loss(outputs, (target, weight))`, a scalar; the weights carry the divisor.
        clip_norm: largest norm of the whole model's gradient.
        precision: `fp32` or `bf16`.
        seed: of initialisation and dropout.
        timeout_seconds: how long a rank waits for another.
        gradients: how replicas exchange what they have learnt.
        skips: whether a step whose gradient is not finite is left out by all ranks together, and not the last one.
        dtype: of the parameters as built; tests use float64.
        strict_links: promise no more than the weakest link does (see engine/transport.py); for tests.
    """

    def __init__(
        self,
        layers: Sequence[LayerDescription],
        plan: Plan,
        *,
        optimizer: OptimizerConfig,
        loss: LossFunction,
        clip_norm: float | None,
        precision: str,
        seed: int,
        timeout_seconds: float,
        gradients: GradientsConfig = DEFAULT_GRADIENTS,
        skips: bool = False,
        dtype: torch.dtype = torch.float32,
        strict_links: bool = False,
    ) -> None:
        self.plan = plan
        self.loss = loss
        self.place = place_of(plan, dist.get_rank())
        self.gradients = gradients
        self.replicas_apart = steps_apart(gradients, plan)
        self.is_asynchronous = self.replicas_apart and gradients.is_asynchronous
        self.module = StageModule(layers, plan, seed=seed, dtype=dtype, replicas_apart=self.replicas_apart)
        self.engine = build_engine(
            self.module,
            build_optimizer(optimizer, self.module.parameters()),
            deepspeed_config(plan, clip_norm=clip_norm, precision=precision, replicas_apart=self.replicas_apart),
        )
        self.clock = Clock(self.engine.device)
        self._seed = seed
        self._programs: dict[int, Program] = {}
        self._training_program = self._program_of(plan.schedule, plan.costs)
        set_all_timeouts(timeout_seconds)
        parameters = [p for run in self._own_parameters() for p in run]
        flat = flat_buffer(self.engine, parameters)
        self.update = make_update(
            gradients, plan, self.engine, parameters, flat, optimizer, clip_norm, timeout_seconds, skips=skips
        )
        self._sums = GradientSums(
            flat,
            self._own_parameters(),
            split_parameters(self.module),
            self.update.exchange_of,
            self.update.bucket_bytes,
        )
        self._executor = self._build_executor(layers, torch.bfloat16 if precision == "bf16" else dtype, strict_links)

    def _own_parameters(self) -> list[list[torch.nn.Parameter]]:
        """Of each of its virtual stages, in rising order."""
        runs = self.module.virtual_stages().values()
        return [[parameter for layer in run for parameter in layer.parameters()] for run in runs]

    def _build_executor(self, layers: Sequence[LayerDescription], dtype: torch.dtype, strict_links: bool) -> Executor:
        plan, schedule, own = self.plan, self.plan.schedule, self.module.virtual_stages()
        last = schedule.depth - 1
        return Executor(
            stages={
                stage: VirtualStage(run, plan.recompute, self.loss if stage == last else None)
                for stage, run in own.items()
            },
            wiring=Wiring(
                ranks=tuple(self._rank_of(s, self.place.replica) for s in range(schedule.depth)),
                widths=tuple(layers[start].input_width for start in plan.boundaries[:-1]),
                dtype=dtype,
                whole=frozenset((v, m) for row in schedule.actions for v, kind, m in row if kind == "B"),
            ),
            transport=Transport(self._links(), self.engine.device, strict=strict_links),
            sums=self._sums,
            device=self.engine.device,
            clock=self.clock,
        )

    def _rank_of(self, virtual_stage: int, replica: int) -> int:
        return self.plan.schedule.stage_of(virtual_stage) * self.plan.num_replicas + replica

    def _links(self) -> list[tuple[int, int]]:
        """Every directed link between neighbouring virtual stages, of all replicas, each once."""
        links: dict[tuple[int, int], None] = {}
        for replica in range(self.plan.num_replicas):
            ranks = [self._rank_of(s, replica) for s in range(self.plan.schedule.depth)]
            for one, other in zip(ranks, ranks[1:], strict=False):
                if one != other:
                    links |= {(one, other): None, (other, one): None}
        return list(links)

    def _program_of(self, schedule: Schedule, costs: Costs | None = None) -> Program:
        costs = costs or uniform_costs(schedule.num_stages, schedule.num_virtual_stages)
        return programs(schedule, costs)[self.place.stage]

    @property
    def at(self) -> Action | None:
        """The action that it runs, or ran last; any thread may ask."""
        return self._executor.at

    def _current_micro_batch(self) -> int:
        assert self.at is not None
        return self.at.micro_batch

    @property
    def data_group(self) -> dist.ProcessGroup:
        """The replicas of this rank's stage."""
        return self.module.data_group

    @property
    def loss_rank(self) -> int:
        """Global rank of the last virtual stage of replica 0, which knows the metrics."""
        return self._rank_of(self.plan.schedule.depth - 1, 0)

    @torch.enable_grad()
    def train_batch(
        self, micro_batches: Iterable[MicroBatch], *, step: int, learning_rate: float, slice_index: int | None = None
    ) -> None:
        """One optimizer step over a global batch; `batch_loss` then tells its loss.

        Args:
            micro_batches: this replica's `num_micro_batches` slices, in order; none where the rank reads nothing.
            step: optimizer steps done so far; dropout depends on it.
            learning_rate: for this step.
            slice_index: which replica's slice of the global batch it is; its own unless it says otherwise.
        """
        batch = self._training_batch(micro_batches, step, slice_index)
        self._sums.begin()
        losses = self._executor.run(self._training_program, batch)
        self._own_loss = torch.zeros((), device=self.engine.device, dtype=self._loss_dtype)
        for index in sorted(losses):  # in the order of the micro-batches, whatever the schedule
            self._own_loss += losses[index] * self._share
        self.update.votes.begin(step, self._own_loss)
        self.update.step(self._sums, learning_rate)

    def _training_batch(self, micro_batches: Iterable[MicroBatch], step: int, slice_index: int | None) -> Batch:
        plan, slice_index = self.plan, self.place.replica if slice_index is None else slice_index
        self.module.train()
        first_row = slice_index * plan.num_micro_batches * plan.micro_batch_rows
        batch = self._batch(micro_batches, [plan.micro_batch_rows] * plan.num_micro_batches)
        batch.keys = [
            DropoutKey(self._seed, step, first_row + index * plan.micro_batch_rows)
            for index in range(plan.num_micro_batches)
        ]
        whole = plan.num_replicas if self.replicas_apart else 1  # alone, a replica takes the mean of its own rows
        batch.seed_gradient = torch.tensor(whole * self._share, device=self.engine.device, dtype=self._loss_dtype)
        return batch

    @property
    def _share(self) -> float:
        """Of one micro-batch in the loss of a batch."""
        return 1.0 / (self.plan.num_micro_batches * self.plan.num_replicas)

    def refused_step(self, *, settle: bool) -> int | None:
        """The last step or the one before, by its index, if it was left out for a gradient that is not finite.

        Args:
            settle: learn of the last one too; all ranks that step together must ask, and say the same.
        """
        if settle:
            self.update.votes.settle()
        return self.update.votes.refused

    @torch.enable_grad()
    def trace_batch(
        self, micro_batches: Iterable[MicroBatch], *, step: int, slice_index: int | None = None
    ) -> Finding | None:
        """Do a refused step again, changing nothing, and find where it first was not finite.

        Args:
            micro_batches, step, slice_index: as they were given to `train_batch`.

        Returns:
            The same on all ranks that step together; None if all is finite this time.
        """
        layers = {int(name): module for name, module in self.module.named_children() if name.isdigit()}
        tracing = Tracing(layers, self._current_micro_batch, self.place.replica, self.place.stage)
        batch = self._training_batch(micro_batches, step, slice_index)
        with tracing.watching(), self._executor.summing(tracing):
            tracing.watch_losses(self._executor.run(self._training_program, batch))
        group = self.pipe_group if self.replicas_apart else None
        if self.replicas_apart and group is None:
            everyone = [tracing.findings]
        else:
            everyone = [set() for _ in range(dist.get_world_size(group))]
            dist.all_gather_object(everyone, tracing.findings, group=group)
        return min(set().union(*everyone), default=None)

    def batch_loss(self) -> torch.Tensor:
        """The loss of the last batch trained, a scalar; on every rank, which all must ask."""
        total = self._own_loss.clone()
        if dist.get_world_size() > 1:
            dist.all_reduce(total)
        return total

    def replica_loss(self) -> torch.Tensor:
        """The loss of the last batch of this replica alone, a scalar; on every of its stages, which all must ask."""
        own = self._own_loss * self.plan.num_replicas
        if self.pipe_group is not None:
            dist.all_reduce(own, group=self.pipe_group)
        return own

    @property
    def pipe_group(self) -> dist.ProcessGroup | None:
        """The stages of this replica; None for a single one."""
        return self.engine.grid.get_pipe_parallel_group() if self.plan.num_stages > 1 else None

    @property
    def _loss_dtype(self) -> torch.dtype:
        return torch.float64 if self._executor.wiring.dtype == torch.float64 else torch.float32

    def predict_batch(self, micro_batches: Iterable[MicroBatch], rows: Sequence[int]) -> list[torch.Tensor]:
        """Outputs (rows x output width) of each micro-batch where the last virtual stage is; elsewhere nothing.

        Args:
            micro_batches: any number of them, of any size; none where the rank reads nothing.
            rows: of each micro-batch, known on every rank of the replica.
        """
        if not rows:
            return []
        self.module.eval()
        outputs = self._executor.run(self._forward_program(len(rows)), self._batch(micro_batches, rows))
        return [outputs[index] for index in sorted(outputs)]

    def _forward_program(self, num_micro_batches: int) -> Program:
        if num_micro_batches not in self._programs:
            schedule = self.plan.schedule
            self._programs[num_micro_batches] = self._program_of(
                forward_only(schedule.num_stages, num_micro_batches, schedule.num_virtual_stages, schedule.placement)
            )
        return self._programs[num_micro_batches]

    def _batch(self, micro_batches: Iterable[MicroBatch], rows: Sequence[int]) -> Batch:
        given = list(micro_batches)
        return Batch(inputs=[inputs for inputs, _ in given], labels=[labels for _, labels in given], rows=rows)

    def layer_tensors(self) -> dict[int, dict[str, torch.Tensor]]:
        """Parameters by layer index and name, for the layers that this rank holds."""
        return {
            int(name): {key: value.detach() for key, value in module.named_parameters()}
            for name, module in self.module.named_children()
            if name.isdigit()
        }

    def shares(self) -> tuple[list[Share], bool]:
        """What this rank keeps the truth of, with the optimizer's tensors; and whether all replicas have the same."""
        named = {
            parameter: Named(int(layer), name, parameter.numel())
            for layer, module in self.module.named_children()
            if layer.isdigit()
            for name, parameter in module.named_parameters()
        }
        replica = 0 if self.replicas_apart else self.place.replica
        served = self.update.shares(named, self.place.replica)
        if served is not None:
            return served
        shares, replicated = optimizer_shares(self.engine, named, replica)
        return shares, replicated and not self.replicas_apart

    @torch.no_grad()
    def load(self, source: Source) -> None:
        """Take weights and the optimizer's state from a checkpoint, whatever grid and cut it was saved with.

        Raises:
            ModelFileError: if something is not there.
        """
        for index, layer in self.layer_tensors().items():
            for name, value in layer.items():
                value.copy_(source.read(index, name, VALUE, 0, value.numel()).view(value.shape))
        for share in self.shares()[0]:
            share.load(source)

    @torch.no_grad()
    def set_layer_tensors(self, tensors: dict[int, dict[str, torch.Tensor]]) -> None:
        """Overwrite parameters for evaluation; the optimizer's own copies stay as they are."""
        for index, own in self.layer_tensors().items():
            for name, value in own.items():
                value.copy_(tensors[index][name])


def cpu_copy(tensors: dict[int, dict[str, torch.Tensor]]) -> dict[int, dict[str, torch.Tensor]]:
    """A copy in host memory, detached from training."""
    return {
        index: {name: value.to("cpu", copy=True) for name, value in layer.items()} for index, layer in tensors.items()
    }


def broadcast_floats(values: Iterable[float], count: int, source: int, device: torch.device) -> list[float]:
    """`count` floats from global rank `source` to every rank."""
    buffer = torch.zeros(count, dtype=torch.float64, device=device)
    if dist.get_rank() == source:
        buffer.copy_(torch.tensor(list(values), dtype=torch.float64))
    dist.broadcast(buffer, src=source)
    return buffer.tolist()
