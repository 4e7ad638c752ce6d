"""One replica's share of a stage's parameters, and the optimizer that moves them.

    bucket       [ part 0 | part 1 | part 2 | part 3 ]     of the gradients, and of the parameters alike
    replica 1             [ served ]                       its part of every bucket

The served values are kept in the type of the sums, float32, whatever type the parameters are sent in. Optimizers
move every value by itself (see engine/optimizer.py), so that a share is as good as the whole.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from pipemlp.gradients.bucket import Bucket
from pipemlp.gradients.parts import part_of


class ParameterServer:
    """Serves its part of every bucket.

    Args:
        parameters: of the whole stage, in buckets; in the type in which they are sent.
        dtype: of the served values.
        index, num_servers: whose part it is.
        build_optimizer: of parameters.
        device: of the served values; that of the parameters unless it says otherwise.
    """

    def __init__(
        self,
        parameters: Sequence[Bucket],
        dtype: torch.dtype,
        index: int,
        num_servers: int,
        build_optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        device: torch.device | str | None = None,
    ) -> None:
        self.index, self.num_servers = index, num_servers
        self._own = [bucket.values[part_of(len(bucket.values), num_servers, index)] for bucket in parameters]
        self._values = nn.Parameter(torch.cat(self._own).to(device=device, dtype=dtype))
        self._optimizer = build_optimizer([self._values])

    @torch.no_grad()
    def update(self, gradient: Tensor, learning_rate: float) -> None:
        """Take a step; the gradient is 1-D, of the served values in the order of the buckets."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._values.grad = gradient
        self._optimizer.step()
        self._values.grad = None

    @torch.no_grad()
    def write(self) -> None:
        """Put the served values where this replica's parameters are."""
        start = 0
        for own in self._own:
            own.copy_(self._values[start : start + len(own)])
            start += len(own)

    @property
    def values(self) -> nn.Parameter:
        """The served values, 1-D, in the order of the buckets."""
        return self._values

    @property
    def optimizer_state(self) -> dict[str, Tensor]:
        """The optimizer's tensors about them, which there are from the first step on; the very dictionary."""
        return self._optimizer.state[self._values]

    def message(self, dtype: torch.dtype) -> Tensor:
        """The served values as they are sent, 1-D."""
        return self._values.detach().to(dtype)


@torch.no_grad()
def flattened(runs: Sequence[Sequence[nn.Parameter]]) -> list[Bucket]:
    """Put the parameters of every bucket into one tensor, of which they become views."""
    buckets = []
    for run in runs:
        values = torch.cat([parameter.detach().flatten() for parameter in run])
        views, start = [], 0
        for parameter in run:
            views.append(values[start : start + parameter.numel()].view(parameter.shape))
            parameter.data = views[-1]
            start += parameter.numel()
        buckets.append(Bucket(values, tuple(views)))
    return buckets
