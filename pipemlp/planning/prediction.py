"""How long a step takes: the simulated pipeline, then what of the reductions nothing hides, then the optimizer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import fsum

from pipemlp.planning.contention import Overlaps, slowed
from pipemlp.planning.exchange import Exchange
from pipemlp.planning.layer_times import LayerTimes
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.machine import Machine
from pipemlp.planning.sums import SUM_BYTES
from pipemlp.schedule.costs import Costs
from pipemlp.schedule.placement import Placement, stage_of
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulation import Simulation

PLAIN = Exchange()


@dataclass(frozen=True)
class Prediction:
    """Seconds of one step and what makes them up, and bytes.

    Args:
        is_measured: whether the costs are from a profile.
        pipeline_seconds: from the first forward to the last gradient; of the slowest stage, where they do not meet.
        reduction_seconds: of summing up gradients over the replicas, as far as nothing hides it.
        optimizer_seconds: of the optimizer, and of what ZeRO 1 gathers after it.
        other_seconds: the batch, the loss, the loop.
        bubbles: by stage, the idle share of the pipeline's time.
        counted_bytes: by stage, what tensors hold at the peak.
    """

    is_measured: bool
    pipeline_seconds: float
    reduction_seconds: float
    optimizer_seconds: float
    other_seconds: float
    bubbles: tuple[float, ...]
    counted_bytes: tuple[float, ...] = ()

    @property
    def step_seconds(self) -> float:
        """All of it."""
        return self.pipeline_seconds + self.reduction_seconds + self.optimizer_seconds + self.other_seconds

    @property
    def bubble_fraction(self) -> float:
        """Idle share of all stages' time in the pipeline."""
        return sum(self.bubbles) / len(self.bubbles)


def timed_costs(
    costs: Costs,
    boundaries: Sequence[int],
    times: LayerTimes,
    machine: Machine,
    grid: tuple[int, int],
    placement: Placement,
    met: Overlaps | None = None,
) -> Costs:
    """The costs of a cut with other seconds: those of the layers and of the machine.

    Args:
        costs: of the same cut; their bytes stay.
        boundaries: of the virtual stages.
        times: of the layers.
        machine: of the actions and messages.
        grid: stages, replicas.
        placement: which stages hold which virtual stages.
        met: how many of the other ranks compute during each virtual stage's actions; all of them if not given.
    """
    num_stages, num_replicas = grid

    def of_runs(kind: str, values: Sequence[float], besides: float) -> tuple[float, ...]:
        result = []
        for virtual_stage, (start, stop) in enumerate(pairwise(boundaries)):
            overlap = 1.0 if met is None else met.get((virtual_stage, kind), 1.0)
            result.append(besides + fsum(slowed(values[start:stop], times.alone[start:stop], overlap)))
        return tuple(result)

    forward, inward, weight = machine.action_seconds
    hops = []
    for index, size in enumerate(costs.hop_bytes):
        one, other = (stage_of(v, num_stages, placement) for v in (index, index + 1))
        hops.append(machine.network_of_cut(one, other, num_replicas).message.at(size) if one != other else 0.0)
    return replace(
        costs,
        forward=of_runs("F", times.forward, forward),
        input_gradient=of_runs("I", times.input_gradient, inward),
        weight_gradient=of_runs("W", times.weight_gradient, weight),
        hop=tuple(hops),
        overhead=machine.overhead_seconds,
    )


def predict(
    simulation: Simulation,
    costs: Costs,
    machine: Machine,
    held: Sequence[Sequence[LayerDescription]],
    *,
    num_replicas: int,
    zero_stage: int,
    value_bytes: int,
    exchange: Exchange = PLAIN,
    stages_meet: bool = True,
) -> Prediction:
    """The time from one step to the next.

    Where stages do not meet after a step, one that begins later than the others also begins its next step later: what
    counts is the stage that takes longest from its own first forward to its own update, and the parts are its own.

        stage 0   |F F F B W B W ...  update|F F F ...
        stage 1       |F F B W B W ...  update|F F ...

    Args:
        simulation: of its schedule with `costs`, which `timed_costs` made.
        costs: the same.
        machine: the same.
        held: the layers of each stage.
        num_replicas, zero_stage: the replicas, and whether the optimizer is sharded over them.
        value_bytes: of one parameter.
        exchange: of gradients.
        stages_meet: whether all of them are done with a step before any begins the next.
    """
    schedule = simulation.schedule
    parts: list[tuple[float, float, float]] = []
    for stage, layers in enumerate(held):
        network = machine.network_of_replicas(stage, num_replicas)
        num_parameters = sum(layer.num_parameters for layer in layers)
        exposed = _exposed(schedule, stage, costs, machine, num_parameters, num_replicas, exchange)
        shards = num_replicas if zero_stage == 1 or exchange.serves else 1
        updating = machine.optimizer_seconds * num_parameters / shards
        if shards > 1 and not exchange.serves:
            # half of an all-reduce: every rank sends its shard of the new parameters around once
            updating += network.all_reduce_seconds(value_bytes * num_parameters, num_replicas) / 2
            updating += machine.sharding_seconds * sum(1 for layer in layers if layer.parameters)
        begins = 0.0 if stages_meet else simulation.starts[stage][0]
        parts.append((simulation.ends[stage][-1] - begins, exposed, updating))
    pipeline, reduction, optimizer = max(parts, key=sum)
    if stages_meet:
        pipeline, optimizer = simulation.makespan, max(updating for _, _, updating in parts)
        reduction = max(end + exposed for end, exposed, _ in parts) - pipeline
    return Prediction(
        is_measured=machine.is_measured,
        pipeline_seconds=pipeline,
        reduction_seconds=reduction,
        optimizer_seconds=optimizer,
        other_seconds=machine.step_seconds,
        bubbles=simulation.bubbles,
    )


def _exposed(
    schedule: Schedule,
    stage: int,
    costs: Costs,
    machine: Machine,
    num_parameters: int,
    num_replicas: int,
    exchange: Exchange,
) -> float:
    """What of a stage's reductions comes after its last gradient.

    A bucket is reduced once the last micro-batch has gone through its layers; the other layers hide it meanwhile. Of a
    parameter server that is the push; the pull follows the update.
    """
    num_bytes = SUM_BYTES * num_parameters
    network = machine.network_of_replicas(stage, num_replicas)
    whole = exchange.seconds(network, num_bytes, num_replicas)
    bucket = exchange.bucket_bytes
    if exchange.update != "synchronous" or not machine.is_gpu or num_bytes <= bucket:
        return whole
    meanwhile = sum(costs.weight_gradient[v] for v in schedule.virtual_stages_of(stage)) * (1 - bucket / num_bytes)
    pull = exchange.pull_seconds(network, num_bytes, num_replicas)
    last = exchange.seconds(network, bucket, num_replicas) - exchange.pull_seconds(network, bucket, num_replicas)
    return pull + max(whole - pull - meanwhile, last)
