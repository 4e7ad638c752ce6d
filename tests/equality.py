"""One batch of steps by the pipeline and by one process: the same losses, gradients, parameters, outputs.

The bodies here run on ranks (see ranks.py); `reference` is plain torch.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_grad

from pipemlp.config.model import ModelConfig
from pipemlp.config.registry import options_of
from pipemlp.config.training import AdamW, OptimizerConfig, Sgd
from pipemlp.engine.optimizer import build_optimizer
from pipemlp.engine.pipeline import Pipeline
from pipemlp.model.dropout import DropoutKey
from pipemlp.model.losses import build_loss
from pipemlp.model.whole import build_model
from pipemlp.planning.layers import describe_layers
from pipemlp.planning.partition import boundaries_for
from pipemlp.planning.plan import Plan
from pipemlp.planning.shapes import DataShape

SHAPE = DataShape(num_numeric=5, cardinalities=(4, 3), output_width=3, task="classification", num_rows=(96, 0, 0))
BATCH = 48  # divisible by 2 replicas x {1, 4, 6} micro-batches
NUM_STEPS = 3
SEED = 11


@dataclass(frozen=True)
class Case:
    """One way to execute the same computation."""

    stages: int = 1
    replicas: int = 1
    zero_stage: int = 0
    micro_batches: int = 1
    recompute: int = 0
    block: str = "plain"
    dropout: float = 0.0
    cut: str = "parameters"
    ragged: bool = False
    clip_norm: float | None = None
    optimizer: str = "adamw"
    loss: str = "cross_entropy"

    @property
    def dtype(self) -> torch.dtype:
        """ZeRO 1 keeps its master weights in float32."""
        return torch.float64 if self.zero_stage == 0 else torch.float32

    def model(self) -> ModelConfig:
        """Seven layers of uneven widths, wide enough that no row is nearly constant, which a norm would blow up."""
        return ModelConfig.model_validate(
            {
                "hidden": [12, 17, 17, 13, 16],
                "block": self.block,
                "activation": "silu" if self.block == "gated" else "tanh",
                "norm": "none" if self.block == "plain" else "layer",
                "dropout": self.dropout,
                "init": "xavier_uniform",
            }
        )

    def plan(self) -> Plan:
        """The plan, with an uneven explicit cut where the case says so."""
        layers = describe_layers(self.model(), SHAPE)
        uneven = {1: (0, 7), 2: (0, 5, 7), 4: (0, 1, 2, 5, 7)}
        boundaries = boundaries_for(uneven[self.stages] if self.cut == "uneven" else self.cut, layers, self.stages)
        return Plan(
            boundaries=boundaries,
            num_stages=self.stages,
            num_replicas=self.replicas,
            num_micro_batches=self.micro_batches,
            micro_batch_rows=BATCH // (self.replicas * self.micro_batches),
            schedule="1f1b",
            zero_stage=self.zero_stage,
            recompute_layers=self.recompute,
            num_parameters=(),
            bubble_fraction=0.0,
            memory=(),
        )

    def optimizer_config(self) -> OptimizerConfig:
        """A fast-moving optimizer, so that differences would show."""
        if self.optimizer == "sgd":
            return Sgd(lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.01)
        # a large eps: Adam divides by the gradient's size, which would blow up the rounding of tiny gradients
        return AdamW(lr=0.01, weight_decay=0.1, eps=1e-3)

    def loss_function(self):
        """`loss(outputs, (target, weight))`."""
        options = {"class_weights": [0.2, 1.0, 3.0], "label_smoothing": 0.1} if self.loss == "weighted" else {}
        loss = build_loss(options_of("loss", "cross_entropy").model_validate({"name": "cross_entropy", **options}))
        return lambda outputs, labels: loss(outputs, *labels)


@dataclass
class Trace:
    """What the computation produced."""

    losses: list[float]
    gradients: dict[str, torch.Tensor]
    parameters: dict[str, torch.Tensor]
    outputs: torch.Tensor | None


def batch(step: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Numeric, categorical and target of one global batch."""
    generator = torch.Generator().manual_seed(100 + step)
    numeric = torch.randn(BATCH, SHAPE.num_numeric, generator=generator, dtype=torch.float64).to(dtype)
    categorical = torch.stack([torch.randint(0, n, (BATCH,), generator=generator) for n in SHAPE.cardinalities], dim=1)
    return numeric, categorical, torch.randint(0, SHAPE.output_width, (BATCH,), generator=generator)


def real_rows(case: Case, step: int) -> int:
    """Rows of the batch that count; the last batch of a ragged case is partial."""
    return 29 if case.ragged and step == NUM_STEPS - 1 else BATCH


