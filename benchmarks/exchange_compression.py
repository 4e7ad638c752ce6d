"""The exchange of one step's gradients of the fixed model, compressed in every way, against the plain ring."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from types import MappingProxyType

from findings import Finding, ratio_of
from slow_links import SlowLinks
from start_ranks import run_ranks

WIDTH, DEPTH, ROWS = 1024, 4, 64
"""Of the fixed model, and rows per replica."""
PLAIN = "none"
WAYS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        PLAIN: {"pattern": "ring"},
        "bf16": {"pattern": "ring", "compression": "bf16"},
        "int8": {"pattern": "fully-connected", "compression": "int8"},
        "onebit": {"pattern": "fully-connected", "compression": "onebit"},
        "topk": {"pattern": "fully-connected", "compression": {"name": "topk", "ratio": 0.01}},
        "powersgd": {"pattern": "ring", "compression": {"name": "powersgd", "rank": 4}},
    }
)
"""The section `gradients` of each; those that add up hop by hop go around the ring."""
WANTED = {"bf16": 1.8, "int8": 3.0, "onebit": 8.0, "topk": 10.0, "powersgd": 10.0}
"""Times faster, at 100 Mbit/s."""
NUM_STEPS_OF_GRADIENTS = 4


def compression_findings(options: argparse.Namespace, folder: Path, links: SlowLinks) -> list[Finding]:
    """Behind slow links."""
    num_replicas, rounds = len(links.namespaces), max(3, options.rounds // 3)
    seconds, sent = run_ranks("exchange_compression:time_compressions", (rounds,), num_replicas, folder, links)
    found = []
    for name, wanted in WANTED.items():
        details = {
            "seconds": seconds[name],
            "plain_seconds": seconds[PLAIN],
            "bytes_sent": sent[name],
            "plain_bytes_sent": sent[PLAIN],
            "times_fewer_bytes": sent[PLAIN] / sent[name],
        }
        what = (
            f"{name} : plain ring, {1e3 * median(seconds[name]):.0f} : {1e3 * median(seconds[PLAIN]):.0f} ms, "
            f"{sent[PLAIN] / sent[name]:.1f}x fewer bytes"
        )
        ratio = ratio_of(seconds[PLAIN], seconds[name])
        goal = wanted if links.rate.megabits == 100 else None
        link = f"{links.rate.megabits} Mbit/s"
        found.append(Finding("compression", what, link, num_replicas, *ratio, goal, details=details))
    return found


def time_compressions(num_rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Run on every rank: seconds of an exchange by every way, and the bytes that a replica sent in it."""
    import torch
    import torch.distributed as dist
    from timed_calls import timed_calls
    from torch import nn

    from pipemlp.config.gradients import GradientsConfig
    from pipemlp.engine.updates.exchanging import in_buckets, pattern_exchange
    from pipemlp.gradients.links import Links
    from pipemlp.gradients.meter import Meter
    from pipemlp.planning.sums import BUCKET_BYTES, COMPRESSED_BUCKET_BYTES

    torch.manual_seed(1)
    model = nn.Sequential(*(part for _ in range(DEPTH) for part in (nn.Linear(WIDTH, WIDTH), nn.ReLU())))
    gradients = _gradients(model, NUM_STEPS_OF_GRADIENTS)
    meters, flats, exchanges, numbers = {}, {}, {}, {}
    for name, section in WAYS.items():
        config = GradientsConfig.model_validate(section)
        meters[name], flats[name] = Meter(), torch.empty_like(gradients[0])
        bucket_bytes = BUCKET_BYTES if config.compression.name == "none" else COMPRESSED_BUCKET_BYTES
        buckets = in_buckets(flats[name], list(model.parameters()), bucket_bytes)
        exchanges[name], _ = pattern_exchange(config, buckets, Links(dist.new_group()), meters[name])
        numbers[name] = range(len(buckets))

    def call(name: str) -> None:
        for index in numbers[name]:
            exchanges[name].start(index)
        exchanges[name].finish()

    seconds = timed_calls(
        {name: lambda n=name: call(n) for name in WAYS},
        num_rounds,
        before=lambda name, index: flats[name].copy_(gradients[index % len(gradients)]),
    )
    return seconds, {name: meter.bytes_sent / meter.num_steps for name, meter in meters.items()}


def _gradients(model: "nn.Module", num_steps: int) -> list["torch.Tensor"]:  # type: ignore[name-defined]  # noqa: F821
    """Of this replica's own rows, each time others; flat."""
    import torch
    import torch.distributed as dist

    generator = torch.Generator().manual_seed(dist.get_rank())
    found = []
    for _ in range(num_steps):
        inputs, target = torch.randn(2, ROWS, WIDTH, generator=generator)
        model.zero_grad()
        (model(inputs) - target).square().mean().backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    return found
