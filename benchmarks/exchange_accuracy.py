"""What compression and local steps do to the accuracy on digits: paired runs, the same seed with and without."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import MappingProxyType

from findings import Finding, mean_interval
from start_ranks import run_ranks

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "digits.yaml"
REPLICAS = ("parallel.stages=1", "parallel.micro_batches=1", "parallel.zero_stage=0")
PLAIN = "synchronous"
WAYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        PLAIN: (),
        "bf16": ("gradients.pattern=ring", "gradients.compression=bf16"),
        "int8": ("gradients.pattern=fully-connected", "gradients.compression=int8"),
        "onebit": ("gradients.pattern=fully-connected", "gradients.compression=onebit"),
        "topk 1 %": (
            "gradients.pattern=fully-connected",
            "gradients.compression.name=topk",
            "gradients.compression.ratio=0.01",
        ),
        "powersgd rank 4": (
            "gradients.pattern=ring",
            "gradients.compression.name=powersgd",
            "gradients.compression.rank=4",
        ),
        "local, 32 steps": (
            "gradients.pattern=ring",
            "gradients.update.name=local",
            "gradients.update.local_steps=32",
        ),
    }
)
NUM_REPLICAS = 4
NUM_SEEDS = 10
WANTED_POINTS = 1.0


def accuracy_findings(options: argparse.Namespace, folder: Path) -> list[Finding]:
    """Over loopback; time plays no part."""
    seeds = range(2 if options.quick else NUM_SEEDS)
    epochs = 2 if options.quick else None
    accuracies = run_ranks("exchange_accuracy:train_all", (seeds, epochs), NUM_REPLICAS, folder)
    found = []
    for name, own in accuracies.items():
        if name == PLAIN:
            continue
        differences = [100 * (a - b) for a, b in zip(own, accuracies[PLAIN], strict=True)]
        what = (
            f"{name} - {PLAIN}, test accuracy on digits, {len(seeds)} seeds, "
            f"{100 * fmean(own):.2f} - {100 * fmean(accuracies[PLAIN]):.2f} %"
        )
        details = {"accuracy": own, "plain_accuracy": accuracies[PLAIN]}
        interval = mean_interval(differences)
        point = Finding("accuracy", what, "loopback", NUM_REPLICAS, *interval, WANTED_POINTS, " points", True, details)
        found.append(point)
    return found


def train_all(seeds: Sequence[int], epochs: int | None) -> dict[str, list[float]]:
    """Run on every rank: the test accuracy of every way, by seed."""
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for seed in seeds:
        for name, overrides in WAYS.items():
            found[name].append(_trained(seed, epochs, overrides))
    return found


def _trained(seed: int, epochs: int | None, overrides: Sequence[str]) -> float:
    import torch
    import torch.distributed as dist

    from pipemlp.config.loading import load_config
    from pipemlp.training.batches import BatchLoader
    from pipemlp.training.preparation import prepare_run
    from pipemlp.training.timeline import TimelineRecorder
    from pipemlp.training.trainer import Trainer
    from pipemlp.training.watchers import SilentWatcher
    from pipemlp.training.worker import build_pipeline

    length = () if epochs is None else (f"training.epochs={epochs}",)
    replicas = (*REPLICAS, f"parallel.data_parallel={dist.get_world_size()}")
    config = load_config(CONFIG, [*replicas, f"run.seed={seed}", *length, *overrides])
    preparation, device = prepare_run(config), torch.device("cpu")
    pipeline = build_pipeline(preparation)
    loader = BatchLoader(preparation.data, preparation.plan, pipeline.place, seed=config.run.seed, device=device)
    recorder = TimelineRecorder(Path(), pipeline, 0)
    outcome = Trainer(preparation, pipeline, loader, device, SilentWatcher(), recorder).run()
    values = torch.tensor(outcome.evaluations["test"]["accuracy"])
    dist.broadcast(values, 0)
    return float(values)
