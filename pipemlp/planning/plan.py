"""A plan: where the layers are cut and how the run is executed, with what it is expected to hold."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from pipemlp.config.root import RunConfig
from pipemlp.config.training import Sgd
from pipemlp.planning.costs import analytic_costs
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.memory import MemoryEstimate, estimate_memory
from pipemlp.planning.partition import boundaries_for
from pipemlp.planning.recompute import Recompute
from pipemlp.schedule.costs import Costs, uniform_costs
from pipemlp.schedule.methods import make_schedule, method_of
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import simulate
from pipemlp.schedule.zb_h1 import zb_h1
from pipemlp.schedule.zb_v import zb_v

Layer = TypeVar("Layer")


@dataclass(frozen=True)
class Plan:
    """How a run is executed, decided before it starts; every rank computes the same one.

    Args:
        boundaries: layer indices of the cuts between virtual stages, their number plus one.
        schedule: stages, virtual stages, micro-batches, and the order of what they do.
        num_replicas: copies of the pipeline.
        micro_batch_rows: rows in one micro-batch.
        zero_stage: 0, or 1 to shard the optimizer state over the replicas.
        recompute: what the backward computes again.
        costs: of the schedule's actions, as far as they are known before the run.
        num_parameters: trainable values per stage.
        bubble_fraction: idle share of rank time if all stages took equally long.
        memory: estimate per stage.
    """

    boundaries: tuple[int, ...]
    schedule: Schedule
    num_replicas: int
    micro_batch_rows: int
    zero_stage: int
    recompute: Recompute
    costs: Costs | None = None
    num_parameters: tuple[int, ...] = ()
    bubble_fraction: float = 0.0
    memory: tuple[MemoryEstimate, ...] = ()

    @property
    def num_stages(self) -> int:
        """Ranks of the pipeline."""
        return self.schedule.num_stages

    @property
    def num_micro_batches(self) -> int:
        """Slices of a replica's share of the global batch."""
        return self.schedule.num_micro_batches

    @property
    def num_ranks(self) -> int:
        """Processes the run needs: stages x replicas."""
        return self.num_stages * self.num_replicas

    def layers_of(self, virtual_stage: int, layers: Sequence[Layer]) -> Sequence[Layer]:
        """The part of `layers`, one entry per layer of the model, that a virtual stage holds."""
        return layers[self.boundaries[virtual_stage] : self.boundaries[virtual_stage + 1]]

    def layer_ranges(self, stage: int) -> list[list[int]]:
        """First layer, and the one after the last, of each virtual stage that `stage` holds."""
        return [list(self.boundaries[s : s + 2]) for s in self.schedule.virtual_stages_of(stage)]

    def to_json(self) -> dict[str, object]:
        """Plain values; the schedule by its name and sizes."""
        schedule = self.schedule
        return asdict(self) | {
            "schedule": schedule.name,
            "num_stages": schedule.num_stages,
            "num_virtual_stages": schedule.num_virtual_stages,
            "num_micro_batches": schedule.num_micro_batches,
            "placement": schedule.placement,
        }


def make_plan(config: RunConfig, layers: Sequence[LayerDescription], own: Schedule | None = None) -> Plan:
    """The plan of a resolved configuration (no `auto` left in `parallel`).

    Args:
        config: the resolved configuration.
        layers: of the whole model.
        own: the schedule, where it is known already: the user's, or that of rank 0.

    Raises:
        ValueError: if the model cannot be cut as asked, or the schedule cannot have these sizes.
    """
    parallel = config.parallel
    num_virtual_stages = int(parallel.virtual_stages)
    boundaries = boundaries_for(parallel.partition, layers, parallel.stages, num_virtual_stages)
    costs = _costs(config, layers, boundaries)
    schedule = own or _schedule(config, costs)
    runs = [layers[start:stop] for start, stop in zip(boundaries, boundaries[1:], strict=False)]
    held = [[runs[s] for s in schedule.virtual_stages_of(stage)] for stage in range(schedule.num_stages)]
    peaks = simulate(schedule, costs).peak_bytes
    optimizer: str = config.optimizer.name
    if isinstance(config.optimizer, Sgd) and config.optimizer.momentum > 0:
        optimizer = "sgd-momentum"
    return Plan(
        boundaries=boundaries,
        schedule=schedule,
        num_replicas=parallel.data_parallel,
        micro_batch_rows=_micro_batch_rows(config),
        zero_stage=parallel.zero_stage,
        recompute=_recompute(config),
        costs=costs,
        num_parameters=tuple(sum(layer.num_parameters for run in own for layer in run) for own in held),
        bubble_fraction=simulate(schedule, uniform_costs(parallel.stages, num_virtual_stages)).bubble_fraction,
        memory=tuple(
            estimate_memory(
                own,
                peak_bytes=peak,
                micro_batch_rows=_micro_batch_rows(config),
                num_micro_batches=schedule.num_micro_batches,
                optimizer=optimizer,
                precision=config.precision,
                zero_stage=parallel.zero_stage,
                num_replicas=parallel.data_parallel,
                recompute=_recompute(config),
            )
            for own, peak in zip(held, peaks, strict=True)
        ),
    )


def _micro_batch_rows(config: RunConfig) -> int:
    parallel = config.parallel
    return config.training.global_batch_size // (parallel.data_parallel * int(parallel.micro_batches))


def _recompute(config: RunConfig) -> Recompute:
    return 0 if config.parallel.recompute == "none" else config.parallel.recompute


def _costs(config: RunConfig, layers: Sequence[LayerDescription], boundaries: Sequence[int]) -> Costs:
    return analytic_costs(
        layers,
        boundaries,
        micro_batch_rows=_micro_batch_rows(config),
        value_bytes=2 if config.precision == "bf16" else 4,
        recompute=_recompute(config),
    )


def _schedule(config: RunConfig, costs: Costs) -> Schedule:
    """The schedule of the configured name; zb-auto may hold what zb-h1, or zb-v, holds on its fullest stage.

    Without a cap it would hold every micro-batch wherever that saves a moment.
    """
    parallel = config.parallel
    name, num_virtual_stages = parallel.schedule, int(parallel.virtual_stages)
    sizes = parallel.stages, int(parallel.micro_batches)
    if method_of(name).make is not None:
        return make_schedule(name, *sizes, num_virtual_stages)
    usual = zb_h1(*sizes) if num_virtual_stages == 1 else zb_v(*sizes)
    cap = max(simulate(usual, costs).peak_bytes)
    return make_schedule(name, *sizes, num_virtual_stages, costs=costs, memory_cap=cap)
