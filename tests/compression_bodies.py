"""Compressed sums over replicas that are processes: bodies that run on ranks."""

from functools import lru_cache

import torch
import torch.distributed as dist

from pipemlp.config.gradients import CompressionConfig
from pipemlp.gradients.compression import make_compression
from pipemlp.gradients.links import Links
from pipemlp.gradients.pattern import make_pattern


@lru_cache
def links_of_all() -> Links:
    return Links(dist.new_group(list(range(dist.get_world_size()))))


def summed_over(
    settings: CompressionConfig,
    pattern: str,
    shapes: list[tuple[int, ...]],
    gradients: list[list[list[torch.Tensor]]],
) -> tuple[list[list[torch.Tensor]], int]:
    """Body: the sums of several steps of the gradients of every replica, and the bytes that this one sent."""
    links = links_of_all()
    before = links.bytes_sent
    compression = make_compression(settings, make_pattern(pattern, links), links, shapes)
    steps = gradients[links.rank]
    for views in steps:
        compression.sum(views)
    return steps, links.bytes_sent - before
