"""The sums of gradients, whoever computes them: products, autograd, both; one replica."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipemlp.engine.gradient_sums import GradientSums
from pipemlp.engine.virtual_stage import VirtualStage
from pipemlp.model.dropout import DropoutKey
from pipemlp.model.weight_gradients import SplitLinear, split_parameters

KEY = DropoutKey(0, 0, 0)


class UsedTwice(nn.Module):
    """A split layer whose weight the block multiplies by hand, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = SplitLinear(6, 6)

    def forward(self, x, key):
        return self.layer(x) + functional.linear(x, self.layer.weight * 0.5, self.layer.bias)


class ByHandOnly(UsedTwice):
    """It is never called."""

    def forward(self, x, key):
        return functional.linear(x, self.layer.weight * 0.5, self.layer.bias)


class Unused(UsedTwice):
    """No gradient at all."""

    def forward(self, x, key):
        return x * 2.0


class ChangesItsInput(UsedTwice):
    """What the product has read is overwritten."""

    def forward(self, x, key):
        hidden = x * 2.0
        y = self.layer(hidden)
        hidden.add_(1.0)
        return y


def step_of(module: nn.Module, recompute, defer: bool) -> dict:
    """The sums after two micro-batches, over whatever the buffer held."""
    parameters = list(module.parameters())
    flat = torch.full((sum(p.numel() for p in parameters),), float("nan"), dtype=torch.float64)
    sums = GradientSums(flat, [parameters], split_parameters(module))
    stage = VirtualStage([module], recompute, None)
    sums.begin()
    for x in batches():
        _, kept = stage.forward(x.clone(), KEY, None, sums)
        kept.backward(torch.ones(4, 6, dtype=torch.float64), defer=defer)
        kept.finish()
    return dict(sums.finish())


def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in range(2)]


@pytest.mark.parametrize("recompute", [0, 1, "elementwise"])
@pytest.mark.parametrize("defer", [False, True])
@pytest.mark.parametrize("block", [UsedTwice, ByHandOnly, Unused])
def test_the_sums_are_those_of_autograd(block, recompute, defer):
    module, plain = block().double(), block().double()
    plain.load_state_dict(module.state_dict())
    for x in batches():
        y = plain(x.requires_grad_(), KEY)
        y.sum().backward()
    found = step_of(module, recompute, defer)
    for parameter, expected in zip(module.parameters(), plain.parameters(), strict=True):
        gradient = torch.zeros_like(expected) if expected.grad is None else expected.grad
        torch.testing.assert_close(found[parameter], gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("recompute", [0, 1])
def test_an_input_that_was_changed_in_place_is_noticed(recompute):
    with pytest.raises(RuntimeError, match="changed in place"):
        step_of(ChangesItsInput().double(), recompute, defer=True)
