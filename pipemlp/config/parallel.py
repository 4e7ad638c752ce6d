"""Section `parallel`: how a run is executed; it never changes what is computed."""

from typing import Annotated, Any, Literal

from pydantic import Strict, field_validator
from pydantic_core import PydanticCustomError

from pipemlp.config.section import NonNegative, Positive, Section


class ParallelConfig(Section):
    """How a run is executed; changing it changes numbers by rounding only."""

    stages: Positive = 1
    """Parts into which the layers are cut, one per pipeline rank."""
    virtual_stages: Literal["auto"] | Annotated[int, Strict()] = "auto"
    """Runs of layers per stage; 1f1b has one."""
    data_parallel: Positive = 1
    """Replicas of the whole pipeline, each with its share of every global batch."""
    micro_batches: Literal["auto"] | Positive = "auto"
    """Slices of a replica's share of the global batch; `auto` is 1 for one stage, else about 4 x stages."""
    schedule: Literal["1f1b"] = "1f1b"
    """The order of forwards and backwards."""
    partition: Literal["parameters", "uniform"] | Annotated[tuple[NonNegative, ...], Strict(False)] = "parameters"
    """Where to cut: `parameters` (the largest stage as small as possible), `uniform` (equal numbers of
    layers), or the boundaries themselves, such as `[0, 9, 18]`."""
    zero_stage: Literal[0, 1] = 0
    """1 shards the optimizer state over the replicas; bf16 always uses 1."""
    recompute: Literal["none"] | Positive = "none"
    """N keeps only the input of every N layers and computes the rest again in the backward."""

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

    @field_validator("virtual_stages")
    @classmethod
    def _one_virtual_stage(cls, value: Any) -> Any:
        if value not in ("auto", 1):
            raise PydanticCustomError(
                "virtual_stages", "{value} virtual stages per stage, but 1f1b has one; use 1 or auto", {"value": value}
            )
        return value
