"""Which pattern or compression would pay for a plan: what each would save of the exchange that nothing hides."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipemlp.config.gradients import (
    Bf16Compression,
    CompressionConfig,
    GradientsConfig,
    Int8Compression,
    OneBitCompression,
    PowerSgdCompression,
    TopKCompression,
)
from pipemlp.planning.candidate import Candidate
from pipemlp.planning.exchange import Exchange, sent_share
from pipemlp.planning.exchange_rules import allowed_compressions
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.machine import Machine
from pipemlp.planning.sums import SUM_BYTES
from pipemlp.planning.workload import Workload

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
    """

    name: str
    seconds: float
    saves: float


@dataclass(frozen=True)
class Advice:
    """On the exchange of a plan's fullest stage.

    Args:
        num_bytes: of its gradients.
        seconds: of their exchange, as it is configured.
        exposed_seconds: of it, that nothing hides.
        step_seconds: of the whole step.
        patterns, compressions: each way alone, compared with what is configured.
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


def advice_on(choice: Candidate, workload: Workload, machine: Machine) -> Advice | None:
    """None where nothing is exchanged."""
    plan, num_replicas = choice.plan, choice.setting.num_replicas
    if num_replicas == 1:
        return None
    stage = max(range(plan.num_stages), key=plan.num_parameters.__getitem__)
    network = machine.network_of_replicas(stage, num_replicas)
    num_bytes = SUM_BYTES * plan.num_parameters[stage]
    exchange, exposed = workload.exchange, choice.prediction.reduction_seconds
    now = exchange.seconds(network, num_bytes, num_replicas)

    def way(name: str, seconds: float) -> Way:
        return Way(name, seconds, max(0.0, min(exposed, now - seconds)) / choice.step_seconds)

    patterns = [
        way(name, replace(exchange, pattern=name).seconds(network, num_bytes, num_replicas))
        for name in _patterns_for(exchange)
    ]
    compressions = []
    if exchange.compression == "none":
        held = [workload.layers[i] for v in plan.schedule.virtual_stages_of(stage) for i in _range(plan.boundaries, v)]
        compressions = [
            way(each.name, _compressed(exchange, each, held).seconds(network, num_bytes, num_replicas))
            for each in COMPRESSIONS
            if each.name in allowed_compressions(exchange.update)
        ]
    return Advice(num_bytes, now, exposed, choice.step_seconds, tuple(patterns), tuple(compressions))


def _patterns_for(exchange: Exchange) -> list[str]:
    """The others that combine with its update and compression."""
    if exchange.update == "asynchronous" or exchange.compression in ("int8", "topk", "onebit"):
        return []
    served = exchange.update == "local"
    return [name for name in PATTERNS if name != exchange.pattern and not (served and name == "parameter-server")]


def _range(boundaries: Sequence[int], virtual_stage: int) -> range:
    return range(boundaries[virtual_stage], boundaries[virtual_stage + 1])


def _compressed(exchange: Exchange, compression: CompressionConfig, held: Sequence[LayerDescription]) -> Exchange:
    """With the pattern that the compression needs."""
    pattern = exchange.pattern
    if compression.name in ("int8", "topk", "onebit") and pattern != "parameter-server":
        pattern = "fully-connected"
    share = sent_share(GradientsConfig.model_validate({"pattern": pattern, "compression": compression}), held)
    return replace(exchange, pattern=pattern, compression=compression.name, share=share)
