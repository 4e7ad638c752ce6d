"""The module class of each kind of layer; plug-ins add their blocks to the same table."""

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from pipemlp.config.registry import register_name
from pipemlp.config.section import Named
from pipemlp.model.gated import GatedBlock
from pipemlp.model.input import InputLayer
from pipemlp.model.output import OutputHead
from pipemlp.model.plain import PlainBlock
from pipemlp.model.residual import ResidualBlock
from pipemlp.planning.block_costs import DescribeBlock, register_block_description

Module = TypeVar("Module", bound=nn.Module)

_modules: dict[str, type[nn.Module]] = {
    "input": InputLayer,
    "plain": PlainBlock,
    "residual": ResidualBlock,
    "gated": GatedBlock,
    "output": OutputHead,
}


def module_class(kind: str) -> type[nn.Module]:
    """The class that builds layers of this kind from their description."""
    return _modules[kind]


def register_block(
    name: str, *, describe: DescribeBlock, options: type[Named] | None = None
) -> Callable[[type[Module]], type[Module]]:
    """Decorate a block's module class so that `model.block: NAME` builds it.

    The class is constructed as `cls(layer: LayerDescription)` and called as `block(x, dropout_key)`, with
    x [n, layer.input_width] and a result [n, layer.output_width]. It draws nothing itself: matrices are
    drawn by `model.init`, with the activation's gain for those of the submodules named in its class
    attribute `activated`; biases start at zero, other vectors at one. Tensors that are not parameters
    must be buffers.

    Args:
        name: as written in the config.
        describe: from a `BlockSetting` to the `BlockCost` of the same block, without torch; it may raise
            `ConfigError` for widths or options that do not go together.
        options: the model of the block's own keys; none when left out.

    Raises:
        ValueError: if the name is taken.
    """
    if name in _modules:
        raise ValueError(f"the block name {name!r} is already taken; choose another")
    register_name("block", name, options)
    register_block_description(name, describe)

    def enter(cls: type[Module]) -> type[Module]:
        _modules[name] = cls
        return cls

    return enter
