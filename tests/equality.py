"""One batch of steps by the pipeline and by one process: the same losses, gradients, parameters, outputs.

The bodies here run on ranks (see ranks.py); `reference` is plain torch.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_grad

from pipemlp.config.gradients import GradientsConfig
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
from pipemlp.planning.recompute import Recompute
from pipemlp.planning.shapes import DataShape
from pipemlp.schedule.methods import make_schedule
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.torch_csv import read_csv

SHAPE = DataShape(num_numeric=5, cardinalities=(4, 3), output_width=3, task="classification", num_rows=(96, 0, 0))
BATCH = 80  # divisible by 2 replicas x {1, 2, 5, 8} micro-batches
NUM_STEPS = 3
SEED = 11


@dataclass(frozen=True)
class Case:
    """One way to execute the same computation."""

    stages: int = 1
    order: str = "1f1b"
    replicas: int = 1
    zero_stage: int = 0
    micro_batches: int = 1
    recompute: Recompute = 0
    block: str = "plain"
    dropout: float = 0.0
    cut: str = "parameters"
    ragged: bool = False
    clip_norm: float | None = None
    optimizer: str = "adamw"
    loss: str = "cross_entropy"
    strict_links: bool = False
    gradients: GradientsConfig = GradientsConfig()
    single: bool = False
    """Whether parameters are float32 without ZeRO 1 too."""
    skips: bool = False
    """Whether a step that is not finite is left out."""

    def schedule(self) -> Schedule:
        """By its name, and `:2` for two virtual stages where it may have one too; or from a file."""
        if self.order.endswith(".csv"):
            return read_csv(Path(self.order).read_text(encoding="utf-8"), self.order)
        name, _, virtual_stages = self.order.partition(":")
        return make_schedule(name, self.stages, self.micro_batches, int(virtual_stages) if virtual_stages else None)

    @property
    def dtype(self) -> torch.dtype:
        """ZeRO 1 keeps its master weights in float32."""
        return torch.float64 if self.zero_stage == 0 and not self.single else torch.float32

    def model(self) -> ModelConfig:
        """Nine layers of uneven widths, wide enough that no row is nearly constant, which a norm would blow up."""
        return ModelConfig.model_validate(
            {
                "hidden": [12, 17, 17, 13, 16, 16, 14],
                "block": self.block,
                "activation": "silu" if self.block == "gated" else "tanh",
                "norm": "none" if self.block == "plain" else "layer",
                "dropout": self.dropout,
                "init": "xavier_uniform",
            }
        )

    def plan(self) -> Plan:
        """The plan, with an uneven explicit cut where the case says so."""
        layers, schedule = describe_layers(self.model(), SHAPE), self.schedule()
        uneven = {
            1: (0, 9),
            2: (0, 6, 9),
            3: (0, 1, 7, 9),
            4: (0, 1, 2, 6, 9),
            6: (0, 1, 3, 4, 5, 8, 9),
            8: (0, 1, 2, 3, 4, 5, 6, 7, 9),
        }
        cut = uneven[schedule.depth] if self.cut == "uneven" else self.cut
        return Plan(
            boundaries=boundaries_for(cut, layers, self.stages, schedule.num_virtual_stages),
            schedule=schedule,
            num_replicas=self.replicas,
            micro_batch_rows=BATCH // (self.replicas * self.micro_batches),
            zero_stage=self.zero_stage,
            recompute=self.recompute,
        )

    def optimizer_config(self) -> OptimizerConfig:
        """A fast-moving optimizer, so that differences would show."""
        if self.optimizer == "plain sgd":
            return Sgd(lr=0.01)
        if self.optimizer == "sgd":
            return Sgd(lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.01)
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
    return 45 if case.ragged and step == NUM_STEPS - 1 else BATCH


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
    pipeline = build(case)
    plan = pipeline.plan
    trace = Trace([], {}, {}, None)
    for step in range(NUM_STEPS):
        _keep_gradients(pipeline, trace, step)
        pipeline.train_batch(iter(micro_batches(case, plan, step)), step=step, learning_rate=_lr(case))
        trace.losses.append(float(pipeline.batch_loss()))
    trace.parameters = _named(pipeline)
    outputs = pipeline.predict_batch(*_evaluation(case))
    trace.outputs = torch.cat(outputs) if outputs else None
    return trace


def build(case: Case, precision: str = "fp32") -> Pipeline:
    """This rank's part of the pipeline of a case."""
    if case.dtype == torch.float64 and precision == "fp32":
        allow_float64()
    return Pipeline(
        describe_layers(case.model(), SHAPE),
        case.plan(),
        optimizer=case.optimizer_config(),
        loss=case.loss_function(),
        clip_norm=case.clip_norm,
        precision=precision,
        seed=SEED,
        timeout_seconds=60,
        dtype=case.dtype if precision == "fp32" else torch.float32,
        strict_links=case.strict_links,
        gradients=case.gradients,
        skips=case.skips,
    )


def _lr(case: Case) -> float:
    return case.optimizer_config().lr


def micro_batches(case: Case, plan: Plan, step: int) -> list:
    numeric, categorical, target = batch(step, case.dtype)
    num_real = real_rows(case, step)
    weight = (torch.arange(BATCH) < num_real).to(case.dtype) * plan.num_micro_batches * plan.num_replicas / num_real
    share = plan.num_micro_batches * plan.micro_batch_rows
    start = dist.get_rank() % plan.num_replicas * share
    slices = [slice(i, i + plan.micro_batch_rows) for i in range(start, start + share, plan.micro_batch_rows)]
    return [((numeric[s], categorical[s]), (target[s], weight[s])) for s in slices]


def _evaluation(case: Case) -> tuple[list, list[int]]:
    """The first batch in three slices per replica, of other sizes than in training."""
    numeric, categorical, _ = batch(0, case.dtype)
    share = BATCH // case.replicas
    start = dist.get_rank() % case.replicas * share
    rows = [share // 2, 7, share - share // 2 - 7]
    starts = [start, start + rows[0], start + rows[0] + rows[1]]
    slices = [slice(first, first + size) for first, size in zip(starts, rows, strict=True)]
    return [((numeric[s], categorical[s]), None) for s in slices], rows


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


def allow_float64() -> None:
    from deepspeed.accelerator import get_accelerator

    accelerator = get_accelerator()
    if torch.float64 not in accelerator.supported_dtypes():
        dtypes = [*accelerator.supported_dtypes(), torch.float64]
        accelerator.supported_dtypes = lambda: dtypes
