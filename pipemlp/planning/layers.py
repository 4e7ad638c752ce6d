"""Layer descriptions: a model as a list of values, with shapes, parameters, FLOPs and bytes, and no tensor.

`describe_layers` expands the configuration; `model/` builds torch modules from the descriptions and
from nothing else; a test holds the two equal for every kind of block.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pipemlp.config.errors import ConfigError
from pipemlp.config.model import HiddenGroup, HiddenUniform, ModelConfig
from pipemlp.planning.block_costs import block_cost
from pipemlp.planning.block_parts import (
    STATISTICS_BYTES_PER_ROW,
    BlockSetting,
    Parameter,
    linear_parameters,
    norm_parameters,
    product_flops,
)
from pipemlp.planning.shapes import DataShape

__all__ = ["LayerDescription", "Parameter", "describe_layers", "embedding_width", "input_width", "kept_bytes"]

_INDEX_BYTES = 8  # a categorical code is an int64


@dataclass(frozen=True)
class LayerDescription:
    """One layer: input handling (kind `input`, index 0), a hidden block, or the output head (kind `output`).

    Args:
        index: position in the model; initialisation and dropout depend on it.
        kind: `input`, a block's name, or `output`.
        input_width: values per row that enter; for `input`, the numeric columns.
        output_width: values per row that leave.
        activation, norm, dropout, init: as configured for this layer.
        options: the block's own options as sorted pairs, such as `(("expansion", 1.0),)`; for
            `input`, `(("cardinalities", (12, 4)), ("embedding_widths", (6, 2)))`.
        parameters: every trainable tensor, in the module's order.
        forward_flops_per_row: floating-point operations of the matrix products, two per multiply-add.
            The backward has twice as many, but for the model's first product over an input without
            trainable embeddings, which needs no gradient of its input.
        kept_values_per_row: values in the compute precision that autograd keeps per row for the
            backward, without parameters and without the layer's output. The layer's input counts where
            it is kept, although it is the output of the layer before.
        kept_bytes_per_row: what is kept per row besides, in bytes (statistics in float32, masks, indices).
        product_values_per_row: values of the results of the products.
        pending_values_per_row: values of what waits for the weight gradients.
        input_is_pending: whether the layer's input itself is among it.
        keeps_output: whether the layer's own output is kept too.
    """

    index: int
    kind: str
    input_width: int
    output_width: int
    activation: str
    norm: str
    dropout: float
    init: str
    options: tuple[tuple[str, object], ...]
    parameters: tuple[Parameter, ...]
    forward_flops_per_row: int
    kept_values_per_row: int
    kept_bytes_per_row: int
    product_values_per_row: int = 0
    pending_values_per_row: int = 0
    input_is_pending: bool = False
    keeps_output: bool = False

    @property
    def num_parameters(self) -> int:
        """Trainable values in this layer."""
        return sum(math.prod(parameter.shape) for parameter in self.parameters)


def kept_bytes(layer: LayerDescription, rows: int, value_bytes: int) -> int:
    """Bytes that autograd keeps between forward and backward of `rows` rows, at `value_bytes` per value."""
    return rows * (layer.kept_values_per_row * value_bytes + layer.kept_bytes_per_row)


def embedding_width(num_codes: int) -> int:
    """Values per row that stand for a categorical column: `min(50, ceil(1.6 * num_codes ** 0.56))`.

    fastai's rule of thumb (`fastai.tabular.model.emb_sz_rule`), rounded up and with a lower ceiling.
    """
    return min(50, math.ceil(1.6 * math.pow(num_codes, 0.56)))


def input_width(shape: DataShape) -> int:
    """Values per row that enter the first hidden layer: numeric columns and embeddings."""
    return shape.num_numeric + sum(map(embedding_width, shape.cardinalities))


def describe_layers(model: ModelConfig, shape: DataShape) -> tuple[LayerDescription, ...]:
    """Expand the configuration: input handling, the hidden blocks, the output head.

    Raises:
        ConfigError: if `model.input_width` or `model.output_width` is a number that the data contradicts.
    """
    _check_widths(model, shape)
    layers = [_describe_input(model, shape)]
    has_skip = False
    for group in _hidden(model):
        layer, has_skip = _describe_block(model, group, len(layers), layers[-1].output_width)
        layers.append(layer)
    layers.append(_describe_output(model, shape, len(layers), layers[-1].output_width, after_skip=has_skip))
    return tuple(layers)


def _check_widths(model: ModelConfig, shape: DataShape) -> None:
    problems = []
    entering = input_width(shape)
    if model.input_width not in ("auto", entering):
        embedded = entering - shape.num_numeric
        problems.append(
            f"model.input_width: {model.input_width}, but the data has {entering} values per row "
            f"({shape.num_numeric} numeric + {embedded} embedded); use {entering} or auto"
        )
    if model.output_width not in ("auto", shape.output_width):
        problems.append(
            f"model.output_width: {model.output_width}, but the data asks for {shape.output_width} "
            f"({shape.task}); use {shape.output_width} or auto"
        )
    if problems:
        raise ConfigError(problems)


def _hidden(model: ModelConfig) -> Iterator[HiddenGroup]:
    """One group per hidden layer, whichever way they were written."""
    if isinstance(model.hidden, HiddenUniform):
        yield from [HiddenGroup(width=model.hidden.width)] * model.hidden.depth
        return
    for entry in model.hidden:
        group = entry if isinstance(entry, HiddenGroup) else HiddenGroup(width=entry)
        yield from [group] * group.repeat


def _describe_input(model: ModelConfig, shape: DataShape) -> LayerDescription:
    widths = tuple(map(embedding_width, shape.cardinalities))
    codes_and_widths = zip(shape.cardinalities, widths, strict=True)
    return LayerDescription(
        index=0,
        kind="input",
        input_width=shape.num_numeric,
        output_width=input_width(shape),
        activation="identity",
        norm="none",
        dropout=0.0,
        init=model.init,
        options=(("cardinalities", shape.cardinalities), ("embedding_widths", widths)),
        parameters=tuple(Parameter(f"embeddings.{k}.weight", pair) for k, pair in enumerate(codes_and_widths)),
        forward_flops_per_row=0,
        kept_values_per_row=0,
        kept_bytes_per_row=_INDEX_BYTES * len(widths),
        # the gradients of the embeddings are parts of one
        pending_values_per_row=input_width(shape) if widths else 0,
    )


def _describe_block(model: ModelConfig, group: HiddenGroup, index: int, entering: int) -> tuple[LayerDescription, bool]:
    """The description, and whether the block has a skip."""
    options = model.block if group.block is None else group.block
    setting = BlockSetting(
        input_width=entering,
        output_width=group.width,
        activation=model.activation if group.activation is None else group.activation,
        norm=model.norm if group.norm is None else group.norm,
        dropout=model.dropout if group.dropout is None else group.dropout,
        options=options,
    )
    cost = block_cost(setting)
    layer = LayerDescription(
        index=index,
        kind=options.name,
        input_width=entering,
        output_width=group.width,
        activation=setting.activation,
        norm=setting.norm,
        dropout=setting.dropout,
        init=model.init,
        options=tuple(sorted((key, _freeze(value)) for key, value in options if key != "name")),
        parameters=cost.parameters,
        forward_flops_per_row=cost.forward_flops_per_row,
        kept_values_per_row=cost.kept_values_per_row,
        kept_bytes_per_row=cost.kept_bytes_per_row,
        product_values_per_row=cost.product_values_per_row,
        pending_values_per_row=cost.pending_values_per_row,
        input_is_pending=cost.input_is_pending,
        keeps_output=cost.keeps_output,
    )
    return layer, cost.has_skip


def _freeze(value: object) -> object:
    return tuple(_freeze(item) for item in value) if isinstance(value, (list, tuple)) else value


def _describe_output(
    model: ModelConfig, shape: DataShape, index: int, entering: int, *, after_skip: bool
) -> LayerDescription:
    """A linear layer; after a skip, which leaves its sum as it is, normalised first."""
    norm = model.norm if after_skip else "none"
    return LayerDescription(
        index=index,
        kind="output",
        input_width=entering,
        output_width=shape.output_width,
        activation="identity",
        norm=norm,
        dropout=0.0,
        init=model.init,
        options=(),
        parameters=norm_parameters("norm", norm, entering) + linear_parameters("linear", entering, shape.output_width),
        forward_flops_per_row=product_flops(entering, shape.output_width),
        kept_values_per_row=entering * (1 if norm == "none" else 2),
        kept_bytes_per_row=STATISTICS_BYTES_PER_ROW[norm],
        product_values_per_row=shape.output_width,
        pending_values_per_row=entering + shape.output_width,
        input_is_pending=norm == "none",
    )
