"""Cuts of one model side by side: `balanced` and those that DeepSpeed chooses, the same layers on the same engine.

real       2 ranks    profile the layers, cut by it, train all three in alternation
emulated   4 ranks    layers that sleep for the seconds of that profile, cut by the same seconds, trained likewise
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum

import torch
from alternation import alternate
from emulated import emulated_loss
from emulated_parts import WIDTH, calibrate_parts, emulated_parts_layers
from partition_lines import EMULATED_STAGES, REAL_STAGES, Compared
from torch import Tensor
from uneven_models import NUM_MICRO_BATCHES, UnevenModel

from pipemlp.config.training import Sgd
from pipemlp.engine.pipeline import MicroBatch, Pipeline
from pipemlp.planning.layer_times import LayerTimes
from pipemlp.planning.machine import Machine
from pipemlp.planning.making import Known, lay_out
from pipemlp.planning.plan import Plan
from pipemlp.planning.recompute import Recompute
from pipemlp.planning.workload import Setting, Workload, workload_of
from pipemlp.profiling.together import Together
from pipemlp.training.building import make_pipeline, weighted_loss
from pipemlp.training.profile_measuring import Subject, measure_profile
from pipemlp.training.profile_units import Making, made_up_batch

CPU = torch.device("cpu")
STAGE_SECONDS = 0.015
"""Of the mean emulated stage for one micro-batch, forward and both gradients."""
EMULATED_ROWS = 4
LEARNING_RATE = 1e-4
TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class KnownTimes:
    """Seconds that are known, as a source of costs."""

    machine: Machine
    known: LayerTimes

    def times(self, rows: int, recompute: Recompute) -> LayerTimes:
        """Whatever the rows."""
        return self.known


class CutPipeline:
    """The product's pipeline with one cut, as a competitor.

    Args:
        name: of the cut.
        plan: with the cut.
        build: the pipeline of a plan.
        batch: of every step.
        learning_rate: of every step.
    """

    system = "pipemlp"

    def __init__(
        self,
        name: str,
        plan: Plan,
        build: Callable[[Plan], Pipeline],
        batch: Sequence[MicroBatch],
        learning_rate: float,
    ) -> None:
        self.schedule, self.order = name, plan.schedule
        self._pipeline = build(plan)
        place = self._pipeline.place
        self._batch = batch if place.reads_inputs or place.computes_loss else ()
        self._learning_rate, self._num_steps = learning_rate, 0

    def step(self) -> None:
        """A whole training step."""
        self._pipeline.train_batch(self._batch, step=self._num_steps, learning_rate=self._learning_rate)
        self._num_steps += 1

    def last_loss(self) -> float | None:
        """Asked between steps, of all ranks."""
        return float(self._pipeline.batch_loss())

    def kept_between_steps(self) -> Sequence[Tensor]:
        """Nobody counts bytes here."""
        return ()


def deepspeed_cuts(num_parameters: Sequence[int], num_stages: int) -> dict[str, tuple[int, ...]]:
    """Where a PipelineModule of these layers is cut by DeepSpeed's methods, by the functions that it calls itself.

    Args:
        num_parameters: of each layer; input handling without parameters is no layer of a PipelineModule, and left
            with the first stage.
        num_stages: to cut into.
    """
    from deepspeed.runtime.utils import partition_balanced, partition_uniform

    first = first_trained(num_parameters)
    counts = list(num_parameters[first:])
    parts = {
        "uniform": partition_uniform(num_items=len(counts), num_parts=num_stages),
        "parameters": partition_balanced(weights=counts, num_parts=num_stages),
    }
    return {name: (0, *(int(part) + first for part in found[1:])) for name, found in parts.items()}


def first_trained(num_parameters: Sequence[int]) -> int:
    """The first layer with parameters."""
    return next(index for index, count in enumerate(num_parameters) if count)


def measure_real(model: UnevenModel, num_rounds: int, profile_seconds: float) -> Compared:
    """Run on two ranks."""
    config, layers = model.described()
    subject = Subject(config, layers, weighted_loss(config), model.shape.task)
    profile = measure_profile(subject, Together(CPU), profile_seconds, lambda text, fraction: None)
    counts = [layer.num_parameters for layer in layers]
    setting = Setting(num_stages=REAL_STAGES, num_micro_batches=NUM_MICRO_BATCHES)
    plans = _plans(
        workload_of(config, layers), setting, Known(source=profile), deepspeed_cuts(counts, setting.num_stages)
    )

    def build(plan: Plan) -> Pipeline:
        return make_pipeline(config, layers, plan, subject.loss)

    making = Making(CPU, torch.float32, subject.loss, subject.task, config.run.seed)
    batch = made_up_batch(making, layers, model.rows, NUM_MICRO_BATCHES)
    cuts = [CutPipeline(name, plan, build, batch, config.optimizer.lr) for name, plan in plans.items()]
    measured = alternate(cuts, num_rounds)
    times, first = profile.times(model.rows, 0), first_trained(counts)
    own = LayerTimes(times.forward[first:], times.input_gradient[first:], times.weight_gradient[first:])
    return Compared(dict(zip(plans, measured, strict=True)), plans, first, own, profile.machine)


def measure_emulated(times: LayerTimes, machine: Machine, counts: Sequence[int], num_rounds: int) -> Compared:
    """Run on four ranks.

    Args:
        times: of the layers with parameters, as they were measured.
        machine: likewise.
        counts: the parameters of the real layers.
        num_rounds: to measure.
    """
    calibrate_parts(STAGE_SECONDS / 6)
    total = fsum(map(fsum, (times.forward, times.input_gradient, times.weight_gradient)))
    scaled = _scaled(times, EMULATED_STAGES * STAGE_SECONDS / total)
    layers = emulated_parts_layers(scaled, EMULATED_ROWS)
    setting = Setting(num_stages=EMULATED_STAGES, num_micro_batches=4 * EMULATED_STAGES)
    rows = EMULATED_ROWS * setting.num_micro_batches
    plans = _plans(
        Workload(layers, rows, "fp32", "sgd"),
        setting,
        Known(source=KnownTimes(machine, scaled)),
        deepspeed_cuts(counts, setting.num_stages),
    )

    def build(plan: Plan) -> Pipeline:
        return Pipeline(
            layers,
            plan,
            optimizer=Sgd(lr=LEARNING_RATE, momentum=0.0),
            loss=_emulated_loss,
            clip_norm=None,
            precision="fp32",
            seed=0,
            timeout_seconds=TIMEOUT_SECONDS,
        )

    labels = torch.zeros(EMULATED_ROWS, 1), torch.ones(EMULATED_ROWS)
    batch: list[MicroBatch] = [(torch.zeros(EMULATED_ROWS, WIDTH), labels)] * setting.num_micro_batches
    cuts = [CutPipeline(name, plan, build, batch, LEARNING_RATE) for name, plan in plans.items()]
    measured = alternate(cuts, num_rounds)
    return Compared(dict(zip(plans, measured, strict=True)), plans, 0, scaled, machine)


def _emulated_loss(outputs: Tensor, labels: object) -> Tensor:
    return emulated_loss(outputs, outputs)


def _plans(
    workload: Workload, setting: Setting, known: Known, others: Mapping[str, tuple[int, ...]]
) -> dict[str, Plan]:
    cuts: dict[str, str | tuple[int, ...]] = {"balanced": "balanced", **others}
    return {name: lay_out(workload, replace(setting, partition=cut), known) for name, cut in cuts.items()}


def _scaled(times: LayerTimes, factor: float) -> LayerTimes:
    forward, inward, weight = (
        tuple(factor * seconds for seconds in part)
        for part in (times.forward, times.input_gradient, times.weight_gradient)
    )
    return LayerTimes(forward, inward, weight)
