"""One way to run a workload with its plan, and the figures by which ways are compared."""

from dataclasses import dataclass
from itertools import pairwise
from math import fsum
from statistics import fmean

from pipemlp.planning.plan import Plan
from pipemlp.planning.prediction import Prediction
from pipemlp.planning.sums import SUM_BYTES
from pipemlp.planning.workload import Setting, Workload
from pipemlp.schedule.placement import stage_of


@dataclass(frozen=True)
class Candidate:
    """A setting that has been laid out.

    Args:
        setting: how the workload is run; its partition is the name of the method.
        plan: the same with cut, schedule, prediction and memory.
        cap_bytes: what a rank may hold.
    """

    setting: Setting
    plan: Plan
    cap_bytes: float

    @property
    def prediction(self) -> Prediction:
        """Seconds of its step."""
        assert self.plan.prediction is not None  # it was laid out with a source of costs
        return self.plan.prediction

    @property
    def step_seconds(self) -> float:
        """Of one step."""
        return self.prediction.step_seconds

    @property
    def peak_bytes(self) -> int:
        """Of the rank that holds most."""
        return max(memory.total_bytes for memory in self.plan.memory)

    @property
    def fullest_stage(self) -> int:
        """The stage that holds most."""
        return max(range(self.plan.num_stages), key=lambda stage: self.plan.memory[stage].total_bytes)

    @property
    def fits(self) -> bool:
        """Whether every rank holds what it has to."""
        return self.peak_bytes <= self.cap_bytes

    @property
    def missing_bytes(self) -> float:
        """What the fullest rank lacks; 0 if it fits."""
        return max(0.0, self.peak_bytes - self.cap_bytes)

    @property
    def stage_seconds(self) -> list[float]:
        """What each stage computes in a step."""
        costs = self.plan.costs
        assert costs is not None  # every plan that is made has them
        gradients = [i + w for i, w in zip(costs.input_gradient, costs.weight_gradient, strict=True)]
        of_kind = {"F": costs.forward, "I": costs.input_gradient, "W": costs.weight_gradient, "B": gradients}
        return [
            fsum(of_kind[action.kind][action.virtual_stage] + costs.overhead for action in row)
            for row in self.plan.schedule.actions
        ]

    @property
    def computing_seconds(self) -> float:
        """Of the pipeline's time what a rank computes, on average."""
        return fmean(self.stage_seconds)

    @property
    def idle_seconds(self) -> float:
        """Of the pipeline's time what a rank waits, on average."""
        return max(0.0, self.prediction.pipeline_seconds - self.computing_seconds)


def sent_bytes(workload: Workload, plan: Plan) -> float:
    """What the rank that sends most sends in one step.

    Activations and their gradients over the cuts; gradients to be summed up, 2 (n - 1) / n of them (Patarasuk, Yuan
    2009); with ZeRO 1 its shard of the new parameters, (n - 1) / n of all.
    """
    assert plan.costs is not None  # every plan that is made has them
    placement, num_stages = plan.schedule.placement, plan.num_stages
    homes = [stage_of(v, num_stages, placement) for v in range(len(plan.boundaries) - 1)]
    sent = [0.0] * num_stages
    for (one, other), size in zip(pairwise(homes), plan.costs.hop_bytes, strict=True):
        if one != other:
            sent[one] += plan.num_micro_batches * size
            sent[other] += plan.num_micro_batches * size
    others = (plan.num_replicas - 1) / plan.num_replicas
    per_parameter = others * (2 * SUM_BYTES + (workload.value_bytes if plan.zero_stage == 1 else 0))
    return max(own + per_parameter * number for own, number in zip(sent, plan.num_parameters, strict=True))
