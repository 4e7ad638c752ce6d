"""What `simulate` says of a simulated step: the drawing, numbers per stage, the critical path, other schedules."""

from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipemlp.planning.exploring import Findings
from pipemlp.schedule.action import Action
from pipemlp.schedule.picture import picture_of
from pipemlp.schedule.render_text import render_text, stages_to_draw
from pipemlp.schedule.simulation import Simulation

_MOST_PARTS = 9
"""Parts of the critical path that are shown."""


def as_json(findings: Findings) -> dict[str, object]:
    """The numbers as plain values; times in the unit of the costs, memory in micro-batches of a whole stage."""
    simulation, schedule = findings.simulation, findings.simulation.schedule
    return {
        "schedule": schedule.name,
        "stages": schedule.num_stages,
        "virtual_stages": schedule.num_virtual_stages,
        "micro_batches": schedule.num_micro_batches,
        "placement": schedule.placement,
        "makespan": simulation.makespan,
        "ideal": findings.ideal,
        "lower_bound": findings.lower_bound,
        "blocking_makespan": findings.blocking_makespan,
        "bubble_fraction": simulation.bubble_fraction,
        "peak_in_flight": max(simulation.peak_in_flight),
        "stage_busy": list(simulation.busy),
        "stage_bubble_fraction": list(simulation.bubbles),
        "stage_peak_in_flight": list(simulation.peak_in_flight),
        "critical_path": [str(action) for action in simulation.critical_path],
    }


def show(findings: Findings, console: Console) -> None:
    """The report for people."""
    simulation = findings.simulation
    stages = stages_to_draw(simulation.schedule.num_stages)
    colours = console.is_terminal
    drawing = render_text(picture_of(simulation, stages), console.width, markup=colours)
    console.print(drawing, markup=colours, soft_wrap=True)
    console.print(_stages_table(simulation, stages))
    for line in _sentences(findings):
        console.print(line, markup=False, soft_wrap=True)
    if findings.others:
        console.print(_others_table(findings))


def _stages_table(simulation: Simulation, stages: Sequence[int]) -> Table:
    table = _table("stage", "busy", "bubble", "peak in flight")
    for stage in stages:
        table.add_row(
            str(stage),
            f"{simulation.busy[stage]:.6g}",
            f"{simulation.bubbles[stage]:.1%}",
            f"{simulation.peak_in_flight[stage]:.4g}",
        )
    return table


def _sentences(findings: Findings) -> list[str]:
    simulation, bound = findings.simulation, findings.lower_bound
    lines = [
        f"makespan {simulation.makespan:.6g}; without any bubble it would be {findings.ideal:.6g}; "
        f"bubble {simulation.bubble_fraction:.1%}",
        f"any order with this placement takes at least {bound:.6g}; "
        f"this one takes {max(simulation.makespan / bound - 1, 0.0):.1%} more",
        f"peak in flight: {max(simulation.peak_in_flight):.4g} (micro-batches, as a whole stage holds them)",
        f"critical path: {critical_path_text(simulation)}",
    ]
    if findings.blocking_makespan is None:
        lines.append("links: cannot hang by construction; not simulated with blocking sends at this size")
    else:
        slower = findings.blocking_makespan / simulation.makespan - 1
        lines.append(
            "links: cannot hang, even if each send blocks until it is received; "
            f"the makespan is then {findings.blocking_makespan:.6g} ({slower:+.1%})"
        )
    return lines


def critical_path_text(simulation: Simulation) -> str:
    """`0F0 > 1F0 > 2F0 to 2B4 (10 actions) > 1B4 > 0B4`, without the middle where it is long."""
    path = simulation.critical_path
    by_stage = groupby(path, key=lambda action: simulation.schedule.stage_of(action.virtual_stage))
    parts = [_part(list(actions)) for _, actions in by_stage]
    if len(parts) > _MOST_PARTS:
        half = _MOST_PARTS // 2
        parts = [*parts[:half], f"... {len(parts) - 2 * half} more stages ...", *parts[-half:]]
    return " > ".join(parts)


def _part(actions: Sequence[Action]) -> str:
    """What the path does on one stage before it goes to another."""
    if len(actions) <= 2:
        return " ".join(map(str, actions))
    return f"{actions[0]} to {actions[-1]} ({len(actions)} actions)"


def _others_table(findings: Findings) -> Table:
    table = _table("schedule", "virtual stages", "makespan", "bubble", "peak in flight")
    table.title, table.columns[0].justify = "the same sizes by other schedules", "left"
    for simulation in (findings.simulation, *findings.others):
        table.add_row(
            escape(simulation.schedule.name),
            str(simulation.schedule.num_virtual_stages),
            f"{simulation.makespan:.6g}",
            f"{simulation.bubble_fraction:.1%}",
            f"{max(simulation.peak_in_flight):.4g}",
        )
    return table


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table
