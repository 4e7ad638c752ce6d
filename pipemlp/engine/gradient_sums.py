"""The sums of gradients over a step: one flat buffer, reduced over the replicas bucket by bucket.

    parameters   0.weight 0.bias | 1.weight 1.bias | ...      in the order of the layers
    buffer       [----------------------------------------]   a view for each parameter
    buckets      [--- bucket ---][------- bucket -------]     runs of one virtual stage's parameters

Every product adds into its view in place; the first of a step overwrites it instead, so that nothing is zeroed
and no temporary has the weight's size. A bucket's reduction starts as soon as its last contribution of the step
is in. How many that are is counted in the first step, which reduces everything at its end. What autograd computes
itself, such as the gradients of norms, it adds to the views; where reductions or types ask for it, we do.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pipemlp.config.errors import RunFailedError
from pipemlp.gradients.bucket import Bucket, BucketExchange, bucketed
from pipemlp.planning.sums import BUCKET_BYTES


@dataclass
class _Progress:
    """A bucket by its index, with what is still to come in this step."""

    index: int
    parameters: list[nn.Parameter]
    missing: int = 0
    is_started: bool = False


@dataclass
class _Sum:
    """The gradient of one parameter."""

    view: Tensor
    bucket: _Progress
    count: int = 0
    expected: int = field(default=-1)


class GradientSums:
    """Takes the gradients of a step's micro-batches and sums them up, over the replicas too.

    Args:
        flat: the buffer, 1-D, in the type of the sums, for all parameters one after the other.
        runs: the parameters in that order, a list for each virtual stage.
        products: those whose gradients come by `add_product` and the like; autograd computes the others, and of these
            what a block does with them besides.
        exchange: makes whoever sums the buckets up over the replicas; None for a single one, or replicas apart.
        bucket_bytes: of a bucket, or of a single parameter.
    """

    def __init__(
        self,
        flat: Tensor,
        runs: Sequence[Sequence[nn.Parameter]],
        products: Collection[nn.Parameter],
        exchange: Callable[[Sequence[Bucket]], BucketExchange] | None = None,
        bucket_bytes: int = BUCKET_BYTES,
    ) -> None:
        self._left_to_autograd: list[tuple[nn.Parameter, Tensor]] = []
        self._sums: dict[nn.Parameter, _Sum] = {}
        self._buckets: list[_Progress] = []
        buckets: list[Bucket] = []
        start = 0
        for run in runs:
            for members in bucketed(run, flat.element_size(), bucket_bytes):
                bucket, first, views = _Progress(len(buckets), members), start, []
                self._buckets.append(bucket)
                for parameter in members:
                    view = flat[start : start + parameter.numel()].view(parameter.shape)
                    views.append(view)
                    self._sums[parameter] = _Sum(view, bucket)
                    start += parameter.numel()
                    if parameter not in products and exchange is None and parameter.dtype == flat.dtype:
                        self._left_to_autograd.append((parameter, view))
                    else:
                        parameter.register_post_accumulate_grad_hook(self._absorb)
                buckets.append(Bucket(flat[first:start], tuple(views)))
        self._exchange = None if exchange is None else exchange(buckets)

    def begin(self) -> None:
        """A step starts: nothing is summed up yet."""
        for own in self._sums.values():
            own.count = 0
        for bucket in self._buckets:
            bucket.is_started = False
            bucket.missing = sum(self._sums[parameter].expected for parameter in bucket.parameters)
        for parameter, view in self._left_to_autograd:
            parameter.grad = view.zero_()

    def add_product(self, weight: nn.Parameter, gradient: Tensor, x: Tensor) -> None:
        """weight.grad += gradient' x, for gradient [..., out] and x [..., in]."""
        own = self._sums[weight]
        if gradient.dim() != 2:
            gradient, x = gradient.flatten(end_dim=-2), x.flatten(end_dim=-2)
        if own.view.dtype == gradient.dtype:
            if own.count:
                own.view.addmm_(gradient.t(), x)
            else:
                torch.mm(gradient.t(), x, out=own.view)
        elif own.view.is_cuda:  # the products' own type goes in, the sum's comes out
            beta = 1 if own.count else 0
            torch.addmm(own.view, gradient.t(), x, out_dtype=own.view.dtype, beta=beta, out=own.view)
        else:
            own.view.addmm_(gradient.t().to(own.view.dtype), x.to(own.view.dtype), beta=1 if own.count else 0)
        self._added(own)

    def add_column_sums(self, bias: nn.Parameter, gradient: Tensor) -> None:
        """bias.grad += the sum of gradient [..., out] over all but its last dimension."""
        own = self._sums[bias]
        if gradient.dim() != 2:
            gradient = gradient.flatten(end_dim=-2)
        self._add(own, gradient.sum(0, dtype=own.view.dtype))

    def add_rows(self, table: nn.Parameter, indices: Tensor, gradient: Tensor) -> None:
        """table.grad[indices[i]] += gradient[i]."""
        own = self._sums[table]
        if not own.count:
            own.view.zero_()
        width = gradient.shape[-1]
        own.view.index_add_(0, indices.flatten(), gradient.reshape(-1, width).to(own.view.dtype))
        self._added(own)

    def _absorb(self, parameter: nn.Parameter) -> None:
        """Add what autograd has computed."""
        if parameter.grad is not None:
            self._add(self._sums[parameter], parameter.grad)
            parameter.grad = None

    def _add(self, own: _Sum, gradient: Tensor) -> None:
        if own.count:
            own.view.add_(gradient)
        else:
            own.view.copy_(gradient)
        self._added(own)

    def _added(self, own: _Sum) -> None:
        own.count += 1
        bucket = own.bucket
        bucket.missing -= 1
        if bucket.missing == 0:
            self._reduce(bucket)

    def _reduce(self, bucket: _Progress) -> None:
        bucket.is_started = True
        if self._exchange is not None:
            self._exchange.start(bucket.index)

    def finish(self) -> Iterable[tuple[nn.Parameter, Tensor]]:
        """Wait for the reductions; every parameter with the sum of its gradients over micro-batches and replicas.

        Raises:
            RunFailedError: if a module computed its gradients another number of times than in the first step.
        """
        for bucket in self._buckets:
            for parameter in bucket.parameters:
                own = self._sums[parameter]
                if own.expected not in (-1, own.count):
                    raise RunFailedError(
                        f"a parameter of shape {tuple(parameter.shape)} had {own.count} gradients in this step and "
                        f"{own.expected} in the first; a block must use its parameters equally often in every step"
                    )
                own.expected = own.count
                if not own.count and parameter.grad is None:
                    own.view.zero_()
            if not bucket.is_started:
                self._reduce(bucket)
        if self._exchange is not None:
            self._exchange.finish()
        return [(parameter, own.view) for parameter, own in self._sums.items()]
