"""What is trained, whatever the way: the part of a configuration that a plan starts from; and one way to run it."""

from dataclasses import dataclass

from pipemlp.config.root import RunConfig
from pipemlp.config.training import Sgd
from pipemlp.planning.exchange import Exchange, exchange_of
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.recompute import Recompute
from pipemlp.planning.shapes import task_of_loss
from pipemlp.schedule.methods import METHODS
from pipemlp.schedule.placement import Placement
from pipemlp.schedule.schedule import Schedule

PLAIN_EXCHANGE = Exchange()


@dataclass(frozen=True)
class Workload:
    """A model and its training step.

    Args:
        layers: of the whole model.
        global_batch_rows: of one step.
        precision: `fp32` or `bf16`.
        optimizer: a key of `STATE_VALUES`.
        weight_decay: whether there is any.
        has_class_labels: whether a label is the index of a class, and not a number for every output.
        exchange: of gradients between replicas.
        clips: whether gradients are clipped, by the norm of all of them.
        skips: whether all stages agree on leaving a step out.
    """

    layers: tuple[LayerDescription, ...]
    global_batch_rows: int
    precision: str
    optimizer: str
    weight_decay: bool = False
    has_class_labels: bool = False
    exchange: Exchange = PLAIN_EXCHANGE
    clips: bool = False
    skips: bool = False

    def stages_meet(self, zero_stage: int) -> bool:
        """Whether all stages wait for each other at the end of a step: clipping, and DeepSpeed's sharded optimizers,
        want a norm over all of them. If none does, a stage begins the next step as soon as it is done with this one."""
        return self.clips or self.skips or self.precision == "bf16" or zero_stage == 1 or self.exchange.serves

    @property
    def value_bytes(self) -> int:
        """Of one value in the compute precision."""
        return 2 if self.precision == "bf16" else 4

    @property
    def num_trained_layers(self) -> int:
        """Layers with parameters: no more virtual stages are possible."""
        return sum(1 for layer in self.layers if layer.parameters)


@dataclass(frozen=True)
class Setting:
    """One way to run a workload: the section `parallel` without `auto`.

    Args:
        schedule: its name.
        partition: the name of a method, or boundaries.
    """

    num_stages: int = 1
    num_virtual_stages: int = 1
    num_replicas: int = 1
    num_micro_batches: int = 1
    schedule: str = "1f1b"
    zero_stage: int = 0
    recompute: Recompute = 0
    partition: str | tuple[int, ...] = "balanced"

    @property
    def num_ranks(self) -> int:
        """Stages x replicas."""
        return self.num_stages * self.num_replicas

    def micro_batch_rows(self, global_batch_rows: int) -> int:
        """Rows of one micro-batch."""
        return global_batch_rows // (self.num_replicas * self.num_micro_batches)

    def placement_of_cut(self, own: Schedule | None = None) -> Placement:
        """`v` or `loop`: which stages hold which virtual stages."""
        if own is not None:
            return own.placement
        return METHODS[self.schedule].placement if self.num_virtual_stages > 1 else "loop"


def workload_of(config: RunConfig, layers: tuple[LayerDescription, ...]) -> Workload:
    """The workload of a configuration."""
    optimizer: str = config.optimizer.name
    if isinstance(config.optimizer, Sgd) and config.optimizer.momentum > 0:
        optimizer = "sgd-nesterov" if config.optimizer.nesterov else "sgd-momentum"
    return Workload(
        layers,
        config.training.global_batch_size,
        config.precision,
        optimizer,
        weight_decay=config.optimizer.weight_decay > 0,
        has_class_labels=task_of_loss(config.loss) == "classification",
        exchange=exchange_of(config.gradients, layers),
        clips=config.training.clip_norm is not None,
        skips=config.fault.nonfinite == "skip",
    )


def setting_of(config: RunConfig) -> Setting:
    """How a resolved configuration is run."""
    parallel = config.chosen_parallel
    return Setting(
        num_stages=parallel.stages,
        num_virtual_stages=int(parallel.virtual_stages),
        num_replicas=parallel.data_parallel,
        num_micro_batches=int(parallel.micro_batches),
        schedule=parallel.schedule,
        zero_stage=parallel.zero_stage,
        recompute=0 if parallel.recompute == "none" else parallel.recompute,
        partition=parallel.partition,
    )
