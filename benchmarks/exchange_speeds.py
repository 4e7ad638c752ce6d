"""Samples per second of whole training steps: local against synchronous, asynchronous among stragglers; overlap."""

import argparse
from pathlib import Path
from statistics import median

from findings import Finding, middle_half, ratio_of
from slow_links import SlowLinks
from start_ranks import run_ranks

LOCAL_STEPS = 32
WANTED_LOCAL = 8.0
STEP_SECONDS = 0.6
"""Of a step's sleeps, where there are stragglers: much more than what four replicas compute on two cores."""
BOUNDS = {"one": None, "some": 4}
"""The bound of staleness, by the kind of stragglers."""
WANTED_ASYNCHRONOUS = {"one": 1.8, "some": 1.3}
STRAGGLERS = {"one": "one replica always 3x slower, no bound", "some": "5x slower with probability 0.1, bound 4"}
NUM_REPLICAS = 4
WANTED_HIDDEN = 0.6
OVERLAP_DEPTHS = (4, 8)


def local_findings(options: argparse.Namespace, folder: Path, links: SlowLinks) -> list[Finding]:
    """Behind slow links: steps per second of local updates over those of synchronous ones."""
    num_replicas = len(links.namespaces)
    arguments = (2 if options.quick else 6, 1 if options.quick else 3)
    synchronous, local = run_ranks("exchange_speeds:time_local", arguments, num_replicas, folder, links)
    ratio = ratio_of(synchronous, local)
    what = (
        f"local with {LOCAL_STEPS} steps : synchronous, "
        f"{1e3 * median(local):.0f} : {1e3 * median(synchronous):.0f} ms a step"
    )
    details = {"local_seconds": local, "synchronous_seconds": synchronous}
    wanted = WANTED_LOCAL if links.rate.megabits == 100 else None
    return [Finding("local", what, f"{links.rate.megabits} Mbit/s", num_replicas, *ratio, wanted, details=details)]


def time_local(num_steps: int, num_rounds: int) -> tuple[list[float], list[float]]:
    """Run on every rank: seconds per step, synchronous and local."""
    from replica_pipeline import ReplicaPipeline
    from timed_calls import timed_calls

    synchronous = ReplicaPipeline({"pattern": "ring"})
    local = ReplicaPipeline({"pattern": "ring", "update": {"name": "local", "local_steps": LOCAL_STEPS}})
    calls = {"synchronous": lambda: synchronous.train(num_steps), "local": lambda: local.train(LOCAL_STEPS)}
    seconds = timed_calls(calls, num_rounds)
    return [each / num_steps for each in seconds["synchronous"]], [each / LOCAL_STEPS for each in seconds["local"]]


def asynchronous_findings(options: argparse.Namespace, folder: Path) -> list[Finding]:
    """Over loopback: four replicas of sleeping layers."""
    found = []
    for kind, wanted in WANTED_ASYNCHRONOUS.items():
        arguments = (kind, 8 if options.quick else 30, 1 if options.quick else 3)
        seconds, staleness = run_ranks("exchange_speeds:time_asynchronous", arguments, NUM_REPLICAS, folder)
        synchronous, free = seconds["synchronous"], seconds["asynchronous"]
        details = {"synchronous_seconds": synchronous, "asynchronous_seconds": free, **staleness}
        what = (
            f"{STRAGGLERS[kind]}: asynchronous : synchronous, "
            f"{1e3 * median(free):.0f} : {1e3 * median(synchronous):.0f} ms a step"
        )
        ratio = ratio_of(synchronous, free)
        found.append(Finding("asynchronous", what, "loopback", NUM_REPLICAS, *ratio, wanted, details=details))
    return found


