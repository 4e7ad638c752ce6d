"""From what a user asks for, a schedule by name or from a file and its sizes, to a simulated step."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from pipemlp.config.errors import ConfigError
from pipemlp.planning.automatic import make_automatic
from pipemlp.planning.exploring import ROUNDING
from pipemlp.planning.stage_costs import StageCosts
from pipemlp.schedule.bounds import one_at_a_time
from pipemlp.schedule.methods import Method, make_schedule, method_of
from pipemlp.schedule.picture import sizes_text
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import simulate as simulate_with_costs
from pipemlp.schedule.simulation import Simulation
from pipemlp.schedule.torch_csv import read_csv
from pipemlp.schedule.validate import check

MOST_ACTIONS = 10_000_000
"""Forwards and gradients of a step; the simulation of so many takes a minute and several gigabytes."""


class _Sizes(NamedTuple):
    """What the user gave; None where nothing."""

    stages: int | None
    virtual_stages: int | None
    micro_batches: int | None

    def check(self) -> None:
        problems = [
            f"{name}: {size} is too small; at least 1"
            for name, size in self._asdict().items()
            if size is not None and size < 1
        ]
        if problems:
            raise ConfigError(problems)

    def check_against(self, schedule: Schedule) -> None:
        """Refuse a schedule that has other sizes."""
        own = _Sizes(schedule.num_stages, schedule.num_virtual_stages, schedule.num_micro_batches)
        if any(asked not in (None, there) for asked, there in zip(self, own, strict=True)):
            words = ("stages", "virtual stages", "micro-batches")
            asked = ", ".join(f"{size} {word}" for size, word in zip(self, words, strict=True) if size is not None)
            raise ConfigError(f"{schedule.name}: is for {sizes_text(schedule)}; {asked} were asked for")


def simulate(
    schedule: str | Path | Schedule,
    num_stages: int | None = None,
    num_micro_batches: int | None = None,
    num_virtual_stages: int | None = None,
    *,
    forward: float = 1.0,
    input_gradient: float = 1.0,
    weight_gradient: float = 1.0,
    hop: float = 0.0,
    memory: float | None = None,
) -> Simulation:
    """Clock a schedule on equal stages.

    Args:
        schedule: a name, such as `zb-v`, a file ending in .csv, or a schedule.
        num_stages, num_micro_batches: may be left out where the schedule has them.
        num_virtual_stages: per stage; the method's own number if left out.
        forward, input_gradient, weight_gradient, hop: as in `StageCosts`.
        memory: the most that a stage may hold, in what a whole stage keeps of one micro-batch; `zb-auto` finds an
            order within it.

    Raises:
        ConfigError: for an unknown name, impossible sizes or costs, a file that is no schedule or one for other
            sizes, a memory that no order satisfies.
    """
    costs = StageCosts(forward, input_gradient, weight_gradient, hop)
    costs.check()
    if memory is not None and not (isfinite(memory) and memory > 0.0):
        raise ConfigError(f"memory: {memory:g} is no size; it must be finite and above 0")
    sizes = _Sizes(num_stages, num_virtual_stages, num_micro_batches)
    sizes.check()
    with without_collector():
        found = _find(schedule, sizes, costs, memory)
        sizes.check_against(found)
        simulation = simulate_with_costs(found, costs.of_all(found.num_stages, found.num_virtual_stages))
    peak = max(simulation.peak_bytes)
    if memory is not None and peak > memory * (1.0 + ROUNDING):
        raise ConfigError(
            f"memory: {found.name} holds {peak:g} on its fullest stage, more than {memory:g}; try zb-auto"
        )
    return simulation


@contextmanager
def without_collector() -> Iterator[None]:
    """Spares the collector millions of tuples without a cycle, which it would visit again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _find(schedule: str | Path | Schedule, sizes: _Sizes, costs: StageCosts, memory: float | None) -> Schedule:
    if isinstance(schedule, Schedule):
        return _checked(schedule)
    if str(schedule).endswith(".csv"):
        return _from_file(Path(schedule))
    return _by_name(str(schedule), sizes, costs, memory)


def _checked(schedule: Schedule) -> Schedule:
    try:
        check(schedule)
    except ValueError as error:
        raise ConfigError(f"{schedule.name}: {error}") from error
    return schedule


def _from_file(path: Path) -> Schedule:
    try:
        return read_csv(path.read_text(encoding="utf-8"), path.name)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no text; a schedule is a CSV of actions such as 0F0") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _by_name(name: str, sizes: _Sizes, costs: StageCosts, memory: float | None) -> Schedule:
    try:
        method = method_of(name)
        num_virtual_stages = sizes.virtual_stages or method.default_virtual_stages
        method.check(num_virtual_stages)
    except ValueError as error:
        raise ConfigError(f"schedule: {error}") from error
    if sizes.stages is None or sizes.micro_batches is None:
        raise ConfigError(f"schedule: {name} is for any sizes; give stages and micro-batches")
    num_actions = sizes.stages * num_virtual_stages * sizes.micro_batches * (3 if method.splits_backward else 2)
    if num_actions > MOST_ACTIONS:
        raise ConfigError(
            f"schedule: {sizes.stages} stages x {num_virtual_stages} virtual stages x {sizes.micro_batches} "
            f"micro-batches make {num_actions:,} actions; at most {MOST_ACTIONS:,}"
        )
    if method.make is not None:
        return make_schedule(name, sizes.stages, sizes.micro_batches, num_virtual_stages)
    numbers = (sizes.virtual_stages,) if sizes.virtual_stages else tuple(reversed(method.virtual_stages or ()))
    if memory is not None:
        _check_memory(method, sizes.stages, numbers, costs, memory)
    return make_automatic(sizes.stages, sizes.micro_batches, numbers, costs, memory)


def _check_memory(
    method: Method, num_stages: int, virtual_stages: Sequence[int], costs: StageCosts, memory: float
) -> None:
    """Refuse a cap under which not even a single micro-batch can run."""
    least = min(
        max(simulate_with_costs(single, costs.of_all(num_stages, number)).peak_bytes)
        for number in virtual_stages
        for single in [one_at_a_time(num_stages, 1, number, method.placement)]
    )
    if least > memory * (1.0 + ROUNDING):
        raise ConfigError(
            f"memory: no order of {method.name} holds {memory:g}; the smallest that one does is {least:g}"
        )
