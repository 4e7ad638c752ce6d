"""Sections `training`, `optimizer`, `lr_schedule` and `precision`: how the weights are moved."""

from typing import Annotated, Literal

from pydantic import Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from pipemlp.config.registry import Choice, register_name
from pipemlp.config.section import (
    Fraction,
    Named,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
)


class EarlyStopping(Section):
    """Stop when the validation metric has not improved for `patience` evaluations."""

    metric: str = "loss"
    """A validation metric by name; whether smaller or larger is better is known from the metric."""
    patience: Positive = 5
    """Evaluations without improvement before the run stops."""
    min_delta: NonNegativeFloat = 0.0
    """The least change that counts as improvement."""


class TrainingConfig(Section):
    """How long, in which batches, and when to stop."""

    epochs: Positive | None = None
    """Passes over the training rows; 10 when `steps` is not given either."""
    steps: Positive | None = None
    """Optimizer steps; give this or `epochs`."""
    global_batch_size: Positive = 64
    """Rows between two optimizer steps, over all replicas and micro-batches."""
    clip_norm: PositiveFloat | None = None
    """Largest allowed norm of the whole model's gradient, over all stages; larger ones are scaled down."""
    early_stopping: EarlyStopping | None = None
    """Stop when the validation metric no longer improves."""

    @model_validator(mode="after")
    def _one_budget(self) -> "TrainingConfig":
        if self.epochs is not None and self.steps is not None:
            raise ValueError(f"epochs {self.epochs} and steps {self.steps} are both given; keep one of them")
        return self


Betas = Annotated[tuple[Fraction, Fraction], Strict(False)]


class Sgd(Named):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = "sgd"
    lr: PositiveFloat = 0.01
    """Learning rate, before the schedule."""
    momentum: Fraction = 0.0
    """Share of the last update that is kept."""
    nesterov: bool = False
    """Look ahead along the momentum; needs `momentum` above 0."""
    weight_decay: NonNegativeFloat = 0.0
    """Added to the gradient as `weight_decay` x parameter."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "Sgd":
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0, such as 0.9")
        return self


class Adam(Named):
    """Adam; weight decay is added to the gradient."""

    name: Literal["adam"] = "adam"
    lr: PositiveFloat = 1e-3
    """Learning rate, before the schedule."""
    betas: Betas = (0.9, 0.999)
    """Decay of the running mean of the gradient and of its square."""
    eps: PositiveFloat = 1e-8
    """Keeps the division finite."""
    weight_decay: NonNegativeFloat = 0.0
    """Added to the gradient as `weight_decay` x parameter."""


class AdamW(Named):
    """Adam with decoupled weight decay."""

    name: Literal["adamw"] = "adamw"
    lr: PositiveFloat = 1e-3
    """Learning rate, before the schedule."""
    betas: Betas = (0.9, 0.999)
    """Decay of the running mean of the gradient and of its square."""
    eps: PositiveFloat = 1e-8
    """Keeps the division finite."""
    weight_decay: NonNegativeFloat = 0.01
    """Shrinks every parameter by `lr` x `weight_decay` at each step."""


class Constant(Named):
    """The same rate throughout."""

    name: Literal["constant"] = "constant"
    warmup_steps: NonNegative = 0
    """Steps over which the rate rises linearly from near zero."""


class Linear(Named):
    """A straight line down to `final_fraction` at the last step."""

    name: Literal["linear"] = "linear"
    warmup_steps: NonNegative = 0
    """Steps over which the rate rises linearly from near zero."""
    final_fraction: Fraction = 0.0
    """The last rate as a fraction of `optimizer.lr`."""


class Cosine(Named):
    """Half a cosine down to `final_fraction` at the last step."""

    name: Literal["cosine"] = "cosine"
    warmup_steps: NonNegative = 0
    """Steps over which the rate rises linearly from near zero."""
    final_fraction: Fraction = 0.0
    """The last rate as a fraction of `optimizer.lr`."""


class OneCycle(Named):
    """Up to `optimizer.lr` along half a cosine, then down to nearly nothing (Smith 2018, arXiv 1803.09820)."""

    name: Literal["one-cycle"] = "one-cycle"
    warmup_steps: NonNegative = 0
    """Steps of the rise; 0 takes 30 % of the run."""
    initial_fraction: Annotated[float, Field(gt=0, le=1)] = 0.04
    """The first rate as a fraction of `optimizer.lr`."""
    final_fraction: Fraction = 4e-6
    """The last rate as a fraction of `optimizer.lr`."""


class Step(Named):
    """Multiplied by `factor` every `every_steps` steps."""

    name: Literal["step"] = "step"
    warmup_steps: NonNegative = 0
    """Steps over which the rate rises linearly from near zero."""
    every_steps: Positive = 1000
    """Steps between two cuts."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What each cut multiplies the rate by."""


OptimizerConfig = Sgd | Adam | AdamW
LrScheduleConfig = Constant | Linear | Cosine | OneCycle | Step
for _optimizer in (Sgd, Adam, AdamW):
    register_name("optimizer", _optimizer.model_fields["name"].default, _optimizer)
for _lr_schedule in (Constant, Linear, Cosine, OneCycle, Step):
    register_name("lr_schedule", _lr_schedule.model_fields["name"].default, _lr_schedule)

Optimizer = Annotated[OptimizerConfig, Choice("optimizer", default="adamw")]
LrSchedule = Annotated[LrScheduleConfig, Choice("lr_schedule", default="constant")]


def refuse_fp16(value: object) -> object:
    """fp16 is refused with its reason; everything else passes on."""
    if value in ("fp16", "float16", "half"):
        raise PydanticCustomError(
            "fp16", "fp16 is not offered: it needs loss scaling and overflows in deep MLPs; use bf16 or fp32"
        )
    return value
