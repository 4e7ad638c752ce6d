"""When the actions of a step began and ended on this rank: two marks per action while it listens, nothing otherwise.

A mark is a reading of the host's clock, or on a GPU an event in its stream, which is read when the step is over.
A compute action begins with the wait for its message, if there is one, so that `start .. start + waited` is the
wait. A send ends when this rank noticed that it was done, a receive when its message was taken.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from pipemlp.schedule.action import Action
from pipemlp.schedule.measured import Event

Result = TypeVar("Result")
NUM_READINGS = 8


@dataclass
class _Marks:
    start: Any
    end: Any = None
    wait: tuple[Any, Any] | None = None


class Clock:
    """Notes the actions of a step between `listen` and `events`.

    Args:
        device: whose time is measured.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._offset: float | None = None
        self._base: tuple[float, Any] = (0.0, None)
        self._marks: dict[Action, _Marks] | None = None
        self._current: _Marks | None = None

    def listen(self) -> None:
        """Note what comes; all ranks do so at the same step."""
        if self._offset is None:
            self._offset = _offset_to_rank_0()
        self._marks = {}
        if self._on_gpu:
            torch.cuda.synchronize()
        self._base = time.perf_counter(), self._mark()

    @property
    def listens(self) -> bool:
        """Whether anybody wants to know."""
        return self._marks is not None

    def _mark(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def begin(self, action: Action) -> None:
        """An action begins."""
        if self._marks is not None:
            self._current = self._marks[action] = _Marks(self._mark())

    def end(self, action: Action) -> None:
        """It is done; a later call notes that its transfer is."""
        if self._marks is not None and action in self._marks:
            self._marks[action].end = self._mark()

    def waited(self, wait: Callable[[], Result]) -> Result:
        """Call `wait`, and count its time as the current action's wait."""
        if self._marks is None or self._current is None:
            return wait()
        start = self._mark()
        result = wait()
        self._current.wait = start, self._mark()
        return result

    def events(self) -> list[Event]:
        """What was noted, in seconds of rank 0's clock, in the order of the starts; the clock stops listening."""
        marks, self._marks, self._current = self._marks or {}, None, None
        if self._on_gpu:
            torch.cuda.synchronize()
        return [
            Event(
                action,
                self._seconds(own.start),
                self._seconds(own.end),
                self._seconds(own.wait[1]) - self._seconds(own.wait[0]) if own.wait else 0.0,
            )
            for action, own in marks.items()
        ]

    def _seconds(self, mark: Any) -> float:
        host, base = self._base
        seconds = host + base.elapsed_time(mark) / 1000 if self._on_gpu else mark
        return float(seconds - (self._offset or 0.0))


def _offset_to_rank_0() -> float:
    """This rank's clock minus rank 0's: none on rank 0's host, since processes of one host read the same clock.

    On another host it is the median of readings right after a barrier, over all ranks of that host; exact to how
    evenly ranks leave a barrier.
    """
    hosts = _gathered(_host())
    if len(set(hosts)) == 1:
        return 0.0
    own = []
    for _ in range(NUM_READINGS):
        dist.barrier()
        readings = _gathered(time.perf_counter())
        own.append(readings[dist.get_rank()] - readings[0])
    offsets, here = _gathered(median(own)), hosts[dist.get_rank()]
    return (
        0.0 if here == hosts[0] else median(offset for offset, host in zip(offsets, hosts, strict=True) if host == here)
    )


def _gathered(value: Any) -> list[Any]:
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _host() -> str:
    """What tells hosts apart by their clocks, which count from when they were booted."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        return platform.node()
