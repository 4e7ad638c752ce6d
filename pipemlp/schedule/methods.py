"""The schedules by the names that users write."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from pipemlp.schedule.costs import Costs, uniform_costs
from pipemlp.schedule.gpipe import gpipe
from pipemlp.schedule.interleaved import interleaved_one_f_one_b
from pipemlp.schedule.interleaved_zb import interleaved_zb
from pipemlp.schedule.one_f_one_b import one_f_one_b
from pipemlp.schedule.placement import Placement
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.zb_auto import zb_auto
from pipemlp.schedule.zb_h1 import zb_h1
from pipemlp.schedule.zb_h2 import zb_h2
from pipemlp.schedule.zb_v import zb_v


@dataclass(frozen=True)
class Method:
    """What is known of a schedule before it is made.

    Args:
        name: as the user writes it.
        summary: one line for people who choose.
        placement: which stage holds which virtual stages; with one per stage, a loop and a V are the same.
        splits_backward: whether input and weight gradients are separate actions.
        default_virtual_stages: virtual stages per stage if nobody says.
        virtual_stages: how many may be asked for; None for any number.
        make: the schedule of so many stages, micro-batches and virtual stages per stage; None if costs decide.
    """

    name: str
    summary: str
    placement: Placement
    splits_backward: bool
    default_virtual_stages: int
    virtual_stages: tuple[int, ...] | None
    make: Callable[[int, int, int], Schedule] | None

    @property
    def allowed(self) -> str:
        """How many virtual stages per stage it takes, in words."""
        return " or ".join(map(str, self.virtual_stages)) if self.virtual_stages else "any number from 1 on"

    def check(self, num_virtual_stages: int) -> None:
        """Refuse a number of virtual stages per stage that the method has no order for.

        Raises:
            ValueError: saying which numbers it takes.
        """
        if num_virtual_stages not in self.virtual_stages if self.virtual_stages else num_virtual_stages < 1:
            words = "virtual stage" if num_virtual_stages == 1 else "virtual stages"
            raise ValueError(f"{self.name} with {num_virtual_stages} {words} per stage; it takes {self.allowed}")


def _single(name: str, summary: str, make: Callable[[int, int], Schedule], splits_backward: bool) -> Method:
    return Method(
        name, summary, "loop", splits_backward, 1, (1,), lambda stages, micro_batches, _: make(stages, micro_batches)
    )


_METHODS = (
    _single("gpipe", "all forwards, then all backwards; holds every micro-batch", gpipe, False),
    _single("1f1b", "one forward, one backward in turn; holds as many micro-batches as stages", one_f_one_b, False),
    Method(
        "interleaved-1f1b",
        "1F1B over several virtual stages per stage: less bubble, more transfers and memory",
        "loop",
        False,
        2,
        None,
        interleaved_one_f_one_b,
    ),
    _single("zb-h1", "1F1B with late weight gradients: a third of its bubble in its memory", zb_h1, True),
    _single("zb-h2", "zb-h1 with twice the memory, and no pause within a stage", zb_h2, True),
    Method(
        "interleaved-zb",
        "zb-h1 over several virtual stages per stage: less bubble, more transfers",
        "loop",
        True,
        2,
        None,
        interleaved_zb,
    ),
    Method(
        "zb-v",
        "two virtual stages per stage, there and back: the least bubble in 1F1B's memory",
        "v",
        True,
        2,
        (2,),
        lambda stages, micro_batches, _: zb_v(stages, micro_batches),
    ),
    Method("zb-auto", "made for measured costs and a memory cap", "v", True, 2, (1, 2), None),
)
METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _METHODS})
"""All schedules by name, the simple ones first."""


def method_of(name: str) -> Method:
    """The method of a name.

    Raises:
        ValueError: if there is none; with the nearest name and all names.
    """
    method = METHODS.get(name)
    if method is None:
        near = get_close_matches(name.lower().replace("_", "-"), METHODS, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ValueError(f"unknown schedule {name!r}{hint} There are {', '.join(METHODS)}")
    return method


def make_schedule(
    name: str,
    num_stages: int,
    num_micro_batches: int,
    num_virtual_stages: int | None = None,
    *,
    costs: Costs | None = None,
    memory_cap: float | Sequence[float] | None = None,
) -> Schedule:
    """The schedule of that name.

    Args:
        name: one of `METHODS`.
        num_stages, num_micro_batches: sizes, at least 1.
        num_virtual_stages: per stage; the method's default if not given.
        costs: for zb-auto, equal ones if not given; the others are the same whatever they cost.
        memory_cap: for zb-auto, bytes per stage; the others hold what they hold, which `simulate` says.

    Raises:
        ValueError: for an unknown name, a size that the method does not have, or a cap that no order holds.
    """
    method = method_of(name)
    if num_virtual_stages is None:
        num_virtual_stages = method.default_virtual_stages
    method.check(num_virtual_stages)
    if method.make is not None:
        return method.make(num_stages, num_micro_batches, num_virtual_stages)
    costs = costs or uniform_costs(num_stages, num_virtual_stages)
    return zb_auto(num_stages, num_micro_batches, num_virtual_stages, costs, memory_cap)
