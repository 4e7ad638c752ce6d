"""Sections `run`, `evaluation`, `checkpoint`, `fault` and `logging`: the frame around the training."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipemlp.config.section import Names, NonNegative, Positive, PositiveFloat, Section


class RunSection(Section):
    """Name, place, seed and device of the run."""

    name: Literal["auto"] | Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "auto"
    """Letters, digits, dots, dashes and underscores; `auto` is the config file's name."""
    dir: str = "auto"
    """Where the run is written; `auto` is `runs/NAME-TIME`. An existing empty folder is fine."""
    seed: NonNegative = 0
    """Seed of initialisation, sample order and dropout."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes GPUs where there are any."""
    threads: Literal["auto"] | Positive = "auto"
    """CPU threads per process; `auto` shares the cores out evenly."""


def _one_interval(section: "EvaluationConfig | CheckpointConfig") -> None:
    if section.every_epochs is not None and section.every_steps is not None:
        raise ValueError("every_epochs and every_steps are both given; keep one of them")


class EvaluationConfig(Section):
    """When to evaluate on the validation rows, and what."""

    every_epochs: Positive | None = None
    """Epochs between two evaluations; 1 when `every_steps` is not given either."""
    every_steps: Positive | None = None
    """Steps between two evaluations; give this or `every_epochs`."""
    metrics: Literal["auto"] | Names = "auto"
    """Metrics by name; `auto` takes those of the task."""

    @model_validator(mode="after")
    def _check(self) -> "EvaluationConfig":
        _one_interval(self)
        return self


class CheckpointConfig(Section):
    """When the run is saved so that it can go on after it was killed, and what is kept."""

    every_epochs: Positive | None = None
    """Epochs between two checkpoints; 1 when `every_steps` is not given either."""
    every_steps: Positive | None = None
    """Steps between two checkpoints; give this or `every_epochs`."""
    keep: Annotated[int, Field(ge=2)] = 2
    """How many of the newest checkpoints stay; at least 2, so that there is one if the newest is damaged."""
    best: str | None = None
    """A validation metric (or `loss`): the model kept at the end is the best by it, not the last."""

    @model_validator(mode="after")
    def _check(self) -> "CheckpointConfig":
        _one_interval(self)
        return self


class FaultConfig(Section):
    """What to do when something goes wrong."""

    timeout_seconds: PositiveFloat = 600.0
    """How long a rank waits for another before the run fails."""
    restarts: NonNegative = 0
    """How often `pipemlp train` starts a run that died again, from its newest whole checkpoint."""
    nonfinite: Literal["stop", "skip"] = "stop"
    """What becomes of a step whose loss or gradient is not finite: the run stops, or leaves the step out."""
    unsaved: Literal["warn", "stop"] = "warn"
    """What becomes of a run whose checkpoint cannot be written: a warning and the next try, or it stops."""
    compare_replicas_every_steps: NonNegative = 0
    """Steps between two looks whether replicas are still the same to the bit; 0 looks before each checkpoint only."""


class LoggingConfig(Section):
    """How often progress is written."""

    every_steps: Positive = 10
    """Steps between two training lines in metrics.jsonl and TensorBoard."""
    timeline_every_steps: NonNegative = 100
    """Steps between two steps whose every action, send and receive is recorded in timeline.json; 0 records none."""
