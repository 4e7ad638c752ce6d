"""A plan: where the layers are cut and how the run is executed, with what it is expected to hold."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipemlp.config.root import RunConfig
from pipemlp.config.training import Sgd
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.memory import MemoryEstimate, estimate_memory
from pipemlp.planning.partition import boundaries_for
from pipemlp.schedule.one_f_one_b import bubble_fraction, num_in_flight


@dataclass(frozen=True)
class Plan:
    """How a run is executed, decided before it starts; every rank computes the same one.

    Args:
        boundaries: layer indices of the cuts, `num_stages + 1` of them.
        num_stages, num_replicas, num_micro_batches: the grid and the slices of a replica's share.
        micro_batch_rows: rows in one micro-batch.
        schedule: the order of forwards and backwards, by name.
        zero_stage: 0, or 1 to shard the optimizer state over the replicas.
        recompute_layers: layers between two kept inputs; 0 keeps everything.
        num_parameters: trainable values per stage.
        bubble_fraction: idle share of rank time if all stages took equally long.
        memory: estimate per stage.
    """

    boundaries: tuple[int, ...]
    num_stages: int
    num_replicas: int
    num_micro_batches: int
    micro_batch_rows: int
    schedule: str
    zero_stage: int
    recompute_layers: int
    num_parameters: tuple[int, ...]
    bubble_fraction: float
    memory: tuple[MemoryEstimate, ...]

    @property
    def num_ranks(self) -> int:
        """Processes the run needs: stages x replicas."""
        return self.num_stages * self.num_replicas

    def stage_layers(self, layers: Sequence[LayerDescription], stage: int) -> tuple[LayerDescription, ...]:
        """The layers that `stage` holds."""
        return tuple(layers[self.boundaries[stage] : self.boundaries[stage + 1]])


def make_plan(config: RunConfig, layers: Sequence[LayerDescription]) -> Plan:
    """The plan of a resolved configuration (no `auto` left in `parallel`).

    Raises:
        ValueError: if the model cannot be cut as asked.
    """
    parallel = config.parallel
    stages, micro_batches = parallel.stages, int(parallel.micro_batches)
    boundaries = boundaries_for(parallel.partition, layers, stages)
    rows = config.training.global_batch_size // (parallel.data_parallel * micro_batches)
    recompute = 0 if parallel.recompute == "none" else int(parallel.recompute)
    optimizer: str = config.optimizer.name
    if isinstance(config.optimizer, Sgd) and config.optimizer.momentum > 0:
        optimizer = "sgd-momentum"
    parts = [layers[start:stop] for start, stop in zip(boundaries, boundaries[1:], strict=False)]
    return Plan(
        boundaries=boundaries,
        num_stages=stages,
        num_replicas=parallel.data_parallel,
        num_micro_batches=micro_batches,
        micro_batch_rows=rows,
        schedule=parallel.schedule,
        zero_stage=parallel.zero_stage,
        recompute_layers=recompute,
        num_parameters=tuple(sum(layer.num_parameters for layer in part) for part in parts),
        bubble_fraction=bubble_fraction(stages, micro_batches),
        memory=tuple(
            estimate_memory(
                part,
                stage=stage,
                num_stages=stages,
                num_in_flight=num_in_flight(stage, stages, micro_batches),
                micro_batch_rows=rows,
                optimizer=optimizer,
                precision=config.precision,
                zero_stage=parallel.zero_stage,
                num_replicas=parallel.data_parallel,
                recompute_layers=recompute,
            )
            for stage, part in enumerate(parts)
        ),
    )
