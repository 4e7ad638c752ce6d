"""Section `gradients`: how replicas exchange what they have learnt."""

from typing import Annotated, Literal

from pydantic import Field

from pipemlp.config.registry import Choice, register_name
from pipemlp.config.section import Fraction, Named, NonNegative, Positive, PositiveFloat, Section

Pattern = Literal["backend", "ring", "tree", "fully-connected", "parameter-server"]


class Synchronous(Named):
    """Every step takes the average gradient of all replicas."""

    name: Literal["synchronous"] = "synchronous"


class Asynchronous(Named):
    """Replicas push gradients and pull parameters without waiting for each other (Ho et al. 2013)."""

    name: Literal["asynchronous"] = "asynchronous"
    max_staleness: NonNegative | None = 4
    """Steps that a replica may be ahead of the slowest one; 0 is synchronous, null knows no bound."""


class Local(Named):
    """Each replica takes steps on its own; now and then all take the average of their weights."""

    name: Literal["local"] = "local"
    local_steps: Positive = 32
    """Steps between two averages."""
    outer_lr: PositiveFloat = 1.0
    """What the averaged change of the weights is multiplied by; DiLoCo takes 0.7."""
    outer_momentum: Fraction = 0.0
    """Nesterov momentum of the averaged changes; 0 is local SGD, DiLoCo takes 0.9."""


class NoCompression(Named):
    """Gradients are sent as they are."""

    name: Literal["none"] = "none"


class Lossy(Named):
    """What every compression that leaves something out has."""

    error_feedback: bool = True
    """What a message leaves out is added to the next one."""
    warmup_steps: NonNegative = 0
    """Exchanges at the start that send everything."""


class Bf16Compression(Lossy):
    """Two bytes per value."""

    name: Literal["bf16"] = "bf16"


class Int8Compression(Lossy):
    """One byte per value, with a scale for each block."""

    name: Literal["int8"] = "int8"


class TopKCompression(Lossy):
    """The largest values only (Lin et al. 2018)."""

    name: Literal["topk"] = "topk"
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.01
    """The share of the values that is sent."""


class OneBitCompression(Lossy):
    """The signs (Seide et al. 2014), with a magnitude for each row and column."""

    name: Literal["onebit"] = "onebit"


class PowerSgdCompression(Lossy):
    """Each weight's gradient as a product of two narrow matrices (Vogels et al. 2019)."""

    name: Literal["powersgd"] = "powersgd"
    rank: Positive = 4
    """Columns of the narrow matrices."""


UpdateConfig = Synchronous | Asynchronous | Local
CompressionConfig = (
    NoCompression | Bf16Compression | Int8Compression | TopKCompression | OneBitCompression | PowerSgdCompression
)
for _update in (Synchronous, Asynchronous, Local):
    register_name("update", _update.model_fields["name"].default, _update)
for _compression in (
    NoCompression,
    Bf16Compression,
    Int8Compression,
    TopKCompression,
    OneBitCompression,
    PowerSgdCompression,
):
    register_name("compression", _compression.model_fields["name"].default, _compression)


class GradientsConfig(Section):
    """How the replicas of a stage exchange gradients; nothing of it matters with one replica."""

    pattern: Pattern = "backend"
    """Who sends what to whom: `backend` (the backend's own all-reduce), `ring`, `tree`, `fully-connected`, or
    `parameter-server`, where each replica serves its share of the parameters."""
    update: Annotated[UpdateConfig, Choice("update", default="synchronous")] = Synchronous()
    """`synchronous`, `asynchronous` (with `max_staleness`; needs `pattern: parameter-server`) or `local` (with
    `local_steps`, `outer_lr` and `outer_momentum`)."""
    compression: Annotated[CompressionConfig, Choice("compression", default="none")] = NoCompression()
    """`none`, `bf16`, `int8`, `topk` (with `ratio`), `onebit` or `powersgd` (with `rank`); each but `none` with
    `error_feedback` and `warmup_steps`."""

    @property
    def is_asynchronous(self) -> bool:
        """Whether replicas go at their own pace; with a bound of 0 they cannot."""
        return isinstance(self.update, Asynchronous) and self.update.max_staleness != 0
