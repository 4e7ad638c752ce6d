"""The competitors of our executor: stock DeepSpeed, DeepSpeed's DualPipeV and torch.distributed.pipelining.

Each cuts the model evenly and is used as its documentation says. Their orders are read from their own schedules,
so that our simulator can tell how much each of them holds in flight.
"""

from collections.abc import Sequence
from functools import partial
from itertools import cycle
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.pipe import DualPipeVModule, PipelineModule
from deepspeed.runtime.pipe.schedule import BackwardPass, DualPipeVSchedule, ForwardPass
from deepspeed.runtime.pipe.topology import PipeDataParallelTopology
from schedule_lines import VIRTUAL_STAGES
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import PipelineScheduleSingle, get_schedule_class
from workload import LEARNING_RATE, Workload

from pipemlp.schedule.action import Action
from pipemlp.schedule.methods import make_schedule
from pipemlp.schedule.placement import Placement, virtual_stages_of
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.torch_csv import read_csv

TORCH_SCHEDULES: dict[str, str] = {
    "1f1b": "1F1B",
    "interleaved-1f1b": "Interleaved1F1B",
    "interleaved-zb": "InterleavedZeroBubble",
    "zb-v": "ZBVZeroBubble",
}
"""torch's classes by our names."""

NEVER = 10**12


def deepspeed_settings(workload: Workload) -> dict[str, object]:
    """The least that DeepSpeed wants to be told; bf16 needs ZeRO 1 with stages."""
    settings: dict[str, object] = {
        "train_micro_batch_size_per_gpu": workload.rows,
        "gradient_accumulation_steps": workload.num_micro_batches,
        "train_batch_size": workload.rows * workload.num_micro_batches,
        "gradient_clipping": 0.0,  # else it clips, which nobody asked for
        "zero_allow_untested_optimizer": True,
        "steps_per_print": NEVER,
    }
    if workload.bf16:
        settings |= {
            "bf16": {"enabled": True},
            "zero_optimization": {"stage": 1},
            "data_types": {"grad_accum_dtype": "fp32"},
        }
    return settings


class DeepSpeed:
    """`deepspeed.initialize` on a stock pipeline module and `train_batch`: 1F1B, or DualPipeV."""

    system = "deepspeed"

    def __init__(self, workload: Workload, schedule: str = "1f1b") -> None:
        self.schedule = schedule
        make, order = (PipelineModule, one_f_one_b) if schedule == "1f1b" else (DualPipeVModule, dualpipev)
        module = make(
            layers=[workload.layers(index) for index in range(workload.num_layers)],
            topology=PipeDataParallelTopology(num_pp=workload.num_stages, num_dp=1),
            loss_fn=workload.loss,
            partition_method="uniform",
        )
        self.engine, _, _, _ = deepspeed.initialize(
            model=module,
            optimizer=torch.optim.SGD(module.parameters(), lr=LEARNING_RATE),
            config=deepspeed_settings(workload),
            dist_init_required=False,
        )
        self.order = order(workload.num_stages, workload.num_micro_batches)
        self._batches = cycle(workload.micro_batches())

    def step(self) -> None:
        """One `train_batch`, which shares the loss with every rank."""
        self._loss = self.engine.train_batch(data_iter=self._batches)

    def last_loss(self) -> float | None:
        """As every rank was told."""
        return float(self._loss)

    def kept_between_steps(self) -> Sequence[Tensor]:
        """The module's own."""
        return with_gradients([self.engine.module])


class TorchPipelining:
    """torch's pipeline stages with one of its schedules, and torch's optimizer."""

    system = "torch"

    def __init__(self, workload: Workload, schedule: str) -> None:
        self.schedule = schedule
        kind = get_schedule_class(TORCH_SCHEDULES[schedule])
        single = issubclass(kind, PipelineScheduleSingle)
        placement: Placement = "v" if schedule == "zb-v" else "loop"
        num_virtual = 1 if single else VIRTUAL_STAGES
        held = virtual_stages_of(dist.get_rank(), workload.num_stages, num_virtual, placement)
        depth = workload.num_stages * num_virtual
        cuts = workload.boundaries(depth)
        self._modules = [
            nn.Sequential(*(workload.layers(layer) for layer in range(cuts[index], cuts[index + 1]))) for index in held
        ]
        stages = [
            PipelineStage(module, index, depth, workload.device)
            for module, index in zip(self._modules, held, strict=True)
        ]
        count = workload.num_micro_batches
        own: Any = kind(stages[0] if single else stages, n_microbatches=count, loss_fn=workload.loss)
        self.order = one_f_one_b(workload.num_stages, count) if single else torch_order(schedule, own)
        parameters = [parameter for module in self._modules for parameter in module.parameters()]
        self._optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE)
        inputs = (workload.inputs,) if 0 in held else ()
        target = workload.target if depth - 1 in held else None
        self._step = partial(own.step, *inputs, target=target, return_outputs=False)
        self._losses: list[Tensor] = []

    def step(self) -> None:
        """What torch's examples do for a step."""
        self._losses = []
        self._optimizer.zero_grad()
        self._step(losses=self._losses)
        self._optimizer.step()

    def last_loss(self) -> float | None:
        """On the rank of the last virtual stage."""
        return float(torch.stack(self._losses).mean()) if self._losses else None

    def kept_between_steps(self) -> Sequence[Tensor]:
        """The modules' own."""
        return with_gradients(self._modules)


def with_gradients(modules: Sequence[nn.Module]) -> list[Tensor]:
    """All parameters, and the gradients that they have now."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return [*parameters, *(parameter.grad for parameter in parameters if parameter.grad is not None)]


def one_f_one_b(num_stages: int, num_micro_batches: int) -> Schedule:
    """The order of DeepSpeed and of torch's Schedule1F1B: the classical one."""
    return make_schedule("1f1b", num_stages, num_micro_batches)


def dualpipev(num_stages: int, num_micro_batches: int) -> Schedule:
    """The forwards and backwards of DeepSpeed's instruction stream."""
    rows = (_dualpipev_row(stage, num_stages, num_micro_batches) for stage in range(num_stages))
    return Schedule("dualpipev", num_stages, VIRTUAL_STAGES, num_micro_batches, "v", tuple(rows))


def _dualpipev_row(stage: int, num_stages: int, num_micro_batches: int) -> tuple[Action, ...]:
    held = (stage, 2 * num_stages - 1 - stage)
    return tuple(
        Action(held[step.phase], "F" if isinstance(step, ForwardPass) else "B", step.buffer_id % num_micro_batches)
        for instructions in DualPipeVSchedule(num_micro_batches, num_stages, stage).steps()
        for step in instructions
        if isinstance(step, ForwardPass | BackwardPass)
    )


def torch_order(name: str, schedule: Any) -> Schedule:
    """What a schedule of torch's with several stages per rank computes."""
    rows = schedule.pipeline_order.values()
    text = "\n".join(",".join("" if action is None else str(action) for action in row) for row in rows)
    return read_csv(text + "\n", name)
