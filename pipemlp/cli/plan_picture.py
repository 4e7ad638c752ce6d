"""Draws step time against memory for a terminal: what is on the front, what else was laid out, where memory ends.

2.1 s │        3 .                           ┊
      │            2    .                    ┊
1.4 s │                      *         x     ┊  x
      └──────────────────────────────────────────
       20 GiB                            90 GiB
"""

from collections.abc import Sequence

from pipemlp.planning.candidate import Candidate
from pipemlp.schedule.picture import time_text
from pipemlp.training.sizes import size_text

_COLUMNS, _ROWS = 72, 12
_SLOWEST = 2.5
"""What takes longer than so many times the fastest is not drawn, unless the front reaches there."""
_MARKS = "123456789"


def draw(front: Sequence[Candidate], others: Sequence[Candidate], winner: Candidate) -> str:
    """The picture; the front's members are numbered as in the list beside it, the winner is a star.

    Args:
        front: fastest first.
        others: what else was laid out; those that do not fit are crosses.
        winner: the choice.
    """
    slowest = max(front[-1].step_seconds, _SLOWEST * front[0].step_seconds)
    seen = [each for each in others if each.step_seconds <= slowest]
    cap = winner.cap_bytes
    seen = [each for each in seen if each.peak_bytes <= max(1.25 * cap, front[0].peak_bytes)]
    everything = [*seen, *front, winner]
    sizes, times = [each.peak_bytes for each in everything], [each.step_seconds for each in everything]
    shows_cap = max(sizes) > 0.5 * cap
    left, right = min(sizes), max(*sizes, cap if shows_cap else 0)
    top, bottom = max(times), min(times)
    grid = [[" "] * (_COLUMNS + 1) for _ in range(_ROWS)]

    def column(num_bytes: float) -> int:
        return round((num_bytes - left) / (right - left) * _COLUMNS) if right > left else 0

    def put(candidate: Candidate, mark: str) -> None:
        height = (candidate.step_seconds - bottom) / (top - bottom) if top > bottom else 0.0
        grid[_ROWS - 1 - round(height * (_ROWS - 1))][column(candidate.peak_bytes)] = mark

    if shows_cap:
        for row in grid:
            row[column(cap)] = "┊"
    for each in seen:
        put(each, "." if each.fits else "x")
    for mark, each in reversed(list(zip(_MARKS, front, strict=False))):
        put(each, mark)
    put(winner, "*")
    labels = [""] * _ROWS
    labels[0], labels[-1] = time_text(top, True), time_text(bottom, True)
    lines = [f"{label:>9} │{''.join(row)}".rstrip() for label, row in zip(labels, grid, strict=True)]
    ends = size_text(left), size_text(right)
    lines.append(f"{'':>9} └{'─' * (_COLUMNS + 1)}")
    lines.append(f"{'':>11}{ends[0]}{ends[1]:>{_COLUMNS + 1 - len(ends[0])}}")
    return "\n".join(lines)


def legend(winner: Candidate, num_front: int, *, shows_cap: bool) -> str:
    """What the marks are."""
    parts = ["* the choice"]
    if num_front > 1:
        parts.append(f"1 to {num_front} nothing is both faster and smaller")
    parts.append(". others")
    if shows_cap:
        parts.append(f"┊ a rank's {size_text(winner.cap_bytes)}, x does not fit")
    return ", ".join(parts)