def reference(case: Case, dtype: torch.dtype) -> Trace:
    """The same computation in one process, on real rows only."""
    layers = describe_layers(case.model(), SHAPE)
    model = build_model(layers, SEED, dtype=dtype)
    optimizer = build_optimizer(case.optimizer_config(), model.parameters())
    loss_function = case.loss_function()
    trace = Trace([], {}, {}, None)
    for step in range(NUM_STEPS):
        numeric, categorical, target = (t[: real_rows(case, step)] for t in batch(step, dtype))
        outputs = model.train()(numeric, categorical, DropoutKey(SEED, step, 0))
        loss = loss_function(outputs, (target, torch.full((len(target),), 1 / len(target), dtype=dtype)))
        optimizer.zero_grad()
        loss.backward()
        trace.losses.append(loss.item())
        trace.gradients |= {f"{step}:{n}": p.grad.clone() for n, p in model.named_parameters()}
        if case.clip_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), case.clip_norm)
            assert norm > 1.5 * case.clip_norm, "clipping must bind"
        optimizer.step()
    trace.parameters = {n: p.detach().clone() for n, p in model.named_parameters()}
    numeric, categorical, _ = batch(0, dtype)
    with torch.no_grad():
        trace.outputs = model.eval()(numeric, categorical)
    return trace


def pipeline_trace(case: Case) -> Trace:
    """Body: the same computation by the pipeline, as this rank saw it."""
    if case.dtype == torch.float64:
        _allow_float64()
    plan = case.plan()
    pipeline = Pipeline(
        describe_layers(case.model(), SHAPE),
        plan,
        optimizer=case.optimizer_config(),
        loss=case.loss_function(),
        clip_norm=case.clip_norm,
        precision="fp32",
        seed=SEED,
        timeout_seconds=60,
        dtype=case.dtype,
    )
    pipeline.engine.communication_data_type = case.dtype
    trace = Trace([], {}, {}, None)
    for step in range(NUM_STEPS):
        _keep_gradients(pipeline, trace, step)
        loss = pipeline.train_batch(iter(_micro_batches(case, plan, step)), step=step, learning_rate=_lr(case))
        trace.losses.append(_exact_loss(pipeline, loss))
    trace.parameters = _named(pipeline)
    outputs = pipeline.predict_batch(iter(_micro_batches(case, plan, 0)))
    trace.outputs = torch.cat(outputs) if outputs else None
    return trace


def _lr(case: Case) -> float:
    return case.optimizer_config().lr


def _micro_batches(case: Case, plan: Plan, step: int) -> list:
    numeric, categorical, target = batch(step, case.dtype)
    num_real = real_rows(case, step)
    weight = (torch.arange(BATCH) < num_real).to(case.dtype) * plan.num_micro_batches * plan.num_replicas / num_real
    share = plan.num_micro_batches * plan.micro_batch_rows
    start = dist.get_rank() % plan.num_replicas * share
    slices = [slice(i, i + plan.micro_batch_rows) for i in range(start, start + share, plan.micro_batch_rows)]
    return [((numeric[s], categorical[s]), (target[s], weight[s])) for s in slices]


def _named(pipeline: Pipeline) -> dict[str, torch.Tensor]:
    return {f"{i}.{n}": t.clone() for i, layer in pipeline.layer_tensors().items() for n, t in layer.items()}


def _keep_gradients(pipeline: Pipeline, trace: Trace, step: int) -> None:
    """Copy the reduced gradients just before the optimizer takes them; ZeRO 1 gathers its shards."""
    engine = pipeline.engine
    take = type(engine)._take_model_step

    def gradient(parameter: torch.Tensor) -> torch.Tensor:
        return parameter.grad.clone() if engine.zero_optimization_stage() == 0 else safe_get_full_grad(parameter)

    def keep_then_take(lr_kwargs: object) -> object:
        trace.gradients |= {f"{step}:{n}": gradient(p) for n, p in pipeline.module.named_parameters()}
        return take(engine, lr_kwargs)

    engine._take_model_step = keep_then_take


def _exact_loss(pipeline: Pipeline, returned: torch.Tensor) -> float:
    """The engine returns float32; the last stage still has the sum as it was computed."""
    engine = pipeline.engine
    if not pipeline.place.is_last_stage:
        return float(returned)
    total = engine.total_loss.clone() / pipeline.plan.num_micro_batches
    if pipeline.place.num_replicas > 1:
        dist.all_reduce(total, group=pipeline.data_group)
        total /= pipeline.place.num_replicas
    return float(total)


def _allow_float64() -> None:
    from deepspeed.accelerator import get_accelerator

    accelerator = get_accelerator()
    if torch.float64 not in accelerator.supported_dtypes():
        dtypes = [*accelerator.supported_dtypes(), torch.float64]
        accelerator.supported_dtypes = lambda: dtypes
