"""What a way to run a workload takes at least, in seconds and bytes, known before any layer is cut or schedule made.

With T the work of one micro-batch on all layers and x_s that of stage s, whatever the cut: a stage waits for the first
micro-batch to come to it, then works on all M of them, and then the last one has to go back. So the step C obeys

    wait_s + M x_s <= C  for every stage,    x_0 + x_1 + ... = T

and where wait_s is at least r (x_0 + ... + x_{s-1}) + h_s, the least C for which there are such x is where all of them
hold with equality. For unsplit backwards the wait is the whole work of the stages before (r = 1), there and back; if
backwards are split, only the forwards (r is then the least share that a layer's forward has in its work). With several
virtual stages per stage, stages before hold the first layers, no more is certain.

Nor is C shorter than the way of one micro-batch there and back, and the forwards, or input gradients, of the M - 1
others on any virtual stage on it: the last of them still has the rest of the way before it, the first has had it
behind it.

Where stages do not meet after a step (`Workload.stages_meet`), C is what a stage takes from its own first forward, so
that waits of split backwards do not count; the first stage's still holds the way there and back.

Nothing here is above what `lay_out` says of the same setting; a test holds the two together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from pipemlp.planning.contention import undisturbed
from pipemlp.planning.costs import entering_bytes
from pipemlp.planning.layers import kept_bytes
from pipemlp.planning.machine import CostSource, Curve, Network
from pipemlp.planning.memory import resting_state
from pipemlp.planning.recompute import Recompute
from pipemlp.planning.sums import BUCKET_BYTES, SUM_BYTES
from pipemlp.planning.workload import Setting, Workload
from pipemlp.schedule.methods import METHODS

_WHOLE_BACKWARDS = tuple(method.name for method in METHODS.values() if not method.splits_backward)


@dataclass(frozen=True)
class Outlook:
    """What is known before anything is laid out.

    Args:
        step_seconds: that a step takes at least.
        peak_bytes: that some rank holds at least.
        likely_seconds: that a step takes if all stages are equal, by its schedule's known bubble; a guess.
    """

    step_seconds: float
    peak_bytes: float
    likely_seconds: float


@dataclass(frozen=True)
class _Work:
    """One micro-batch on all layers: seconds, and those of the layer that takes longest.

    Args:
        forward, inward, weight: of all layers.
        first_weight: the weight gradient of the first layer.
        longest, longest_pass: of one layer, all three, and the longer one of forward and input gradient.
        share: the least share of a layer's forward in all three.
        forwards: of the first so many layers, [n + 1].
        kept: bytes that all layers keep, as far as no cut changes it.
    """

    forward: float
    inward: float
    weight: float
    first_weight: float
    longest: float
    longest_pass: float
    share: float
    forwards: tuple[float, ...]
    kept: float


class Outlooks:
    """Outlooks of settings of one workload; what several of them share is computed once.

    Args:
        workload: the model and its step.
        source: of the costs.
    """

    def __init__(self, workload: Workload, source: CostSource) -> None:
        self._workload, self._source, self._machine = workload, source, source.machine
        self._works: dict[tuple[int, Recompute], _Work] = {}
        self._networks: dict[tuple[int, int], tuple[Network, ...]] = {}
        self._cuts: dict[tuple[int, int], tuple[Network, ...]] = {}
        self._hops: dict[tuple[int, int, int], tuple[float, ...]] = {}
        parameters = [layer.num_parameters for layer in workload.layers if layer.parameters]
        self._num_parameters, self._largest, self._smallest = sum(parameters), max(parameters), min(parameters)

    def of(self, setting: Setting) -> Outlook:
        """The outlook of a setting, whatever the cut."""
        work = self._work(setting)
        seconds, least = self._step_seconds(setting), self._pipeline_seconds(setting, work)
        likely = seconds + max(0.0, self._likely_pipeline_seconds(setting, work) - least)
        return Outlook(seconds, self._peak_bytes(setting), likely)

    def _step_seconds(self, setting: Setting) -> float:
        num_stages, num_replicas = setting.num_stages, setting.num_replicas
        work, meet = self._work(setting), self._workload.stages_meet(setting.zero_stage)
        stages_seconds = self._stages_seconds(setting, work)
        pipeline = max(self._pipeline_seconds(setting, work), stages_seconds / num_stages)
        networks = self._networks_of(num_stages, num_replicas)
        optimizer = self._optimizer_seconds(setting, networks)
        if not meet:  # the slowest stage's own, and it may have few parameters
            shards = num_replicas if setting.zero_stage == 1 else 1
            updates = self._num_parameters * self._machine.optimizer_seconds / shards
            stages_seconds, optimizer = stages_seconds + updates, 0.0
            pipeline = max(pipeline, stages_seconds / num_stages)
        if not self._workload.exchange.is_plain:  # it may take nearly nothing
            return pipeline + optimizer + self._machine.step_seconds
        ready = pipeline + min(
            _least_reduction(network, min(BUCKET_BYTES, SUM_BYTES * self._smallest), num_replicas)
            for network in networks
        )
        if num_replicas > 1:  # the mean over the stages, of which one is no earlier
            reductions = min(self._reductions(network, setting) for network in networks)
            if self._machine.is_gpu:
                reductions -= work.weight + self._machine.action_seconds[2] * num_stages * setting.num_virtual_stages
            ready = max(ready, (stages_seconds + reductions) / num_stages)
        return ready + optimizer + self._machine.step_seconds

    def _pipeline_seconds(self, setting: Setting, work: _Work) -> float:
        """From the first forward to the last gradient."""
        num_stages, num_micro_batches = setting.num_stages, setting.num_micro_batches
        depth, besides = num_stages * setting.num_virtual_stages, self._besides()
        whole = work.forward + work.inward + work.weight + depth * besides
        is_whole = setting.schedule in _WHOLE_BACKWARDS
        hops = self._hops_of(setting)
        last = work.weight if is_whole else work.first_weight
        seconds = max(
            num_micro_batches * (work.longest + setting.num_virtual_stages * besides),
            work.forward
            + work.inward
            + last
            + 2 * hops[setting.num_virtual_stages * (num_stages - 1)]
            + (num_micro_batches - 1) * max(work.longest_pass, max(work.forward, work.inward) / depth),
        )
        if setting.num_virtual_stages > 1 or setting.schedule == "zb-auto":
            return seconds
        forward = self._machine.action_seconds[0] + self._machine.overhead_seconds
        share = 1.0 if is_whole else min(work.share, forward / besides) if besides else work.share
        if not is_whole and not self._workload.stages_meet(setting.zero_stage):
            return max(seconds, num_micro_batches * whole / num_stages)
        waits = [(2 if is_whole else 1) * hop for hop in hops[:num_stages]]
        return max(seconds, _least_step(whole, num_micro_batches, share, waits))

    def _likely_pipeline_seconds(self, setting: Setting, work: _Work) -> float:
        """By the bubbles of the schedules' own files, for equal stages; layers that cannot be shared evenly count."""
        num_stages, num_layers = setting.num_stages, len(self._workload.layers)
        uneven = -(-num_layers // num_stages) / num_layers
        besides = self._besides() * setting.num_virtual_stages
        whole = max((work.forward + work.inward + work.weight) * uneven, work.longest) + besides
        passes, weight = (work.forward + work.inward) * uneven, work.weight * uneven
        pause = {
            "zb-h1": max(0.0, passes - weight),
            "zb-h2": max(0.0, passes - 2 * weight),
            "interleaved-1f1b": whole / setting.num_virtual_stages,
            "interleaved-zb": max(0.0, passes - weight) / setting.num_virtual_stages,
            "zb-v": passes / 4,
            "zb-auto": 0.0,
        }.get(setting.schedule, whole)
        hops = self._hops_of(setting)[setting.num_virtual_stages * (num_stages - 1)]
        return setting.num_micro_batches * whole + (num_stages - 1) * pause + 2 * hops

    def _stages_seconds(self, setting: Setting, work: _Work) -> float:
        """All stages' ends of their last gradients, added up; from their own begin, if they do not meet."""
        depth = setting.num_stages * setting.num_virtual_stages
        whole = work.forward + work.inward + work.weight + depth * self._besides()
        if not self._workload.stages_meet(setting.zero_stage):
            return setting.num_micro_batches * whole
        num_stages = setting.num_stages
        waits = sum(work.forwards[:num_stages]) + sum(self._hops_of(setting)[:num_stages])
        return setting.num_micro_batches * whole + waits

    def _besides(self) -> float:
        """What each virtual stage takes for a micro-batch beside its layers; a backward counts as one action."""
        return sum(self._machine.action_seconds) + 2 * self._machine.overhead_seconds

    def _reductions(self, network: Network, setting: Setting) -> float:
        """All stages' reductions, added up; as many bytes as the parameters have, whatever the cut."""
        num_replicas = setting.num_replicas
        sent = 2 * (num_replicas - 1) / num_replicas * SUM_BYTES * self._num_parameters
        turns = setting.num_stages * 2 * (num_replicas - 1) * network.turn_seconds
        return _seconds_per_byte(network.reduction, sent) * sent + turns

    def _optimizer_seconds(self, setting: Setting, networks: tuple[Network, ...]) -> float:
        """Of the stage with most parameters: it holds its share of them, or the largest layer."""
        num_parameters = max(self._num_parameters / setting.num_stages, self._largest)
        is_sharded = setting.zero_stage == 1 or self._workload.exchange.serves
        shards = setting.num_replicas if is_sharded else 1
        machine = self._machine
        seconds = num_parameters * machine.optimizer_seconds / shards
        if shards > 1 and not self._workload.exchange.serves:
            size = self._workload.value_bytes * num_parameters
            seconds += min(_least_reduction(network, size, shards) for network in networks) / 2
        return seconds

    def _peak_bytes(self, setting: Setting) -> float:
        """State and activations of one rank.

        1F1B and GPipe hold n_s micro-batches on stage s. If no stage holds more than z, the layers' kept bytes K and
        state S obey K + S / max n <= z (1 / n_0 + 1 / n_1 + ...), whoever holds them.
        """
        num_stages, num_micro_batches = setting.num_stages, setting.num_micro_batches
        state, kept = self._state_bytes(setting), self._work(setting).kept
        held = [1.0] * num_stages
        if setting.num_virtual_stages == 1 and setting.schedule != "zb-auto":
            held = [float(min(num_stages - stage, num_micro_batches)) for stage in range(num_stages)]
            if setting.schedule == "gpipe":
                held = [float(num_micro_batches)] * num_stages
        return max(
            state / num_stages,
            state * self._largest / self._num_parameters,
            (kept + state / max(held)) / sum(1 / number for number in held),
        )

    def _state_bytes(self, setting: Setting) -> float:
        """Parameters, sums of gradients and optimizer of all layers, as `estimate_memory` counts them."""
        workload, num_replicas = self._workload, setting.num_replicas
        zero_stage = 1 if workload.exchange.serves else setting.zero_stage
        return float(
            sum(resting_state(self._num_parameters, workload.optimizer, workload.precision, zero_stage, num_replicas))
        )

    def _networks_of(self, num_stages: int, num_replicas: int) -> tuple[Network, ...]:
        key = num_stages, num_replicas
        if key not in self._networks:
            each = (self._machine.network_of_replicas(stage, num_replicas) for stage in range(num_stages))
            self._networks[key] = _different(each)
        return self._networks[key]

    def _hops_of(self, setting: Setting) -> tuple[float, ...]:
        """Seconds of so many messages at least, one over each of so many different cuts between neighbouring stages."""
        num_stages, num_replicas = setting.num_stages, setting.num_replicas
        rows = setting.micro_batch_rows(self._workload.global_batch_rows)
        key = rows, num_stages, num_replicas
        if key not in self._hops:
            grid = num_stages, num_replicas
            if grid not in self._cuts:
                cuts = (self._machine.network_of_cut(stage, stage + 1, num_replicas) for stage in range(num_stages - 1))
                self._cuts[grid] = _different(cuts)
            sizes = [rows * self._workload.value_bytes * layer.output_width for layer in self._workload.layers[:-1]]
            seconds = {
                size: min((network.message.at(size) for network in self._cuts[grid]), default=0.0)
                for size in set(sizes)
            }
            self._hops[key] = tuple(accumulate(sorted(map(seconds.__getitem__, sizes)), initial=0.0))
        return self._hops[key]

    def _work(self, setting: Setting) -> _Work:
        rows = setting.micro_batch_rows(self._workload.global_batch_rows)
        key = rows, setting.recompute
        if key not in self._works:
            self._works[key] = self._measure(rows, setting.recompute)
        return self._works[key]

    def _measure(self, rows: int, recompute: Recompute) -> _Work:
        layers, value_bytes = self._workload.layers, self._workload.value_bytes
        times = undisturbed(self._source.times(rows, recompute))
        whole = [sum(each) for each in zip(times.forward, times.input_gradient, times.weight_gradient, strict=True)]
        kept = 0.0
        if recompute == "elementwise":
            kept = float(rows * value_bytes * sum(layer.product_values_per_row for layer in layers))
        elif recompute == 0:
            own = [layer for layer in layers if layer.kind != "input"]
            kept = float(sum(kept_bytes(layer, rows, value_bytes) for layer in own))
            kept -= entering_bytes(own[0], rows, value_bytes) if own else 0
        return _Work(
            forward=sum(times.forward),
            inward=sum(times.input_gradient),
            weight=sum(times.weight_gradient),
            first_weight=times.weight_gradient[0],
            longest=max(whole),
            longest_pass=max(*times.forward, *times.input_gradient),
            share=min((f / both for f, both in zip(times.forward, whole, strict=True) if both > 0), default=0.0),
            forwards=tuple(accumulate(times.forward, initial=0.0)),
            kept=max(0.0, kept),
        )


def _different(networks: Iterable[Network]) -> tuple[Network, ...]:
    found: list[Network] = []
    for network in networks:
        if network not in found:
            found.append(network)
    return tuple(found)


def _least_step(whole: float, num_micro_batches: int, share: float, waits: Sequence[float]) -> float:
    """The least C of the inequalities above; `waits` are the h_s of every stage.

    With equality everywhere, the work of the first s stages is S_s = S_{s-1} (1 - r / M) + (C - h_{s-1}) / M: a
    straight line in C, of which S_P = T gives C.
    """
    stay, slope, less = 1 - share / num_micro_batches, 0.0, 0.0
    for wait in waits:
        slope = slope * stay + 1 / num_micro_batches
        less = less * stay + wait / num_micro_batches
    return (whole + less) / slope


def _least_reduction(network: Network, num_bytes: float, num_replicas: int) -> float:
    """What an all-reduce of so many bytes, or more, takes at least."""
    if num_replicas == 1:
        return 0.0
    turns = 2 * (num_replicas - 1)
    return _least(network.reduction, num_bytes * turns / num_replicas) + turns * network.turn_seconds


def _least(curve: Curve, num_bytes: float) -> float:
    """The least seconds for so many bytes, or more: a measured curve may fall."""
    later = [seconds for size, seconds in zip(curve.sizes, curve.seconds, strict=True) if size > num_bytes]
    last = curve.seconds[-1] if num_bytes <= curve.sizes[-1] else curve.at(num_bytes)
    return min([curve.at(num_bytes), *later, last])


def _seconds_per_byte(curve: Curve, most_bytes: float) -> float:
    """The least seconds per byte of messages up to a size: between two points of a curve it is that of one of them."""
    points = [
        seconds / size for size, seconds in zip(curve.sizes, curve.seconds, strict=True) if 0 < size <= most_bytes
    ]
    return min([*points, curve.at(most_bytes) / most_bytes]) if most_bytes else 0.0
