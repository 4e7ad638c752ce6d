"""Why a plan is as it is: what its step is made of, what decides it against others, which others there are."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipemlp.planning.candidate import Candidate
from pipemlp.planning.search import Found, kinds_of
from pipemlp.planning.workload import Setting
from pipemlp.schedule.methods import METHODS

PARTS = ("computing", "idle", "reduction", "optimizer", "other")
"""What a step is made of, in seconds of an average rank."""


@dataclass(frozen=True)
class StageShare:
    """What a stage takes and holds.

    Args:
        layers: (first, one after the last) of each of its virtual stages.
        forward, input_gradient, weight_gradient: seconds of one micro-batch.
        bubble: idle share of the pipeline's time.
        peak_bytes: of each of its ranks.
    """

    layers: tuple[tuple[int, int], ...]
    forward: float
    input_gradient: float
    weight_gradient: float
    bubble: float
    peak_bytes: int

    @property
    def seconds(self) -> float:
        """One micro-batch, all three."""
        return self.forward + self.input_gradient + self.weight_gradient


@dataclass(frozen=True)
class NodeLayout:
    """How ranks lie on nodes; rank = stage x replicas + replica.

    Args:
        ranks_per_node: as many on each.
        stages_per_node: whole stages that share a node with all their replicas; 0 if replicas of a stage are on
            several nodes.
        crossing_cuts: stages behind which the next one is on another node, for some replica.
    """

    ranks_per_node: int
    stages_per_node: int
    crossing_cuts: tuple[int, ...]


def parts_of(candidate: Candidate) -> dict[str, float]:
    """Seconds of one step by part; they add up to the step."""
    prediction = candidate.prediction
    return {
        "computing": candidate.computing_seconds,
        "idle": candidate.idle_seconds,
        "reduction": prediction.reduction_seconds,
        "optimizer": prediction.optimizer_seconds,
        "other": prediction.other_seconds,
    }


def deciding_parts(winner: Candidate, other: Candidate) -> tuple[list[str], list[str]]:
    """The parts of which the winner has less, the most telling first, and those of which it has more.

    What is below a twentieth of what decides is not told.
    """
    mine, its = parts_of(winner), parts_of(other)
    gains = {part: its[part] - mine[part] for part in PARTS}
    least = max(abs(gain) for gain in gains.values()) / 20
    less = sorted((part for part in PARTS if gains[part] > least), key=lambda part: -gains[part])
    more = sorted((part for part in PARTS if gains[part] < -least), key=lambda part: gains[part])
    return less, more


def runner_up(found: Found, winner: Candidate) -> Candidate | None:
    """The fastest of another kind: with other stages, virtual stages per stage, or backwards (whole or split)."""

    def kind(setting: Setting) -> tuple[int, int, bool]:
        return setting.num_stages, setting.num_virtual_stages, METHODS[setting.schedule].splits_backward

    return next((each for each in found.ranking if kind(each.setting) != kind(winner.setting)), None)


def best_of_kinds(found: Found, winner: Candidate) -> dict[str, dict[object, Candidate]]:
    """By dimension and value the fastest that fits; of the micro-batches only those with the winner's stages."""
    best: dict[str, dict[object, Candidate]] = {}
    for each in found.ranking:  # the fastest first
        for dimension, value in kinds_of(each.setting):
            if dimension != "micro_batches" or each.setting.num_stages == winner.setting.num_stages:
                best.setdefault(dimension, {}).setdefault(value, each)
    return best


def front(candidates: Sequence[Candidate], least: float = 0.0) -> tuple[Candidate, ...]:
    """Those than which no other is both faster and smaller, the fastest first.

    Args:
        candidates: any.
        least: the share of memory by which each has to be smaller than the one before.
    """
    result: list[Candidate] = []
    for each in sorted(candidates, key=lambda each: (each.step_seconds, each.peak_bytes)):
        if not result or each.peak_bytes < result[-1].peak_bytes * (1 - least):
            result.append(each)
    return tuple(result)


def stage_shares(candidate: Candidate) -> tuple[StageShare, ...]:
    """Every stage of a plan."""
    plan, costs = candidate.plan, candidate.plan.costs
    assert costs is not None  # it was laid out with a source of costs
    result = []
    for stage in range(plan.num_stages):
        held = plan.schedule.virtual_stages_of(stage)
        result.append(
            StageShare(
                layers=tuple((start, stop) for start, stop in plan.layer_ranges(stage)),
                forward=sum(costs.forward[v] for v in held),
                input_gradient=sum(costs.input_gradient[v] for v in held),
                weight_gradient=sum(costs.weight_gradient[v] for v in held),
                bubble=candidate.prediction.bubbles[stage],
                peak_bytes=plan.memory[stage].total_bytes,
            )
        )
    return tuple(result)


def balance(shares: Sequence[StageShare]) -> float:
    """The mean stage's work over the slowest one's: 1 if all are equal."""
    slowest = max(share.seconds for share in shares)
    return sum(share.seconds for share in shares) / len(shares) / slowest if slowest else 1.0


def node_layout(num_stages: int, num_replicas: int, ranks_per_node: int) -> NodeLayout:
    """Where the ranks of a grid lie."""
    crossing = tuple(
        stage
        for stage in range(num_stages - 1)
        if any(
            rank // ranks_per_node != (rank + num_replicas) // ranks_per_node
            for rank in range(stage * num_replicas, (stage + 1) * num_replicas)
        )
    )
    whole = ranks_per_node // num_replicas if ranks_per_node % num_replicas == 0 else 0
    return NodeLayout(ranks_per_node, whole, crossing)
