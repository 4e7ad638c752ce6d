"""Whether weights may be kept: numbers all, and bit for bit the same on every replica that should have the same.

Replicas on processors of different kinds may differ in the last bit without any fault: they are not compared.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from pipemlp.config.errors import RunFailedError
from pipemlp.config.root import RunConfig
from pipemlp.engine.pipeline import Pipeline

_WHOLE = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def remedy(config: RunConfig) -> str:
    """What the user can do about numbers that are none."""
    return f"lower optimizer.lr ({config.optimizer.lr:g}), or set training.clip_norm, such as 1.0"


def check_weights(pipeline: Pipeline, after: str, config: RunConfig) -> None:
    """Every rank asks.

    Args:
        pipeline: whose weights are looked at.
        after: of what they are, such as `step 12`.
        config: of the run.

    Raises:
        RunFailedError: on every rank, if weights are not finite, or replicas have come apart.
    """
    place = pipeline.place
    tensors = [tensor for layer in pipeline.layer_tensors().values() for tensor in layer.values()]
    states = [state for share in pipeline.shares()[0] for state in (share.values, *share.state.values())]
    compares = place.num_replicas > 1 and not pipeline.replicas_apart
    seen = sum(map(_print_of, tensors)) if compares else 0
    own = all(map(_is_finite, [*tensors, *states])), seen, _kind_of(tensors[0].device)
    everyone = [own] * dist.get_world_size()
    dist.all_gather_object(everyone, own)
    if not all(is_finite for is_finite, _, _ in everyone):
        raise RunFailedError(
            f"the weights, or what the optimizer keeps, are not finite after {after}; {remedy(config)}"
        )
    if not compares or len({kind for _, _, kind in everyone}) > 1:
        return
    for stage in range(place.num_stages):
        prints = [seen for _, seen, _ in everyone[stage * place.num_replicas : (stage + 1) * place.num_replicas]]
        strangers = [replica for replica, seen in enumerate(prints) if seen != prints[0]]
        if strangers:
            raise RunFailedError(
                f"the weights of stage {stage} differ between replica 0 and {', '.join(map(str, strangers))} after "
                f"{after}, though they have to be the same: memory, a device or a network has changed them unseen; "
                "go on from the last checkpoint with pipemlp resume, on other hardware if it comes again"
            )


def _is_finite(values: Tensor) -> bool:
    """By the norm, in one pass and no memory; where squares have no place in the type, by every value."""
    return bool(values.norm().isfinite()) or bool(values.isfinite().all())


def _kind_of(device: torch.device) -> str:
    """Of the processor that computes; for CPUs the instructions that PyTorch's kernels use."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()


def _print_of(values: Tensor) -> int:
    """Another number if a bit is another: the sum of the values read as whole numbers."""
    return int(values.detach().contiguous().view(_WHOLE[values.element_size()]).sum(dtype=torch.int64))
