"""Patterns against gloo's own all-reduce, and the ring against what its link allows."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from findings import Finding, ratio_of
from slow_links import SlowLinks
from start_ranks import run_ranks

PATTERNS = ("backend", "ring", "tree", "fully-connected")
KIB, MIB = 2**10, 2**20
SUMS_OF_SMALL = {4 * KIB: 20, 64 * KIB: 10, 256 * KIB: 5}
"""Sums one after the other that are timed together, by the bytes of each; of larger ones, one."""
LOOPBACK = {
    2: (4 * KIB, 64 * KIB, 1 * MIB, 16 * MIB, 64 * MIB),
    4: (4 * KIB, 64 * KIB, 1 * MIB, 16 * MIB, 64 * MIB),
    8: (4 * KIB, 64 * KIB, 1 * MIB),
}
"""Bytes that are summed, by replicas."""
SLOW = (1 * MIB, 16 * MIB)
QUICK_BYTES = 16 * MIB
WANTED_OF_GLOO = {1 * MIB: 0.75, 16 * MIB: 0.9, 64 * MIB: 0.9}
"""Of gloo's speed, for the ring at four replicas."""
WANTED_OF_BOUND = 0.9


def loopback_findings(options: argparse.Namespace, folder: Path) -> list[Finding]:
    """Unshaped."""
    found = []
    for num_replicas, sizes in LOOPBACK.items():
        if options.quick:
            sizes = tuple(size for size in sizes if size <= QUICK_BYTES)
        seconds = run_ranks("exchange_patterns:time_patterns", (sizes, options.rounds), num_replicas, folder)
        for size in sizes:
            found += _against_gloo(num_replicas, size, seconds[size])
    return found


def slow_findings(options: argparse.Namespace, folder: Path, links: SlowLinks) -> list[Finding]:
    """Behind slow links: every pattern's speed as a share of the bound for all of them."""
    num_replicas = len(links.namespaces)
    rounds = max(3, options.rounds // 4)
    sizes = SLOW[:1] if options.quick else SLOW
    seconds = run_ranks("exchange_patterns:time_patterns", (sizes, rounds), num_replicas, folder, links)
    found = []
    for size in sizes:
        bound = 2 * (num_replicas - 1) / num_replicas * size * 8 / (links.rate.megabits * 1e6)
        for pattern, own in seconds[size].items():
            wanted = WANTED_OF_BOUND if pattern == "ring" and links.rate.megabits == 100 else None
            share, low, high = ratio_of([bound] * len(own), own)
            what = f"{pattern} : bandwidth bound, {size_text(size)}"
            details = {"bytes": size, "seconds": own, "bound_seconds": bound}
            link = f"{links.rate.megabits} Mbit/s"
            found.append(Finding("patterns", what, link, num_replicas, share, low, high, wanted, details=details))
    return found


def _against_gloo(num_replicas: int, size: int, seconds: dict[str, list[float]]) -> list[Finding]:
    found = []
    for pattern in PATTERNS[1:]:
        wanted = WANTED_OF_GLOO.get(size) if pattern == "ring" and num_replicas == 4 else None
        ratio = ratio_of(seconds["backend"], seconds[pattern])
        details = {"bytes": size, "seconds": seconds[pattern], "bus_bytes_per_second": {}}
        details["bus_bytes_per_second"] = {
            name: 2 * (num_replicas - 1) / num_replicas * size / median(own) for name, own in seconds.items()
        }
        what = f"{pattern} : gloo, {size_text(size)}"
        found.append(Finding("patterns", what, "loopback", num_replicas, *ratio, wanted, details=details))
    if num_replicas == 8:
        ratio = ratio_of(seconds["ring"], seconds["tree"])
        wanted = 1.0 if size == min(LOOPBACK[8]) else None
        found.append(Finding("patterns", f"tree : ring, {size_text(size)}", "loopback", 8, *ratio, wanted))
    return found


def size_text(num_bytes: int) -> str:
    """In KiB or MiB."""
    return f"{num_bytes // MIB} MiB" if num_bytes >= MIB else f"{num_bytes // KIB} KiB"


def time_patterns(sizes: Sequence[int], num_rounds: int) -> dict[int, dict[str, list[float]]]:
    """Run on every rank: the seconds of one sum by every pattern, in every round, by size.

    Raises:
        RuntimeError: if a sum is wrong.
    """
    import torch
    import torch.distributed as dist
    from timed_calls import timed_calls

    from pipemlp.gradients.links import Links
    from pipemlp.gradients.pattern import make_pattern

    patterns = {name: make_pattern(name, Links(dist.new_group())) for name in PATTERNS}
    found = {}
    for size in sizes:
        values, num_sums = torch.ones(size // 4), SUMS_OF_SMALL.get(size, 1)

        def call(name: str, values: torch.Tensor = values, num_sums: int = num_sums) -> None:
            for _ in range(num_sums):
                patterns[name].sum(values)

        def check(name: str, index: int, values: torch.Tensor = values, num_sums: int = num_sums) -> None:
            if values[-1] not in (1, float(dist.get_world_size()) ** num_sums):
                raise RuntimeError(f"a sum of ones is {values[-1]}")
            values.fill_(1.0)

        seconds = timed_calls({name: lambda n=name: call(n) for name in PATTERNS}, num_rounds, 2, check)
        found[size] = {name: [each / num_sums for each in own] for name, own in seconds.items()}
    return found
