"""A plan: where the layers are cut and how the run is executed, with what it is expected to hold."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from pipemlp.planning.memory import MemoryEstimate
from pipemlp.planning.prediction import Prediction
from pipemlp.planning.recompute import Recompute
from pipemlp.schedule.costs import Costs
from pipemlp.schedule.schedule import Schedule

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
        prediction: seconds of a step, if anything but proportions is known of the costs.
        distance: how much faster the slowest stage of another cut might be, as a fraction of the least that any cut
            takes; 0 if none is faster, None if the cut was not looked for.
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
    prediction: Prediction | None = None
    distance: float | None = None

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
