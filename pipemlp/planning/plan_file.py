"""The plan file: a `parallel` section with its predictions, what it holds for, and the costs that it was made with."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipemlp.config.parallel import ParallelConfig
from pipemlp.config.root import RunConfig
from pipemlp.planning.facts import plan_facts
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.machine import Machine
from pipemlp.planning.plan import Plan
from pipemlp.planning.prediction import Prediction
from pipemlp.planning.sealed import Sealed
from pipemlp.schedule.costs import Costs

FILE = Sealed("plan", format=2, key="parallel")
_KEYS = {
    "model": "model",
    "loss": "loss",
    "precision": "precision",
    "optimizer": "optimizer",
    "clipping": "training.clip_norm",
    "batch": "training.global_batch_size",
    "gradients": "gradients",
}
"""The configuration's key of each fact."""


@dataclass(frozen=True)
class PlanFile:
    """A plan as it is kept.

    Args:
        parallel: how to run.
        prediction: seconds of a step, and what makes them up.
        peak_bytes: of each stage's ranks.
        costs: of the schedule's actions.
        holds_for: facts of the configuration by name.
        device: that the costs are of.
        file: where it was read; empty if it has just been made.
    """

    parallel: ParallelConfig
    prediction: Prediction
    peak_bytes: tuple[float, ...]
    costs: Costs
    holds_for: tuple[tuple[str, str], ...]
    device: str
    file: str = field(default="", compare=False)

    @property
    def samples_per_second(self) -> float:
        """Of the whole job."""
        return self.global_batch_rows / self.prediction.step_seconds

    @property
    def global_batch_rows(self) -> int:
        """Of one step."""
        return int(dict(self.holds_for)["batch"])

    def to_json(self) -> dict[str, object]:
        """As plain values."""
        prediction = asdict(self.prediction) | {
            "step_seconds": self.prediction.step_seconds,
            "samples_per_second": self.samples_per_second,
            "bubble_fraction": self.prediction.bubble_fraction,
            "peak_bytes": list(self.peak_bytes),
        }
        return {
            "parallel": self.parallel.model_dump(mode="json"),
            "prediction": prediction,
            "holds_for": dict(self.holds_for),
            "device": self.device,
            "costs": asdict(self.costs),
        }

    def to_text(self, besides: Mapping[str, object] | None = None) -> str:
        """The file, with other values of other names besides."""
        return FILE.text({**(besides or {}), **self.to_json()})

    def differing_keys(self, config: RunConfig, layers: Sequence[LayerDescription]) -> list[str]:
        """What a configuration has otherwise than the one planned for: key, there, here."""
        there = dict(self.holds_for)
        return [
            f"{_KEYS[name]}: the plan is for {there[name]}, and here it is {here}"
            for name, here in plan_facts(config, layers).items()
            if there[name] != here
        ]


def plan_file_of(config: RunConfig, layers: Sequence[LayerDescription], plan: Plan, machine: Machine) -> PlanFile:
    """What is kept of a plan that a cost source has judged."""
    assert plan.prediction is not None and plan.costs is not None
    parallel = ParallelConfig(
        stages=plan.num_stages,
        virtual_stages=plan.schedule.num_virtual_stages,
        data_parallel=plan.num_replicas,
        micro_batches=plan.num_micro_batches,
        schedule=plan.schedule.name,
        partition=plan.boundaries,
        zero_stage=plan.zero_stage,  # type: ignore[arg-type]
        recompute=plan.recompute or "none",
    )
    return PlanFile(
        parallel=parallel,
        prediction=plan.prediction,
        peak_bytes=tuple(float(memory.total_bytes) for memory in plan.memory),
        costs=plan.costs,
        holds_for=tuple(plan_facts(config, layers).items()),
        device=machine.name,
    )


def parse_plan_file(text: str) -> PlanFile:
    """The inverse of `to_text`.

    Raises:
        ValueError: if the text is no plan file, of another version, or damaged.
    """
    body = FILE.read(text)
    try:
        prediction, facts = body["prediction"], body["holds_for"]
        return PlanFile(
            parallel=ParallelConfig.model_validate(body["parallel"]),
            prediction=prediction_from_json(prediction),
            peak_bytes=tuple(map(float, prediction["peak_bytes"])),
            costs=costs_from_json(body["costs"]),
            holds_for=tuple((name, str(facts[name])) for name in _KEYS),
            device=str(body["device"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ValueError("a part is missing, or is of another type; plan again") from None


def costs_from_json(value: Mapping[str, Any]) -> Costs:
    """Costs of a schedule's actions from plain values.

    Raises:
        KeyError, TypeError, ValueError: if they are none.
    """
    entries = {name: tuple(map(float, own)) if isinstance(own, list) else float(own) for name, own in value.items()}
    return Costs(**entries)  # type: ignore[arg-type]


def prediction_from_json(value: Mapping[str, Any]) -> Prediction:
    """A prediction from plain values."""
    names = ("pipeline_seconds", "reduction_seconds", "optimizer_seconds", "other_seconds")
    return Prediction(
        is_measured=bool(value["is_measured"]),
        bubbles=tuple(map(float, value["bubbles"])),
        counted_bytes=tuple(map(float, value["counted_bytes"])),
        **{name: float(value[name]) for name in names},
    )
