"""The cost of each kind of hidden block, from its widths and settings; plug-ins add theirs to the same table."""

from collections.abc import Callable

from pipemlp.config.model import Gated
from pipemlp.planning.block_parts import (
    KEPT_BY_ACTIVATION,
    STATISTICS_BYTES_PER_ROW,
    BlockCost,
    BlockSetting,
    Parameter,
    linear_parameters,
    norm_parameters,
    product_flops,
)

DescribeBlock = Callable[[BlockSetting], BlockCost]


def gated_inner_width(expansion: float, output_width: int) -> int:
    """Values per row between a gated block's products: `expansion * output_width`, rounded, at least one."""
    return max(1, round(expansion * output_width))


def _plain(block: BlockSetting) -> BlockCost:
    """dropout(activation(norm(linear(x)))): x, then what norm and activation keep of `output_width` values each."""
    width, kept_by = block.output_width, KEPT_BY_ACTIVATION[block.activation]
    linear_is_kept = block.norm != "none" or kept_by == "input"
    normed_is_kept = block.norm != "none" and kept_by == "input"
    result_is_kept = kept_by == "result" and block.dropout > 0  # without dropout the result is the block's output
    return BlockCost(
        parameters=linear_parameters("linear", block.input_width, width) + norm_parameters("norm", block.norm, width),
        forward_flops_per_row=product_flops(block.input_width, width),
        kept_values_per_row=block.input_width + width * (linear_is_kept + normed_is_kept + result_is_kept),
        kept_bytes_per_row=STATISTICS_BYTES_PER_ROW[block.norm] + _mask_bytes(block),
        product_values_per_row=width,
        pending_values_per_row=block.input_width + width,
        input_is_pending=True,
        keeps_output=kept_by == "result" and not block.dropout,
    )


def _residual(block: BlockSetting) -> BlockCost:
    """skip(x) + dropout(activation(linear(norm(x)))): x, norm(x), and the activation's input or result."""
    normed = block.input_width * (block.norm != "none")
    activated = block.output_width * (KEPT_BY_ACTIVATION[block.activation] != "nothing")
    return BlockCost(
        parameters=norm_parameters("norm", block.norm, block.input_width)
        + linear_parameters("linear", block.input_width, block.output_width)
        + _skip_parameters(block),
        forward_flops_per_row=product_flops(block.input_width, block.output_width) + _skip_flops(block),
        kept_values_per_row=block.input_width + normed + activated,
        kept_bytes_per_row=STATISTICS_BYTES_PER_ROW[block.norm] + _mask_bytes(block),
        has_skip=True,
        product_values_per_row=block.output_width * (1 + _projects(block)),
        pending_values_per_row=block.input_width
        + block.output_width
        + _projects(block) * (normed + block.output_width * (block.dropout > 0 or block.activation != "identity")),
        input_is_pending=block.norm == "none" or _projects(block),
    )


def _gated(block: BlockSetting) -> BlockCost:
    """skip(x) + dropout(down(activation(gate(norm(x))) * up(norm(x)))): x, norm(x), both factors, their product."""
    assert isinstance(block.options, Gated)
    inner = gated_inner_width(block.options.expansion, block.output_width)
    normed = block.input_width * (block.norm != "none")
    gate_input = inner * (KEPT_BY_ACTIVATION[block.activation] == "input")
    return BlockCost(
        parameters=norm_parameters("norm", block.norm, block.input_width)
        + linear_parameters("gate", block.input_width, inner)
        + linear_parameters("up", block.input_width, inner)
        + linear_parameters("down", inner, block.output_width)
        + _skip_parameters(block),
        forward_flops_per_row=2 * product_flops(block.input_width, inner)
        + product_flops(inner, block.output_width)
        + _skip_flops(block),
        kept_values_per_row=block.input_width + normed + gate_input + 3 * inner,
        kept_bytes_per_row=STATISTICS_BYTES_PER_ROW[block.norm] + _mask_bytes(block),
        has_skip=True,
        product_values_per_row=2 * inner + block.output_width * (1 + _projects(block)),
        pending_values_per_row=block.input_width
        + 3 * inner
        + block.output_width
        + _projects(block) * (normed + block.output_width * (block.dropout > 0)),
        input_is_pending=block.norm == "none" or _projects(block),
    )


def _mask_bytes(block: BlockSetting) -> int:
    return block.output_width if block.dropout > 0 else 0


def _projects(block: BlockSetting) -> bool:
    """Whether the skip is a product of its own, as widths change."""
    return block.input_width != block.output_width


def _skip_parameters(block: BlockSetting) -> tuple[Parameter, ...]:
    if not _projects(block):
        return ()
    return linear_parameters("skip", block.input_width, block.output_width, bias=False)


def _skip_flops(block: BlockSetting) -> int:
    return product_flops(block.input_width, block.output_width) if _projects(block) else 0


_descriptions: dict[str, DescribeBlock] = {"plain": _plain, "residual": _residual, "gated": _gated}


def register_block_description(name: str, describe: DescribeBlock) -> None:
    """Let `describe` give the cost of the hidden blocks called `name`; it must be pure and import no torch itself.

    Raises:
        ValueError: if the name is taken by another description.
    """
    if _descriptions.get(name, describe) is not describe:
        raise ValueError(f"the block {name!r} already has a description; choose another name")
    _descriptions[name] = describe


def block_cost(block: BlockSetting) -> BlockCost:
    """The cost of one hidden block, from the table.

    Raises:
        KeyError: if the block's name was registered without a description.
    """
    return _descriptions[block.options.name](block)
