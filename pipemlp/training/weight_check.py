"""Whether weights may be kept: numbers all, and bit for bit the same on every replica that should have the same.

Replicas on processors of different kinds may differ in the last bit without any fault: they are not compared.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from pipemlp.config.errors import NotFiniteError, RunFailedError
from pipemlp.config.root import RunConfig
from pipemlp.engine.pipeline import Pipeline

_WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_BLOCK = 2**20
"""Values that are looked at together."""
_BASE = 1_000_003


def remedy(config: RunConfig) -> str:
    """What the user can do about numbers that are none."""
    return f"lower optimizer.lr ({config.optimizer.lr:g}), or set training.clip_norm, such as 1.0"


def check_weights(pipeline: Pipeline, after: str, config: RunConfig) -> None:
    """Every rank asks; compared are weights, and what the optimizer keeps of them where every replica keeps it all.

    Args:
        pipeline: whose weights are looked at.
        after: of what they are, such as `step 12`.
        config: of the run.

    Raises:
        RunFailedError: on every rank, if weights are not finite, or replicas have come apart.
    """
    place, (shares, replicated) = pipeline.place, pipeline.shares()
    weights = [tensor for layer in pipeline.layer_tensors().values() for tensor in layer.values()]
    # where the optimizer has no copies of the weights in another type, its values are the weights
    kept = [share.values for share in shares if share.values.dtype != weights[0].dtype]
    kept += [tensor for share in shares for tensor in share.state.values() if isinstance(tensor, Tensor)]
    compares = compares_replicas(pipeline)
    prints = (_print_of(weights), _print_of(kept) if replicated else 0) if compares else (0, 0)
    own = all(map(_is_finite, [*weights, *kept])), prints, _kind_of(weights[0].device)
    everyone = [own] * dist.get_world_size()
    dist.all_gather_object(everyone, own)
    if not all(is_finite for is_finite, _, _ in everyone):
        raise NotFiniteError(
            f"the weights, or what the optimizer keeps, are not finite after {after}; {remedy(config)}"
        )
    if not compares or len({kind for _, _, kind in everyone}) > 1:
        return
    for stage in range(place.num_stages):
        seen = [prints for _, prints, _ in everyone[stage * place.num_replicas : (stage + 1) * place.num_replicas]]
        strangers = [replica for replica, prints in enumerate(seen) if prints != seen[0]]
        if strangers:
            what = "the weights" if any(prints[0] != seen[0][0] for prints in seen) else "what the optimizer keeps"
            raise RunFailedError(
                f"{what} of stage {stage} differ between replica 0 and {', '.join(map(str, strangers))} after "
                f"{after}, though they have to be the same: memory, a device or a network has changed them unseen; "
                "go on from the last checkpoint with pipemlp resume, on other hardware if it comes again"
            )


def _is_finite(values: Tensor) -> bool:
    """By the norm, in one pass and no memory; where squares have no place in the type, by every value."""
    return bool(values.norm().isfinite()) or bool(values.isfinite().all())


def _kind_of(device: torch.device) -> str:
    """Of the processor that computes; for CPUs the instructions that PyTorch's kernels use."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()


def compares_replicas(pipeline: Pipeline) -> bool:
    """Whether there are replicas that have to be the same between two steps."""
    return pipeline.place.num_replicas > 1 and not pipeline.replicas_apart


def _print_of(tensors: Iterable[Tensor]) -> int:
    """Another number if a bit is another, or two values have changed places: read as whole numbers, each with a factor
    that goes with its place, odd so that no bit is shifted out."""
    found = 0
    for tensor in tensors:
        values = tensor.detach().contiguous().view(-1).view(_WHOLE[tensor.element_size()])
        factors = torch.arange(1, 2 * min(_BLOCK, len(values)) + 1, 2, device=values.device)
        for block in values.split(_BLOCK):
            found = (found * _BASE + int((block * factors[: len(block)]).sum())) % 2**61
    return found
