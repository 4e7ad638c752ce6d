"""How many columns of a terminal a time takes, and which part of a step is drawn at all."""

from dataclasses import dataclass, replace
from statistics import median

from pipemlp.schedule.picture import Picture, axis_marks, time_text

_MOST_TIMES = 100_000
"""Different times that are searched for a common unit."""
_COLUMNS_PER_MARK = 12


@dataclass(frozen=True)
class Window:
    """A part of the step that is drawn, by time."""

    start: float
    end: float


@dataclass(frozen=True)
class Scale:
    """How a step is laid out.

    Args:
        per_time: columns per time.
        per_unit: columns per unit of time where all times are multiples of one, else 0.
        windows: what is drawn, from left to right.
        least_named: columns that a bar needs to be named, so that not only some of equally long bars are.
    """

    per_time: float
    per_unit: int
    windows: tuple[Window, ...]
    least_named: int = 2

    def columns(self, window: Window) -> int:
        """The width of a window."""
        return round((window.end - window.start) * self.per_time)

    def axis(self, seconds: bool) -> tuple[str, ...]:
        """The times below each window."""
        longest = max(window.end for window in self.windows)
        marks = axis_marks(longest, max(int(longest * self.per_time / _COLUMNS_PER_MARK), 1))
        return tuple(self._axis_of(window, marks, seconds) for window in self.windows)

    def _axis_of(self, window: Window, marks: tuple[float, ...], seconds: bool) -> str:
        line, width = "", self.columns(window)
        for mark in marks:
            column, text = round((mark - window.start) * self.per_time), time_text(mark, seconds)
            if column >= len(line) and column + len(text) <= max(width, 1):
                line = line.ljust(column) + text
        return line.ljust(width)


def scale_for(picture: Picture, room: int, room_of_break: int) -> Scale:
    """The scale at which a picture is best read in `room` columns."""
    end = picture.makespan
    durations = [bar.end - bar.start for bar in picture.bars if bar.computes and bar.end > bar.start]
    if not durations or end <= 0.0:
        return Scale(room / (end or 1.0), 0, (Window(0.0, end),))
    unit = _unit_of(picture)
    name = max(len(str(bar.action.micro_batch)) for bar in picture.bars) + 1
    if unit is not None and round(end / unit) <= room:
        per_unit = min(room // round(end / unit), name + 1)
        return Scale(per_unit / unit, per_unit, (Window(0.0, end),))

    usual = median(durations)
    whole = Scale(room / end, 0, (Window(0.0, end),))
    if whole.per_time * usual >= 1.0:
        return whole if whole.per_time * usual >= 2.0 else replace(whole, least_named=3)
    last_start = max({bar.stage: bar.start for bar in reversed(picture.bars)}.values())
    exact = unit is not None and 2.0 * unit > min(durations)
    for columns in (name, 2):  # with room for the name, a bar of usual length or, to stay exact, a unit takes so many
        per_time = columns / (unit if unit is not None and exact else usual)
        part = (room - room_of_break) // 2 // columns * columns / per_time
        if last_start < part < end / 2.0:
            return Scale(per_time, columns if exact else 0, (Window(0.0, part), Window(end - part, end)))
    return whole


def _unit_of(picture: Picture) -> float | None:
    """The largest time of which all starts and ends are multiples."""
    grain = picture.makespan * 1e-7
    times: dict[int, float] = {}
    for bar in picture.bars:
        times[round(bar.start / grain)] = bar.start
        times[round(bar.end / grain)] = bar.end
        if len(times) > _MOST_TIMES:
            return None
    unit = 0.0
    for time in times.values():
        unit = _common_divisor(unit, time, 10.0 * grain)
    fits = unit > 0.0 and all(abs(time / unit - round(time / unit)) < 1e-3 for time in times.values())
    return unit if fits else None


def _common_divisor(one: float, other: float, tolerance: float) -> float:
    while other > tolerance:
        rest = one - other * int(one / other)
        one, other = other, 0.0 if other - rest < tolerance else rest
    return one
