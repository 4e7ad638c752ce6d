"""bfloat16 training by the pipeline on ranks, and by plain torch in one process."""

from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_grad
from torch import nn

from pipemlp.config.model import ModelConfig, Mse
from pipemlp.config.training import Sgd
from pipemlp.engine.pipeline import Pipeline
from pipemlp.model.losses import build_loss
from pipemlp.model.whole import build_model
from pipemlp.planning.layers import LayerDescription, describe_layers
from pipemlp.planning.partition import boundaries_for
from pipemlp.planning.plan import Plan
from pipemlp.planning.recompute import Recompute
from pipemlp.planning.shapes import DataShape
from pipemlp.schedule.methods import make_schedule

SEED = 5


@dataclass(frozen=True)
class Case:
    """What is trained, and how it is executed. With `equal_rows` every row of a batch is the same."""

    replicas: int
    micro_batches: int = 4
    micro_batch_rows: int = 6
    num_steps: int = 3
    equal_rows: bool = False
    hidden: tuple[int, ...] = (16, 24, 16)
    activation: str = "gelu"
    norm: str = "layer"
    order: str = "1f1b"
    recompute: Recompute = 0

    @property
    def num_rows(self) -> int:
        return self.replicas * self.micro_batches * self.micro_batch_rows

    def layers(self) -> tuple[LayerDescription, ...]:
        shape = DataShape(num_numeric=8, cardinalities=(), output_width=3, task="regression", num_rows=(96, 0, 0))
        model = {"hidden": list(self.hidden), "activation": self.activation, "norm": self.norm}
        return describe_layers(ModelConfig.model_validate(model), shape)

    def plan(self) -> Plan:
        schedule = make_schedule(self.order, 2, self.micro_batches)
        return Plan(
            boundaries=boundaries_for("parameters", self.layers(), 2, schedule.num_virtual_stages),
            schedule=schedule,
            num_replicas=self.replicas,
            micro_batch_rows=self.micro_batch_rows,
            zero_stage=1,
            recompute=self.recompute,
        )

    def optimizer(self) -> Sgd:
        return Sgd(lr=0.05, momentum=0.9)

    def micro_batch(self, step: int, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Inputs, target and weights of slice `index` of the global batch; the weights hold the divisor."""
        generator = torch.Generator().manual_seed(1000 + step)
        num_drawn = 1 if self.equal_rows else self.num_rows
        numeric = torch.randn(num_drawn, 8, generator=generator).expand(self.num_rows, 8)
        target = torch.randn(num_drawn, 3, generator=generator).expand(self.num_rows, 3)
        own = slice(index * self.micro_batch_rows, (index + 1) * self.micro_batch_rows)
        weight = torch.full((self.micro_batch_rows,), 1 / self.micro_batch_rows)
        return numeric[own].contiguous(), target[own].contiguous(), weight


@dataclass
class Trace:
    """Per step: loss, gradients as the optimizer takes them, float32 weights after it."""

    losses: list[float] = field(default_factory=list)
    gradients: list[dict[str, torch.Tensor]] = field(default_factory=list)
    weights: list[dict[str, torch.Tensor]] = field(default_factory=list)


def by_pipeline(case: Case) -> Trace:
    """Body: two stages in bf16, with ZeRO 1, as a configuration with `precision: bf16` runs."""
    plan, loss = case.plan(), build_loss(Mse())
    pipeline = Pipeline(
        case.layers(),
        plan,
        optimizer=case.optimizer(),
        loss=lambda outputs, labels: loss(outputs, *labels),
        clip_norm=None,
        precision="bf16",
        seed=SEED,
        timeout_seconds=60,
    )
    trace = Trace()
    engine = pipeline.engine
    take = type(engine)._take_model_step

    def keep_then_take(lr_kwargs: object) -> object:
        trace.gradients.append({n: safe_get_full_grad(p).clone() for n, p in pipeline.module.named_parameters()})
        return take(engine, lr_kwargs)

    engine._take_model_step = keep_then_take
    replica = dist.get_rank() % plan.num_replicas
    for step in range(case.num_steps):
        batches = [case.micro_batch(step, replica * case.micro_batches + m) for m in range(case.micro_batches)]
        rows = [((x, torch.empty(len(x), 0, dtype=torch.int64)), (y, weight)) for x, y, weight in batches]
        pipeline.train_batch(iter(rows), step=step, learning_rate=case.optimizer().lr)
        trace.losses.append(float(pipeline.batch_loss()))
        named = list(pipeline.module.named_parameters())
        assert all(p.dtype == torch.bfloat16 for _, p in named)
        trace.weights.append({n: safe_get_full_fp32_param(p).clone() for n, p in named})
    return trace


def in_one_process(case: Case, sums: torch.dtype = torch.float32) -> Trace:
    """Each micro-batch forward and backward in bf16; gradients added up in `sums`, weights kept in float32.

    In float32 the weight gradient of a product is made from its bf16 factors without being rounded itself; what
    autograd makes, as for norms, is.

    The float32 weights begin where DeepSpeed begins: at the initial ones rounded to bf16. One thread, as on a rank:
    with more, norms sum their bf16 gradients in another order.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _in_one_thread(case, sums)
    finally:
        torch.set_num_threads(num_threads)


def _in_one_thread(case: Case, sums: torch.dtype) -> Trace:
    exact = build_model(case.layers(), SEED).to(torch.bfloat16).float()
    optimizer = torch.optim.SGD(exact.parameters(), lr=case.optimizer().lr, momentum=case.optimizer().momentum)
    loss = build_loss(Mse())
    num_slices = case.replicas * case.micro_batches
    trace = Trace()
    for step in range(case.num_steps):
        model = build_model(case.layers(), SEED).to(torch.bfloat16)
        model.load_state_dict({name: value.bfloat16() for name, value in exact.state_dict().items()})
        added = {name: torch.zeros_like(value, dtype=sums) for name, value in model.named_parameters()}
        if sums == torch.float32:
            _add_products(model, added)
        total = 0.0
        for index in range(num_slices):
            numeric, target, weight = case.micro_batch(step, index)
            value = loss(model(numeric), target, weight)
            model.zero_grad()
            value.backward()
            total += float(value.detach())
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    added[name] += parameter.grad.to(sums)
        trace.losses.append(total / num_slices)
        for name, parameter in exact.named_parameters():
            parameter.grad = added[name].float() / num_slices
        trace.gradients.append({name: p.grad.clone() for name, p in exact.named_parameters()})
        optimizer.step()
        trace.weights.append({name: p.detach().clone() for name, p in exact.named_parameters()})
    return trace


def _add_products(model: nn.Module, added: dict[str, torch.Tensor]) -> None:
    """From now on each backward adds to the gradients of linear layers, which get none by autograd."""

    def watch(name: str, linear: nn.Linear) -> None:
        for parameter in linear.parameters():
            parameter.requires_grad_(False)

        def note(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
            output.requires_grad_()
            output.register_hook(lambda gradient: add(gradient.float(), inputs[0].detach().float()))
            return output

        def add(gradient: torch.Tensor, x: torch.Tensor) -> None:
            added[f"{name}.weight"] += gradient.t() @ x
            added[f"{name}.bias"] += gradient.sum(0)

        linear.register_forward_hook(note)

    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            watch(name, module)
