"""Which pattern or compression would pay for a plan: what each would save of the exchange that nothing hides."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipemlp.config.gradients import (
    Bf16Compression,
    CompressionConfig,
    GradientsConfig,
    Int8Compression,
    OneBitCompression,
    PowerSgdCompression,
    TopKCompression,
)
from pipemlp.config.parallel import ParallelConfig
from pipemlp.config.root import RunConfig
from pipemlp.planning.candidate import Candidate
from pipemlp.planning.exchange import exchange_of
from pipemlp.planning.exchange_rules import ADDED_UP, DIRECT, exchange_problems
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.machine import Machine
from pipemlp.planning.sums import SUM_BYTES
from pipemlp.planning.workload import Setting, Workload

PATTERNS = ("backend", "ring", "tree", "fully-connected", "parameter-server")
COMPRESSIONS: tuple[CompressionConfig, ...] = (
    Bf16Compression(),
    Int8Compression(),
    OneBitCompression(),
    TopKCompression(),
    PowerSgdCompression(),
)
WORTH = 0.05
"""The share of a step that something has to save, to be recommended."""


@dataclass(frozen=True)
class Way:
    """One way to exchange.

    Args:
        name: of the pattern or compression.
        seconds: of the exchange.
        saves: the share of the step's time, at most: where nothing of what it saves was hidden.
        changes: all that the configuration must say otherwise for it: values by key.
    """

    name: str
    seconds: float
    saves: float
    changes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Advice:
    """On the exchange of a plan's fullest stage.

    Args:
        num_bytes: of its gradients.
        seconds: of their exchange, as it is configured.
        exposed_seconds: of it, that nothing hides.
        step_seconds: of the whole step.
        patterns, compressions: each way alone, compared with what is configured; those that a run would accept.
    """

    num_bytes: int
    seconds: float
    exposed_seconds: float
    step_seconds: float
    patterns: tuple[Way, ...]
    compressions: tuple[Way, ...]

    @property
    def worthwhile(self) -> tuple[Way, ...]:
        """Those that save enough, the best first."""
        ways = (*self.patterns, *self.compressions)
        return tuple(sorted((way for way in ways if way.saves >= WORTH), key=lambda way: -way.saves))


def advice_on(choice: Candidate, workload: Workload, machine: Machine, config: RunConfig) -> Advice | None:
    """None where nothing is exchanged.

    Args:
        choice: the plan.
        workload, machine: what it was made of.
        config: what was planned.
    """
    plan, num_replicas = choice.plan, choice.setting.num_replicas
    if num_replicas == 1:
        return None
    stage = max(range(plan.num_stages), key=plan.num_parameters.__getitem__)
    network = machine.network_of_replicas(stage, num_replicas)
    num_bytes = SUM_BYTES * plan.num_parameters[stage]
    held = [workload.layers[i] for v in plan.schedule.virtual_stages_of(stage) for i in _range(plan.boundaries, v)]
    exposed, own = choice.prediction.reduction_seconds, config.gradients
    now = exchange_of(own, held).seconds(network, num_bytes, num_replicas)

    def ways(others: Iterable[tuple[str, GradientsConfig]]) -> tuple[Way, ...]:
        found = []
        for name, gradients in others:
            changes = _changes(config, gradients, choice.setting, workload.layers)
            if changes is not None:
                seconds = exchange_of(gradients, held).seconds(network, num_bytes, num_replicas)
                saves = max(0.0, min(exposed, now - seconds)) / choice.step_seconds
                found.append(Way(name, seconds, saves, changes))
        return tuple(found)

    patterns = ways((name, own.model_copy(update={"pattern": name})) for name in PATTERNS if name != own.pattern)
    compressed = COMPRESSIONS if own.compression.name == "none" else ()
    compressions = ways((each.name, _compressed(own, each)) for each in compressed)
    return Advice(num_bytes, now, exposed, choice.step_seconds, patterns, compressions)


def _changes(
    config: RunConfig, gradients: GradientsConfig, setting: Setting, layers: Sequence[LayerDescription]
) -> dict[str, object] | None:
    """What to write so that a run has this section; None if it does not combine with the rest of the configuration."""
    changes: dict[str, object] = {}
    if gradients.compression != config.gradients.compression:
        changes["gradients.compression"] = gradients.compression.name
    if gradients.pattern != config.gradients.pattern:
        changes["gradients.pattern"] = gradients.pattern
    for zero_stage in (setting.zero_stage, 0):
        parallel = ParallelConfig(data_parallel=setting.num_replicas, zero_stage=0 if zero_stage == 0 else 1)
        changed = config.model_copy(update={"gradients": gradients, "parallel": parallel})
        if next(exchange_problems(changed, layers), None) is None:
            return changes if zero_stage == setting.zero_stage else changes | {"parallel.zero_stage": zero_stage}
    return None


def _compressed(own: GradientsConfig, compression: CompressionConfig) -> GradientsConfig:
    """With the pattern that the compression needs."""
    needs_another = own.update.name == "synchronous" and compression.name not in ADDED_UP and own.pattern not in DIRECT
    pattern = DIRECT[0] if needs_another else own.pattern
    return own.model_copy(update={"pattern": pattern, "compression": compression})


def _range(boundaries: Sequence[int], virtual_stage: int) -> range:
    return range(boundaries[virtual_stage], boundaries[virtual_stage + 1])
