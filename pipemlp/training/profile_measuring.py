"""The whole profile, measured on every rank at once: layers, then links, then what a real pipeline adds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module

import torch

from pipemlp.config.root import RunConfig
from pipemlp.engine.pipeline import MicroBatch
from pipemlp.engine.virtual_stage import LossFunction
from pipemlp.gradients.links import Links
from pipemlp.gradients.pattern import make_pattern
from pipemlp.planning.devices import DEVICES
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.machine import Curve, Machine, Network, curve_of
from pipemlp.planning.profile import LEFT_OUT, Measurement, Profile, kinds_of, rows_to_measure
from pipemlp.planning.resolve import automatic_micro_batches
from pipemlp.planning.shapes import Task
from pipemlp.planning.sums import SUM_BYTES
from pipemlp.profiling.device import device_name, memory_of
from pipemlp.profiling.layer_timing import Budget, Kind, Progress, measure_layers
from pipemlp.profiling.links import Sum, measure_network
from pipemlp.profiling.rehearsal import Rehearsal, action_costs, step_seconds
from pipemlp.profiling.together import Together
from pipemlp.training.profile_optimizer import optimizer_seconds
from pipemlp.training.profile_rehearsal import most_stages, rehearsal_plan, rehearse, shortened
from pipemlp.training.profile_units import Benches, Making, made_up_batch

LAYERS_SHARE = 0.6
"""Of the time, for the layers; messages and rehearsals take what they take, which is little."""
MOST_REHEARSED_BYTES = 2**31
"""Of a rank's share of the shortened model on a CPU, with gradients and optimizer."""
STATE_BYTES = 16
"""Per parameter: weight, gradient, two moments."""
SMALLEST_FACTOR, LARGEST_FACTOR = 0.5, 3.0
"""Of sums over replicas at the end of a step to those alone; beyond, something else is wrong."""
NUM_LAYERS_REHEARSED = (1, 8)
"""Equal layers in a row, in the shorter and in the longer model."""
MOST_COPIES = 8
MOST_COPIED_BYTES = 2**28
"""Of the weights of all copies of a kind."""


