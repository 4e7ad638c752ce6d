"""Read the drawings of schedules in docstrings, and draw simulations the same way."""

import re

from pipemlp.schedule.simulation import Simulation


def drawn_rows(text: str | None, label: str = "stage") -> list[str]:
    """The rows of a drawing, `    stage 0   F0 F1 ..`, without their labels."""
    return [row.rstrip() for row in re.findall(rf"^    {label} \d   (.+)$", text or "", re.MULTILINE)]


def draw(simulation: Simulation) -> list[str]:
    """One column per unit of time, dots where a stage waits, nothing before its first action and after its last."""
    several = simulation.schedule.num_virtual_stages > 1
    lines = []
    for actions, starts, ends in zip(simulation.schedule.actions, simulation.starts, simulation.ends, strict=True):
        cells: dict[int, str] = {}
        for action, start, end in zip(actions, starts, ends, strict=True):
            assert (start, end) == (round(start), round(end)), "not on the grid"
            text = str(action) if several else f"{action.kind}{action.micro_batch}"
            cells |= dict.fromkeys(range(round(start), round(end)), text)
        first, width = min(cells), len(cells[min(cells)])
        gaps = (" " * width, "." * width)
        lines.append(" ".join(cells.get(time, gaps[time > first]) for time in range(max(cells) + 1)))
    return lines
