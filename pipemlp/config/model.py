"""Sections `model` and `loss`: the layers and what they are trained to make small."""

from typing import Annotated, Literal

from pydantic import Field, Strict, field_validator
from pydantic_core import PydanticCustomError

from pipemlp.config.registry import Block, register_name
from pipemlp.config.section import Fraction, Named, NonNegativeFloat, Positive, PositiveFloat, Section

Activation = Literal["relu", "gelu", "silu", "tanh", "leaky_relu", "identity"]
Norm = Literal["none", "layer", "rms"]
Init = Literal["kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform", "lecun_normal", "orthogonal"]


class Plain(Named):
    """dropout(activation(norm(linear(x))))."""

    name: Literal["plain"] = "plain"


class Residual(Named):
    """x + dropout(activation(linear(norm(x)))); where widths change, the skip is a projection."""

    name: Literal["residual"] = "residual"


class Gated(Named):
    """x + dropout(down(activation(gate(norm(x))) * up(norm(x)))): SwiGLU with silu, GEGLU with gelu."""

    name: Literal["gated"] = "gated"
    expansion: PositiveFloat = 1.0
    """Inner width as a multiple of the block's width, rounded to a whole number."""


for _block in (Plain, Residual, Gated):
    register_name("block", _block.model_fields["name"].default, _block)


class Mse(Named):
    """Mean squared error; the mean over the targets of a row."""

    name: Literal["mse"] = "mse"


class Mae(Named):
    """Mean absolute error; the mean over the targets of a row."""

    name: Literal["mae"] = "mae"


class Huber(Named):
    """Squared below `delta`, linear above."""

    name: Literal["huber"] = "huber"
    delta: PositiveFloat = 1.0
    """Where the loss turns from squared to linear, in standard deviations of the target."""


class CrossEntropy(Named):
    """One class out of several."""

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Fraction = 0.0
    """Share of the probability spread evenly over all classes."""
    class_weights: Annotated[tuple[NonNegativeFloat, ...], Strict(False), Field(min_length=2)] | None = None
    """One factor per class, in the order of the class labels; multiplies the loss of a row of that class."""

    @field_validator("class_weights")
    @classmethod
    def _some_weight(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and not any(value):
            raise ValueError("all class weights are 0, which leaves nothing to learn; give at least one above 0")
        return value


class BinaryCrossEntropy(Named):
    """One yes-or-no label, or several (multi-label), from logits; the mean over the labels of a row."""

    name: Literal["binary_cross_entropy"] = "binary_cross_entropy"
    positive_weights: Annotated[tuple[PositiveFloat, ...], Strict(False), Field(min_length=1)] | None = None
    """One factor per label; multiplies the loss where the label is true."""


for _loss in (Mse, Mae, Huber, CrossEntropy, BinaryCrossEntropy):
    register_name("loss", _loss.model_fields["name"].default, _loss)


def _refuse_batch_norm(value: object) -> object:
    if value in ("batch", "batch_norm", "batchnorm"):
        raise PydanticCustomError(
            "batch_norm",
            "batch norm is not offered: its statistics couple the rows of a micro-batch, so that the result "
            "would depend on parallel.micro_batches and data_parallel; use layer or rms",
        )
    return value


class HiddenGroup(Section):
    """`repeat` equal hidden layers; what is left out is taken from `model`."""

    width: Positive
    """Values per row that leave each layer."""
    repeat: Positive = 1
    """How many such layers in a row."""
    block: Block | None = None
    """Overrides `model.block` for these layers."""
    activation: Activation | None = None
    """Overrides `model.activation`."""
    norm: Norm | None = None
    """Overrides `model.norm`."""
    dropout: Fraction | None = None
    """Overrides `model.dropout`."""

    _norm_reason = field_validator("norm", mode="before")(_refuse_batch_norm)


class HiddenUniform(Section):
    """`depth` hidden layers of one width."""

    width: Positive
    """Values per row that leave each layer."""
    depth: Positive
    """Number of hidden layers."""


class ModelConfig(Section):
    """The layers between the inputs and the outputs."""

    hidden: HiddenUniform | Annotated[tuple[Positive | HiddenGroup, ...], Strict(False)]
    """`{width: 128, depth: 16}`, a list of widths `[512, 256]`, or a list of `{width, repeat, block, ...}`;
    `[]` makes a single linear layer."""
    block: Block = Plain()
    """`plain`, `residual`, `gated`, or a registered name."""
    activation: Activation = "relu"
    """`relu`, `gelu`, `silu`, `tanh`, `leaky_relu` (slope 0.01) or `identity`."""
    norm: Norm = "none"
    """`none`, `layer` or `rms`, over the values of a row."""
    dropout: Fraction = 0.0
    """Share of a hidden layer's values set to zero in training; the mask depends on seed, layer, step,
    row and column only, never on how the run is parallelised."""
    init: Init = "kaiming_uniform"
    """How weights are drawn; biases start at zero. Depends on the seed and the layer's index only."""
    input_width: Literal["auto"] | Positive = "auto"
    """Values per row that enter the first hidden layer: numeric columns plus embeddings. `auto` counts
    them; a number is checked against the data."""
    output_width: Literal["auto"] | Positive = "auto"
    """Values per row that leave the model: classes, labels or targets. `auto` counts them; a number is
    checked against the data."""

    _norm_reason = field_validator("norm", mode="before")(_refuse_batch_norm)
