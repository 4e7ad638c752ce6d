"""Section `parallel`: how a run is executed; it never changes what is computed."""

import difflib
from typing import Annotated, Any, Literal

from pydantic import Strict, field_validator
from pydantic_core import PydanticCustomError

from pipemlp.config.section import NonNegative, Positive, Section

SCHEDULES = ("gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-h2", "interleaved-zb", "zb-v", "zb-auto")
"""The schedules by name; docs/schedules.md explains them."""


class ParallelConfig(Section):
    """How a run is executed; changing it changes numbers by rounding only."""

    stages: Positive = 1
    """Parts into which the layers are cut, one per pipeline rank."""
    virtual_stages: Literal["auto"] | Positive = "auto"
    """Runs of layers per stage: 2 for `zb-v`, any number for the interleaved schedules, 1 or 2 for `zb-auto`, 1 for the
    others; `auto` is the smallest number that makes sense for the schedule."""
    data_parallel: Positive = 1
    """Replicas of the whole pipeline, each with its share of every global batch."""
    micro_batches: Literal["auto"] | Positive = "auto"
    """Slices of a replica's share of the global batch; `auto` is 1 for one stage, else about 4 x stages."""
    schedule: str = "1f1b"
    """The order of forwards and backwards: `gpipe`, `1f1b`, `interleaved-1f1b`, `zb-h1`, `zb-h2`, `interleaved-zb`,
    `zb-v`, `zb-auto`, or a CSV file with an order of your own (compute-only, as of torch.distributed.pipelining)."""
    partition: Literal["parameters", "uniform", "balanced"] | Annotated[tuple[NonNegative, ...], Strict(False)] = (
        "parameters"
    )
    """Where to cut: `parameters` (the largest virtual stage as small as possible), `uniform` (equal numbers of
    layers), `balanced` (the slowest stage as fast as possible, by NAME.profile.json where `pipemlp profile` has left
    it, else by the layers' operations and bytes), or the boundaries of the virtual stages, such as `[0, 9, 18]`."""
    zero_stage: Literal[0, 1] = 0
    """1 shards the optimizer state over the replicas; bf16 always uses 1."""
    recompute: Literal["none", "elementwise"] | Positive = "none"
    """What the backward computes again instead of keeping it: `elementwise` all but the matrix products, N all of every
    N layers but their input."""

    @field_validator("zero_stage", mode="before")
    @classmethod
    def _refuse_higher_zero(cls, value: Any) -> Any:
        if isinstance(value, bool | float):  # Python would take true and 1.0 for 1
            raise PydanticCustomError("int_type", "a whole number is expected")
        if value in (2, 3):
            raise PydanticCustomError(
                "zero_stage",
                "ZeRO {value} shards gradients as they are made, while a pipeline accumulates them over its "
                "micro-batches; DeepSpeed refuses the two together; use 0 or 1",
                {"value": value},
            )
        return value

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, value: str) -> str:
        if value in SCHEDULES or value.endswith(".csv"):
            return value
        near = difflib.get_close_matches(value.lower().replace("_", "-"), SCHEDULES, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(SCHEDULES)}, or a .csv file"
        raise PydanticCustomError("schedule", "unknown schedule '{value}'{hint}", {"value": value, "hint": hint})
