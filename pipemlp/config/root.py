"""The whole configuration: one frozen value that a run is made from."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, PrivateAttr

from pipemlp.config.data import DataConfig
from pipemlp.config.gradients import GradientsConfig
from pipemlp.config.model import ModelConfig
from pipemlp.config.origin import Origin, parse_key
from pipemlp.config.parallel import ParallelConfig
from pipemlp.config.registry import Loss
from pipemlp.config.run import CheckpointConfig, EvaluationConfig, FaultConfig, LoggingConfig, RunSection
from pipemlp.config.section import Named, Section
from pipemlp.config.training import AdamW, Constant, LrSchedule, Optimizer, TrainingConfig, refuse_fp16


class RunConfig(Section):
    """A training run from start to end. Only `data` and `model` are required."""

    run: RunSection = RunSection()
    """Name, place, seed and device."""
    data: DataConfig
    """Where the rows come from and which columns mean what."""
    model: ModelConfig
    """The layers between the inputs and the outputs."""
    loss: Loss = "auto"
    """`mse`, `mae`, `huber`, `cross_entropy`, `binary_cross_entropy`, or a registered name; `auto` follows
    from the target."""
    training: TrainingConfig = TrainingConfig()
    """How long, in which batches, and when to stop."""
    optimizer: Optimizer = AdamW()
    """`sgd`, `adam` or `adamw`, with its options."""
    lr_schedule: LrSchedule = Constant()
    """`constant`, `linear`, `cosine`, `one-cycle` or `step`, each with `warmup_steps`."""
    precision: Annotated[Literal["fp32", "bf16"], BeforeValidator(refuse_fp16)] = "fp32"
    """`bf16` computes in bfloat16 and keeps weights and gradient sums in float32."""
    parallel: Literal["auto"] | ParallelConfig = ParallelConfig()
    """How the run is executed; never changes what it computes. `auto` plans for all devices of this machine, or for as
    many processes as a launcher has started."""
    gradients: GradientsConfig = GradientsConfig()
    """How replicas exchange what they have learnt."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """When to evaluate on the validation rows, and what."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """What is kept of the weights."""
    fault: FaultConfig = FaultConfig()
    """What to do when something goes wrong."""
    logging: LoggingConfig = LoggingConfig()
    """How often progress is written."""

    @property
    def chosen_loss(self) -> Named:
        """The loss of a resolved configuration, in which it is no longer `auto`."""
        assert isinstance(self.loss, Named)
        return self.loss

    @property
    def chosen_parallel(self) -> ParallelConfig:
        """The section `parallel` of a configuration that is planned, in which it is no longer `auto`."""
        assert isinstance(self.parallel, ParallelConfig)
        return self.parallel

    _origin: Origin = PrivateAttr(default_factory=Origin)

    def placed(self, origin: Origin) -> "RunConfig":
        """An equal configuration that knows where it was written."""
        copy = self.model_copy()
        copy._origin = origin
        return copy

    def with_parallel(self, parallel: ParallelConfig, file: str) -> "RunConfig":
        """The same with this section `parallel`, which stands in a file of its own, or nowhere."""
        copy = self.model_copy(update={"parallel": parallel})
        return copy.placed(self._origin.with_section("parallel", file) if file else self._origin)

    def where(self, key: str) -> str:
        """Where `key` (`parallel.stages`, `model.hidden[0].width`) was written: `configs/a.yaml:12`.

        Falls back to the nearest key above it, then to the file; `command line` for an override, empty
        for a configuration made in Python.
        """
        return str(self._origin.where(parse_key(key)))

    @property
    def source_path(self) -> Path | None:
        """The config file, as the user wrote it; None for a configuration made in Python."""
        return Path(self._origin.file) if self._origin.file else None

    @property
    def base_dir(self) -> Path:
        """What relative paths in `data` are relative to: the config file's folder, else the current one."""
        return self.source_path.absolute().parent if self.source_path else Path.cwd()