def time_asynchronous(
    stragglers: str, num_steps: int, num_rounds: int
) -> tuple[dict[str, list[float]], dict[str, object]]:
    """Run on every rank: seconds per step of all replicas, and how stale the updates of rank 0's server were."""
    from emulated_parts import calibrate_parts
    from replica_pipeline import ReplicaPipeline
    from timed_calls import timed_calls

    depth = 4
    calibrate_parts(STEP_SECONDS / depth / 3)
    block = {"name": "paced", "seconds": STEP_SECONDS / depth, "stragglers": stragglers}
    server = {"pattern": "parameter-server"}
    update = {"name": "asynchronous", "max_staleness": BOUNDS[stragglers]}
    pipelines = {
        "synchronous": ReplicaPipeline(server, block, depth),
        "asynchronous": ReplicaPipeline(server | {"update": update}, block, depth),
    }
    calls = {name: lambda own=own: own.train(num_steps) for name, own in pipelines.items()}
    for own in pipelines.values():
        own.train(2)
    seconds = timed_calls(calls, num_rounds, num_warm_up=0)
    staleness = pipelines["asynchronous"].pipeline.update.staleness
    assert staleness is not None
    for own in pipelines.values():
        own.end()
    found = {"behind": dict(staleness.behind), "most_ahead": staleness.most_ahead}
    return {name: [each / num_steps for each in own] for name, own in seconds.items()}, found


def overlap_findings(options: argparse.Namespace, folder: Path, links: SlowLinks) -> list[Finding]:
    """Behind slow links: how much of an exchange that takes half as long as the compute is hidden."""
    num_replicas, found = len(links.namespaces), []
    for depth in OVERLAP_DEPTHS:
        arguments = (depth, 3 if options.quick else 10)
        rows = run_ranks("exchange_speeds:time_overlap", arguments, num_replicas, folder, links)
        hidden = [row["hidden"] for row in rows]
        what = (
            f"{depth} layers of 1,024: {median(row['busy'] for row in rows):.2f} s of exchange beside "
            f"{median(row['computed'] for row in rows):.2f} s of compute, share hidden"
        )
        wanted = WANTED_HIDDEN if links.rate.megabits == 1000 else None
        link = f"{links.rate.megabits} Mbit/s"
        spread = middle_half(hidden)
        details = {"steps": rows}
        found.append(Finding("overlap", what, link, num_replicas, median(hidden), *spread, wanted, "", details=details))
    return found


def time_overlap(depth: int, num_steps: int) -> list[dict[str, float]]:
    """Run on every rank: of every step, what the exchange took, what was waited for, and the share hidden."""
    from emulated_parts import calibrate_parts
    from replica_pipeline import ReplicaPipeline

    calibrate_parts(0.02)
    bare = ReplicaPipeline({"pattern": "ring"}, {"name": "paced", "seconds": 0.0}, depth)
    before = _steps(bare, num_steps)
    busy, computed = (median(step[name] for step in before) for name in ("busy", "computed"))
    seconds = max(0.0, 2 * busy - computed) / depth
    paced = ReplicaPipeline({"pattern": "ring"}, {"name": "paced", "seconds": seconds}, depth)
    return _steps(paced, num_steps)


def _steps(own: "ReplicaPipeline", num_steps: int) -> list[dict[str, float]]:  # type: ignore[name-defined]  # noqa: F821
    """Of steps after two: means over the replicas."""
    import time

    import torch
    import torch.distributed as dist

    rows = []
    for index in range(num_steps + 2):
        busy, waited = own.meter.busy_seconds, own.meter.waited_seconds
        dist.barrier()
        started = time.perf_counter()
        own.train(1)
        seconds = time.perf_counter() - started
        mean = torch.tensor([own.meter.busy_seconds - busy, own.meter.waited_seconds - waited, seconds])
        dist.all_reduce(mean)
        busy, waited, seconds = (mean / dist.get_world_size()).tolist()
        if index >= 2:
            row = {"busy": busy, "waited": waited, "computed": seconds - waited, "hidden": 1 - waited / busy}
            rows.append(row)
    return rows
