"""A plug-in as a user would write it: a mixer block, which sees a row as tokens x channels.

Use it with `pipemlp train CONFIG --plugin mixer_plugin`, and in the config

    model:
      hidden:
        - {width: 1024, block: plain}             # to the mixers' width, which they keep
        - {width: 1024, repeat: 8}                # 16 tokens x 64 channels
      block: {name: mixer, tokens: 16}

Source: Tolstikhin et al., 2021 (https://arxiv.org/abs/2105.01601), with one product for each direction.
"""

from torch import Tensor, nn

from pipemlp.config.errors import ConfigError
from pipemlp.config.section import Named, Positive
from pipemlp.model.activations import ACTIVATIONS
from pipemlp.model.blocks import register_block
from pipemlp.model.dropout import Dropout, DropoutKey
from pipemlp.planning.block_parts import BlockCost, BlockSetting, linear_parameters, product_flops
from pipemlp.planning.layers import LayerDescription


class MixerOptions(Named):
    """`block: {name: mixer, tokens: 16}`."""

    tokens: Positive
    """Number of tokens; the width is tokens x channels."""


def describe_mixer(block: BlockSetting) -> BlockCost:
    """Shapes, FLOPs and bytes of one mixer block: plain numbers, no torch."""
    width, tokens = block.output_width, block.options.tokens
    if block.input_width != width or width % tokens:
        raise ConfigError(
            f"model.hidden: a mixer of {tokens} tokens keeps the width and divides it, "
            f"but {block.input_width} values enter and {width} leave"
        )
    channels = width // tokens
    keeps_activation = block.activation != "identity"
    return BlockCost(
        parameters=linear_parameters("mix_tokens", tokens, tokens)
        + linear_parameters("mix_channels", channels, channels),
        forward_flops_per_row=channels * product_flops(tokens, tokens) + tokens * product_flops(channels, channels),
        kept_values_per_row=width * (2 + keeps_activation),  # the inputs of both products, and the activation's
        kept_bytes_per_row=width if block.dropout > 0 else 0,  # the mask
        has_skip=True,
    )


@register_block("mixer", describe=describe_mixer, options=MixerOptions)
class MixerBlock(nn.Module):
    """h = x + mix_tokens(x^T)^T; result = h + dropout(activation(mix_channels(h)))."""

    activated = ("mix_channels",)

    def __init__(self, layer: LayerDescription) -> None:
        super().__init__()
        self.tokens = dict(layer.options)["tokens"]
        channels = layer.output_width // self.tokens
        self.mix_tokens = nn.Linear(self.tokens, self.tokens)
        self.mix_channels = nn.Linear(channels, channels)
        self.activation = ACTIVATIONS[layer.activation]
        self.dropout = Dropout(layer.dropout, layer.index)

    def forward(self, x: Tensor, dropout_key: DropoutKey | None = None) -> Tensor:
        """x [n, tokens * channels] -> [n, tokens * channels]."""
        grid = x.unflatten(1, (self.tokens, -1))
        grid = grid + self.mix_tokens(grid.mT.contiguous()).mT
        branch = self.activation(self.mix_channels(grid)).flatten(1)
        return grid.flatten(1) + self.dropout(branch, dropout_key)
