"""The pass of one micro-batch through a virtual stage, as its products see it: weight gradients now or later.

    forward    y = x W'            keeps x (and W, which is a parameter)
    I          dx = g W            notes (x, g)
    W          dW += g' x          straight into the buffer of the sum, when the schedule says so

A layer whose gradient has parts that others do not wait for asks `current_pass()` in its forward, keeps the
answer, and hands that part to `weight_gradient` in its backward. Outside the executor there is no pass, and
layers are ordinary torch modules. `SplitLinear` and `SplitEmbedding` do so; blocks of one's own get it from them.
"""

from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

Task = Callable[[], None]


class GradientSums(Protocol):
    """Where the gradients of parameters are summed up over the micro-batches."""

    def add_product(self, weight: nn.Parameter, gradient: Tensor, x: Tensor) -> None:
        """weight.grad += gradient' x, for gradient [n, out] and x [n, in]."""

    def add_column_sums(self, bias: nn.Parameter, gradient: Tensor) -> None:
        """bias.grad += the sum of gradient [n, out] over its rows."""

    def add_rows(self, table: nn.Parameter, indices: Tensor, gradient: Tensor) -> None:
        """table.grad[indices[i]] += gradient[i], for indices [n] and gradient [n, width]."""


class Pass:
    """One micro-batch on its way through a virtual stage and back; `with` it around the forward, layers find it.

    Args:
        sums: takes the weight gradients.
        keeps_products: the forward runs without autograd and keeps the result of every product; the backward
            runs it again under autograd, and products give what was kept (`recompute: elementwise`).

    Attributes:
        defers: whether weight gradients are noted for `finish` instead of computed at once.
    """

    __slots__ = ("_keeps_products", "_later", "_outer", "_products", "_sums", "defers")

    def __init__(self, sums: GradientSums, *, keeps_products: bool = False) -> None:
        self._sums = sums
        self._keeps_products = keeps_products
        self._products: deque[Tensor] = deque()
        self._outer: Pass | None = None
        self.defers = False
        self._later: list[Task] = []

    def __enter__(self) -> None:
        global _current
        self._outer, _current = _current, self

    def __exit__(self, *error: object) -> None:
        global _current
        _current, self._outer = self._outer, None

    def weight_gradient(self, task: Task) -> None:
        """Run `task`, which adds to a sum of gradients, now or when the schedule says so."""
        if self.defers:
            self._later.append(task)
        else:
            task()

    @torch.no_grad()
    def finish(self) -> None:
        """Compute the weight gradients that were put off, and let go of what they need one by one."""
        self._later.reverse()
        while self._later:
            self._later.pop()()

    def product(self, x: Tensor, weight: nn.Parameter, bias: nn.Parameter | None) -> Tensor:
        """x [n, in] W' + b, with the split backward."""
        if not torch.is_grad_enabled():
            result = functional.linear(x, weight, bias)
            if self._keeps_products:
                self._products.append(result)
            return result
        if self._products or not x.requires_grad:
            kept = self._products.popleft() if self._products else None
            replayed: Tensor = _Product.apply(x, _anchor(x.device), weight, bias, self, kept)
            return replayed
        # the same by autograd's own product, which takes less time: it gives dx, and we see the gradient pass
        result = functional.linear(x, weight.detach(), None if bias is None else bias.detach())
        version = x._version

        def see(gradients: tuple[Tensor, ...]) -> None:
            if x._version != version:
                raise RuntimeError("the input of a linear layer was changed in place; its gradient needs what it was")
            self.add_product(weight, bias, gradients[0], x)

        result.grad_fn.register_prehook(see)
        return result

    def lookup(self, indices: Tensor, table: nn.Parameter) -> Tensor:
        """Rows of the table [n, width] for indices [n], with the split backward."""
        if torch.is_grad_enabled():
            result: Tensor = _Lookup.apply(indices, _anchor(indices.device), table, self)
            return result
        return functional.embedding(indices, table)

    def add_product(self, weight: nn.Parameter, bias: nn.Parameter | None, gradient: Tensor, x: Tensor) -> None:
        """The gradients of the weight and the bias of a product, when the schedule says so."""
        if self.defers:
            values = x.detach()  # x itself would keep the graph in front of it, and with it what entered
            self._later.append(lambda: self._add_product(weight, bias, gradient, values))
        else:
            self._add_product(weight, bias, gradient, x)

    def _add_product(self, weight: nn.Parameter, bias: nn.Parameter | None, gradient: Tensor, x: Tensor) -> None:
        self._sums.add_product(weight, gradient, x)
        if bias is not None:
            self._sums.add_column_sums(bias, gradient)

    def add_rows(self, table: nn.Parameter, indices: Tensor, gradient: Tensor) -> None:
        """The gradient of the rows of a table, when the schedule says so."""
        self.weight_gradient(lambda: self._sums.add_rows(table, indices, gradient))


_current: Pass | None = None


def current_pass() -> Pass | None:
    """The pass whose forward is running; None outside the executor."""
    return _current


@lru_cache(maxsize=16)
def _anchor(device: torch.device) -> Tensor:
    """Something that needs a gradient, so that autograd comes back to a product whose input needs none.

    The weight would do, but autograd would visit it in every backward.
    """
    return torch.zeros((), device=device, requires_grad=True)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        anchor: Tensor,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        own: Pass,
        kept: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.own, ctx.weight, ctx.bias = own, weight, bias
        return functional.linear(x, weight, bias) if kept is None else kept.view_as(kept)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None, None, None]:
        (x,) = ctx.saved_tensors
        ctx.own.add_product(ctx.weight, ctx.bias, gradient, x)
        return (gradient @ ctx.weight if ctx.needs_input_grad[0] else None), None, None, None, None, None


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, indices: Tensor, anchor: Tensor, table: nn.Parameter, own: Pass) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.own, ctx.table = own, table
        return functional.embedding(indices, table)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None, None]:
        (indices,) = ctx.saved_tensors
        ctx.own.add_rows(ctx.table, indices, gradient)
        return None, None, None, None


class SplitLinear(nn.Linear):
    """`nn.Linear` whose weight gradient waits for the schedule's `W`, and never exists twice."""

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        weight, bias = self._parameters["weight"], self._parameters["bias"]  # looked up once: small layers feel it
        assert isinstance(weight, nn.Parameter)
        if _current is None:
            return functional.linear(x, weight, bias)
        return _current.product(x, weight, bias)


class SplitEmbedding(nn.Embedding):
    """`nn.Embedding` (of plain options) whose gradient waits for the schedule's `W`."""

    def forward(self, indices: Tensor) -> Tensor:
        """Indices [n] -> [n, width]."""
        own = current_pass()
        if own is None:
            return functional.embedding(indices, self.weight)
        return own.lookup(indices, self.weight)


def split_parameters(module: nn.Module) -> set[nn.Parameter]:
    """The parameters whose gradients come by a pass, not by autograd."""
    split = [part for part in module.modules() if isinstance(part, SplitLinear | SplitEmbedding)]
    return {parameter for part in split for parameter in part.parameters(recurse=False)}