@dataclass(frozen=True)
class Subject:
    """What is profiled.

    Args:
        config: resolved: optimizer, precision, clipping, seed, micro-batches.
        layers: of the whole model.
        loss: of the last layer.
        task: what its labels look like.
    """

    config: RunConfig
    layers: tuple[LayerDescription, ...]
    loss: LossFunction
    task: Task

    def wanted_rows(self, num_ranks: int) -> int:
        """Of a micro-batch: by the configuration, or where that runs on one rank, of a pipeline over all of them."""
        parallel, batch = self.config.chosen_parallel, self.config.training.global_batch_size
        if parallel.stages * parallel.data_parallel == 1:
            return batch // automatic_micro_batches(num_ranks, batch)
        return max(1, batch // (parallel.data_parallel * int(parallel.micro_batches)))


def measure_profile(
    subject: Subject, together: Together, seconds: float, progress: Progress, facts: Sequence[tuple[str, str]] = ()
) -> Profile:
    """Run on every rank at once; the same profile on every rank.

    Args:
        subject: what to profile.
        together: the ranks.
        seconds: to spend, roughly.
        progress: told what comes next, and how much is done.
        facts: what the profile holds for.

    Raises:
        RunFailedError: if the time ends before every kind of layer is measured once.
    """
    import_module("torch._dynamo")  # what counts storages loads it at its first use, which is not to be measured
    budget = Budget(seconds)
    kind_of_layer, firsts = kinds_of(subject.layers)
    making = _making(subject, together.device)
    kinds = [_kind(subject.layers, index, kind_of_layer) for index in firsts]
    rows = _rows_by_importance(subject, together.num_ranks)
    benches = Benches(making, subject.layers, firsts, [kind.num_copies for kind in kinds])
    found = measure_layers(
        kinds,
        rows,
        benches.of,
        together,
        Budget(LAYERS_SHARE * seconds),
        lambda text, fraction: progress(f"layers: {text}", LAYERS_SHARE * fraction),
    )
    benches.let_go()
    left_out = sorted(set(rows) - {measurement.rows for measurement in found[0]})
    if left_out:
        facts = (*facts, (LEFT_OUT, ", ".join(f"{size:,}" for size in left_out)))
    progress("messages between ranks", LAYERS_SHARE)
    network = _network(subject, together, found)
    machine = _machine(together, network, optimizer_seconds(subject.config, subject.layers, together))
    profile = Profile(machine, found, kind_of_layer, tuple(facts))
    rehearsals = []
    for number, most in enumerate(NUM_LAYERS_REHEARSED):
        progress(f"steps of a shortened model, {number + 1} of {len(NUM_LAYERS_REHEARSED)}", 0.7 + 0.15 * number)
        run = _rehearsal(subject, profile, together, most)
        rehearsals += [run] if run is not None else []
    progress("steps of replicas", 0.95)
    replicas = _rehearsal(subject, profile, together, NUM_LAYERS_REHEARSED[0], replicas=True)
    profile = _with_replicas(_with_rehearsals(profile, rehearsals), replicas, together.num_ranks)
    if subject.config.precision == "fp32":
        sharded = _rehearsal(subject, profile, together, NUM_LAYERS_REHEARSED[0], replicas=True, sharded=True)
        profile = _with_sharding(profile, sharded, together.num_ranks)
    progress(f"done in {budget.seconds - budget.left:.0f} s", 1.0)
    return profile


def _kind(layers: Sequence[LayerDescription], first: int, kind_of_layer: Sequence[int]) -> Kind:
    layer, own = layers[first], kind_of_layer[first]
    count = kind_of_layer.count(own)
    alike = f" and {count - 1} like it" if count > 1 else ""
    within = MOST_COPIED_BYTES // (8 * max(1, layer.num_parameters))  # a weight and the sum of its gradients
    copies = max(1, min(count, MOST_COPIES, within))
    in_a_row = first + 1 < len(layers) and kind_of_layer[first + 1] == own
    name = f"layer {first} ({layer.kind} {layer.input_width:,} to {layer.output_width:,}){alike}"
    return Kind(name, copies, is_chained=in_a_row and copies > 1)


def _making(subject: Subject, device: torch.device) -> Making:
    dtype = torch.bfloat16 if subject.config.precision == "bf16" else torch.float32
    return Making(device, dtype, subject.loss, subject.task, subject.config.run.seed)


def _rows_by_importance(subject: Subject, num_ranks: int) -> list[int]:
    """The wanted size first, then those that are nearest to it."""
    wanted = subject.wanted_rows(num_ranks)
    sizes = rows_to_measure(subject.config.training.global_batch_size, wanted)
    return sorted(sizes, key=lambda size: max(size, wanted) / min(size, wanted))


def _network(subject: Subject, together: Together, found: Sequence[Sequence[Measurement]]) -> Network:
    if together.num_ranks == 1:
        link = curve_of(DEVICES["cpu"].inside_node)  # nothing to measure: the nominal one
        return Network(link, link)
    value_bytes = 2 if subject.config.precision == "bf16" else 4
    widths = [layer.output_width for layer in subject.layers[:-1]]
    rows = [measurement.rows for measurement in found[0]]
    smallest, largest = (value_bytes * pick(widths) * pick(rows) for pick in (min, max))
    sizes = [smallest]
    while sizes[-1] * 8 < largest:
        sizes.append(sizes[-1] * 8)
    return measure_network(together, sorted({*sizes, min(largest, 2**26)}), _patterns())


def _patterns() -> dict[str, Sum]:
    """Our own, over all ranks."""
    if not torch.distributed.is_initialized():
        return {}
    links = Links(torch.distributed.new_group())
    return {name: make_pattern(name, links).sum for name in ("ring", "tree", "fully-connected")}


def _machine(together: Together, network: Network, updating: float) -> Machine:
    return Machine(
        name=device_name(together.device),
        is_measured=True,
        memory_bytes=memory_of(together.device, together.num_ranks),
        inside=network,
        between=network,
        optimizer_seconds=updating,
        is_gpu=together.device.type == "cuda",
    )


def _rehearsal(
    subject: Subject, profile: Profile, together: Together, most: int, *, replicas: bool = False, sharded: bool = False
) -> Rehearsal | None:
    """Of the model with at most so many equal layers in a row, or as many of them as fit; None if none do.

    A pipeline over the ranks; or with `replicas`, one stage on each of them, with ZeRO 1 if `sharded`.
    """
    if together.num_ranks == 1 and (replicas or not torch.distributed.is_initialized()):
        return None
    room = MOST_REHEARSED_BYTES if together.device.type == "cpu" else profile.machine.memory_bytes / 2
    while most > 0:
        kept, layers = shortened(subject.layers, most)
        num_stages = 1 if replicas else most_stages(layers, together.num_ranks)
        share = STATE_BYTES * sum(layer.num_parameters for layer in layers) / num_stages
        if share <= room:
            break
        most //= 2
    else:
        return None
    rows = subject.wanted_rows(together.num_ranks)
    own = replace(profile, kind_of_layer=tuple(profile.kind_of_layer[index] for index in kept))
    num_replicas = together.num_ranks // num_stages
    plan = rehearsal_plan(subject.config, layers, rows, num_stages, num_replicas, own, sharded=sharded)
    batch: list[MicroBatch] = made_up_batch(_making(subject, together.device), layers, rows, plan.num_micro_batches)
    return rehearse(subject.config, layers, plan, subject.loss, batch)


def _with_rehearsals(profile: Profile, rehearsals: Sequence[Rehearsal]) -> Profile:
    """The profile with what a pipeline adds: to actions, to messages, to steps."""
    if not rehearsals:
        return profile
    costs = action_costs(rehearsals)
    factors = {kind: factor for kind, (_, factor) in costs.items()}
    longest = rehearsals[-1]
    inside, hop = profile.machine.inside, longest.hop()
    if hop is not None:
        slower = max(0.0, hop - inside.message.at(longest.hop_bytes))
        message = Curve(inside.message.sizes, tuple(seconds + slower for seconds in inside.message.seconds))
        inside = replace(inside, message=message)
    machine = replace(
        profile.machine,
        inside=inside,
        between=inside,
        action_seconds=(costs["F"][0], costs["I"][0], costs["W"][0]),
        overhead_seconds=longest.overhead(),
        step_seconds=step_seconds(rehearsals, profile.machine.optimizer_seconds),
    )
    kinds = tuple(tuple(_scaled(each, factors) for each in kind) for kind in profile.kinds)
    return replace(profile, machine=machine, kinds=kinds)


def _with_replicas(profile: Profile, replicas: Rehearsal | None, num_replicas: int) -> Profile:
    """The profile with sums over replicas as long as they are at the end of a step, not as they are alone."""
    if replicas is None:
        return profile
    machine, size = profile.machine, replicas.num_parameters
    network = machine.inside
    expected = network.all_reduce_seconds(SUM_BYTES * size, num_replicas)
    found = replicas.tail() - machine.step_seconds - size * machine.optimizer_seconds
    factor = min(max(found / expected, SMALLEST_FACTOR), LARGEST_FACTOR)
    curve = network.reduction
    network = replace(network, reduction=Curve(curve.sizes, tuple(factor * seconds for seconds in curve.seconds)))
    return replace(profile, machine=replace(machine, inside=network, between=network))


def _with_sharding(profile: Profile, sharded: Rehearsal | None, num_replicas: int) -> Profile:
    """The profile with what DeepSpeed's sharded optimizer takes at the end of a step, beside sums and updates."""
    if sharded is None:
        return profile
    machine, size = profile.machine, sharded.num_parameters
    network = machine.inside
    expected = machine.step_seconds + size * machine.optimizer_seconds / num_replicas
    expected += network.all_reduce_seconds(SUM_BYTES * size, num_replicas) * 1.5  # half of it for the new parameters
    seconds = max(0.0, sharded.tail() - expected) / sharded.num_layers
    return replace(profile, machine=replace(machine, sharding_seconds=seconds))


def _scaled(measured: Measurement, factors: dict[str, float]) -> Measurement:
    return replace(
        measured,
        forward_seconds=factors["F"] * measured.forward_seconds,
        input_gradient_seconds=factors["I"] * measured.input_gradient_seconds,
        weight_gradient_seconds=factors["W"] * measured.weight_gradient_seconds,
        bare_forward_seconds=factors["F"] * measured.bare_forward_seconds,
        again_seconds=factors["I"] * measured.again_seconds,
    )
