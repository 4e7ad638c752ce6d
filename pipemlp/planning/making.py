"""From one way to run a workload to its plan: the cut, the costs, the schedule, the step's time, the memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from pipemlp.config.root import RunConfig
from pipemlp.planning.activation_peaks import ActivationPeaks, activation_peaks
from pipemlp.planning.analytic import nominal_costs
from pipemlp.planning.balanced import balanced
from pipemlp.planning.contention import overlaps
from pipemlp.planning.costs import analytic_costs
from pipemlp.planning.layer_costs import LayerCosts, layer_costs
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.machine import CostSource
from pipemlp.planning.memory import MemoryEstimate, estimate_memory
from pipemlp.planning.partition import boundaries_for, check_sizes
from pipemlp.planning.plan import Plan
from pipemlp.planning.prediction import predict, timed_costs
from pipemlp.planning.workload import Setting, Workload, setting_of, workload_of
from pipemlp.schedule.costs import Costs, uniform_costs
from pipemlp.schedule.methods import make_schedule, method_of
from pipemlp.schedule.placement import Placement
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import simulate
from pipemlp.schedule.simulation import Simulation
from pipemlp.schedule.zb_auto import zb_auto
from pipemlp.schedule.zb_h1 import zb_h1
from pipemlp.schedule.zb_v import zb_v


@dataclass(frozen=True)
class Known:
    """What is decided already, and by whom the rest is judged.

    Args:
        source: of the layers' costs; without one, the plan knows proportions only, and `balanced` goes by FLOPs.
        schedule: the user's own, or that of rank 0.
        costs: of the schedule's actions, from rank 0 or a plan file.
        memory_cap: bytes that no rank may exceed; `balanced` then cuts within it.
        runs_on_gpu: whether the ranks have GPUs, where no source says so.
    """

    source: CostSource | None = None
    schedule: Schedule | None = None
    costs: Costs | None = None
    memory_cap: float | None = None
    runs_on_gpu: bool = False

    @property
    def on_gpu(self) -> bool:
        """Whether the ranks have GPUs."""
        return self.runs_on_gpu if self.source is None else self.source.machine.is_gpu


NOTHING_KNOWN = Known()
CONTENTION_ROUNDS = 3
"""After so many simulations who computes beside whom hardly changes any more."""
MOST_ACTIONS_WALKED = 4_000
"""Of a schedule whose memory is followed from action to action."""


def make_plan(config: RunConfig, layers: Sequence[LayerDescription], known: Known = NOTHING_KNOWN) -> Plan:
    """The plan of a resolved configuration (no `auto` left in `parallel`).

    Raises:
        ValueError: if the model cannot be cut as asked, or the schedule cannot have these sizes.
    """
    return lay_out(workload_of(config, tuple(layers)), setting_of(config), known)


def lay_out(workload: Workload, setting: Setting, known: Known = NOTHING_KNOWN) -> Plan:
    """The plan of one way to run a workload.

    Raises:
        ValueError: as `make_plan`.
    """
    if setting.partition != "balanced":
        return _with_cut(workload, setting, known, cut_for_setting(workload, setting, known))
    cut = cut_for_setting(workload, setting, replace(known, memory_cap=None))
    plan = _with_cut(workload, setting, known, cut)
    cap = known.memory_cap
    if cap is None or max(memory.total_bytes for memory in plan.memory) <= cap:
        return plan
    in_flight = simulate(plan.schedule, uniform_costs(setting.num_stages, setting.num_virtual_stages)).peak_in_flight
    balanced_items = ("parameter", "gradient", "optimizer", "activation")
    besides = max(each.total_bytes - sum(each.items()[name] for name in balanced_items) for each in plan.memory)
    try:
        tight = _balanced(workload, setting, known, cap - besides, in_flight)
    except ValueError:  # no cut keeps the cap: the plan says by how much
        return plan
    other = _with_cut(workload, setting, known, tight)
    return min(plan, other, key=lambda each: max(memory.total_bytes for memory in each.memory))


class SettingCut(NamedTuple):
    """Boundaries, and if they are balanced, how much faster the slowest stage of another cut might be."""

    boundaries: tuple[int, ...]
    distance: float | None


def cut_for_setting(workload: Workload, setting: Setting, known: Known) -> SettingCut:
    """Where a setting cuts the layers.

    Raises:
        ValueError: with the rule and its arithmetic, if the cut is impossible.
    """
    if setting.partition != "balanced":
        counts = setting.num_stages, setting.num_virtual_stages
        return SettingCut(boundaries_for(setting.partition, workload.layers, *counts), None)
    check_sizes(workload.layers, setting.num_stages, setting.num_virtual_stages)
    return _balanced(workload, setting, known, None, None)


def _balanced(
    workload: Workload, setting: Setting, known: Known, cap: float | None, in_flight: Sequence[float] | None
) -> SettingCut:
    cut = balanced(
        _layer_costs(workload, setting, known),
        setting.num_stages,
        setting.num_virtual_stages,
        setting.placement_of_cut(known.schedule),
        trainable=[bool(layer.parameters) for layer in workload.layers],
        memory_caps=None if cap is None else [cap] * setting.num_stages,
        in_flight=in_flight,
    )
    return SettingCut(cut.boundaries, cut.distance)


def _layer_costs(workload: Workload, setting: Setting, known: Known) -> LayerCosts:
    """By layer; a micro-batch's share of the optimizer's step counts with the weight gradient."""
    source, rows = known.source or nominal_costs(workload), setting.micro_batch_rows(workload.global_batch_rows)
    machine, times = source.machine, source.times(rows, setting.recompute)
    shards = setting.num_replicas if setting.zero_stage == 1 else 1
    updating = machine.optimizer_seconds / shards / setting.num_micro_batches
    weights = zip(times.weight_gradient, workload.layers, strict=True)
    times = replace(
        times, weight_gradient=tuple(seconds + updating * layer.num_parameters for seconds, layer in weights)
    )
    return layer_costs(
        workload.layers,
        times,
        micro_batch_rows=rows,
        value_bytes=workload.value_bytes,
        recompute=setting.recompute,
        message_seconds=machine.network_of_cut(0, setting.num_stages - 1, setting.num_replicas).message.at,
        optimizer=workload.optimizer,
        zero_stage=setting.zero_stage,
        num_replicas=setting.num_replicas,
    )


def _with_cut(workload: Workload, setting: Setting, known: Known, cut: SettingCut) -> Plan:
    boundaries = cut.boundaries
    source, (simulation, costs) = known.source, _simulated(workload, setting, known, boundaries)
    schedule = simulation.schedule
    runs = [workload.layers[start:stop] for start, stop in pairwise(boundaries)]
    held = [[runs[s] for s in schedule.virtual_stages_of(stage)] for stage in range(schedule.num_stages)]
    flat = [[layer for run in own for layer in run] for own in held]
    memory = _memory(workload, setting, known, held, simulation, costs)
    prediction = None
    if source is not None:
        seconds = predict(
            simulation,
            costs,
            source.machine,
            flat,
            num_replicas=setting.num_replicas,
            zero_stage=setting.zero_stage,
            value_bytes=workload.value_bytes,
            exchange=workload.exchange,
            stages_meet=workload.stages_meet(setting.zero_stage),
        )
        prediction = replace(seconds, counted_bytes=tuple(float(each.counted_bytes) for each in memory))
    return Plan(
        boundaries=boundaries,
        distance=cut.distance,
        schedule=schedule,
        num_replicas=setting.num_replicas,
        micro_batch_rows=setting.micro_batch_rows(workload.global_batch_rows),
        zero_stage=setting.zero_stage,
        recompute=setting.recompute,
        costs=costs,
        num_parameters=tuple(sum(layer.num_parameters for layer in own) for own in flat),
        bubble_fraction=prediction.bubble_fraction if prediction else _even_bubble(setting, schedule),
        memory=memory,
        prediction=prediction,
    )


def _simulated(
    workload: Workload, setting: Setting, known: Known, boundaries: tuple[int, ...]
) -> tuple[Simulation, Costs]:
    """The schedule's simulation, and the costs of its actions.

    The source's costs depend on who computes beside whom, which the simulation tells: the one is found by the other.
    """
    source, rows = known.source, setting.micro_batch_rows(workload.global_batch_rows)
    if known.costs is not None:
        schedule = known.schedule or _schedule(setting, known.costs, setting.placement_of_cut())
        return simulate(schedule, known.costs), known.costs
    costs = analytic_costs(
        workload.layers,
        boundaries,
        micro_batch_rows=rows,
        value_bytes=workload.value_bytes,
        recompute=setting.recompute,
    )
    if source is None:
        schedule = known.schedule or _schedule(setting, costs, None)
        return simulate(schedule, costs), costs
    times, grid = source.times(rows, setting.recompute), (setting.num_stages, setting.num_replicas)
    costs = timed_costs(costs, boundaries, times, source.machine, grid, setting.placement_of_cut(known.schedule))
    schedule = known.schedule or _schedule(setting, costs, setting.placement_of_cut())
    simulation = simulate(schedule, costs)
    for _ in range(CONTENTION_ROUNDS if times.alone else 0):
        met = overlaps(simulation, setting.num_replicas)
        costs = timed_costs(costs, boundaries, times, source.machine, grid, schedule.placement, met)
        simulation = simulate(schedule, costs)
    return simulation, costs


def _even_bubble(setting: Setting, schedule: Schedule) -> float:
    return simulate(schedule, uniform_costs(setting.num_stages, setting.num_virtual_stages)).bubble_fraction


def _memory(
    workload: Workload,
    setting: Setting,
    known: Known,
    held: Sequence[Sequence[Sequence[LayerDescription]]],
    simulation: Simulation,
    costs: Costs,
) -> tuple[MemoryEstimate, ...]:
    """By stage; within actions to the byte for schedules that are not very long, else at most."""
    schedule, peaks = simulation.schedule, simulation.peak_bytes
    around: Sequence[ActivationPeaks | None] = [None] * schedule.num_stages
    if sum(map(len, schedule.actions)) <= MOST_ACTIONS_WALKED:
        around = activation_peaks(schedule, costs)
    return tuple(
        estimate_memory(
            own,
            peak_bytes=peak,
            peaks=within,
            micro_batch_rows=setting.micro_batch_rows(workload.global_batch_rows),
            num_micro_batches=setting.num_micro_batches,
            optimizer=workload.optimizer,
            weight_decay=workload.weight_decay,
            has_class_labels=workload.has_class_labels,
            precision=workload.precision,
            zero_stage=setting.zero_stage,
            num_replicas=setting.num_replicas,
            recompute=setting.recompute,
            on_gpu=known.on_gpu,
            exchange=workload.exchange,
        )
        for own, peak, within in zip(held, peaks, around, strict=True)
    )


def _schedule(setting: Setting, costs: Costs, placement: Placement | None) -> Schedule:
    """The schedule of the setting's name; zb-auto may hold what zb-h1, or zb-v, holds on its fullest stage.

    Without a cap it would hold every micro-batch wherever that saves a moment. Costs with the seconds of messages are
    for the placement that is given.
    """
    sizes = setting.num_stages, setting.num_micro_batches
    if method_of(setting.schedule).make is not None:
        return make_schedule(setting.schedule, *sizes, setting.num_virtual_stages)
    usual = zb_h1(*sizes) if setting.num_virtual_stages == 1 else zb_v(*sizes)
    cap = max(simulate(usual, costs).peak_bytes)
    return zb_auto(*sizes, setting.num_virtual_stages, costs, cap, placement=placement)
