"""What the user sees of a profile: progress while it is measured, then a table of layers and what else was found."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from pipemlp.config.errors import ClusterError
from pipemlp.planning.exchange import bus_bandwidth
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.machine import Network
from pipemlp.planning.profile import LEFT_OUT, Measurement, Profile
from pipemlp.training.sizes import compact_size, seconds_text, size_text

PLAIN_LINE_SECONDS = 2.0
TABLE_COLUMNS = 100
"""Where there is no terminal that has a width of its own."""
NOTEWORTHY_SPREAD = 0.15
"""From which on it is said aloud."""
LARGEST_SPREAD = 1.0
"""Beyond it a median says nothing."""


class ProfileDisplay:
    """A live bar on a terminal, plain lines elsewhere; in the end, tables.

    Args:
        file: the user's terminal, or whatever stands for it.
    """

    def __init__(self, file: TextIO) -> None:
        self.console = Console(file=file, highlight=False, width=None if file.isatty() else TABLE_COLUMNS)
        self._next_line_at = 0.0
        self._bar: Progress | None = None
        if self.console.is_terminal:
            columns = (BarColumn(), TextColumn("{task.percentage:3.0f} %"), TextColumn("{task.fields[what]}"))
            self._bar = Progress(*columns, console=self.console, refresh_per_second=2)
            self._task = self._bar.add_task("profile", total=1.0, what="starting")
            self._bar.start()

    def progress(self, text: str, fraction: float) -> None:
        """What is measured next."""
        if self._bar is not None:
            self._bar.update(self._task, completed=fraction, what=text)
        elif time.monotonic() >= self._next_line_at:
            self._next_line_at = time.monotonic() + PLAIN_LINE_SECONDS
            self.console.print(f"{fraction:4.0%}  {text}", markup=False, soft_wrap=True)

    def close(self) -> None:
        """End the live bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def report(self, profile: Profile, layers: Sequence[LayerDescription], output: Path) -> None:
        """The tables, and where the file is."""
        show_profile(profile, layers, self.console)
        self.console.print(f"wrote {output}", markup=False, soft_wrap=True)


def show_profile(profile: Profile, layers: Sequence[LayerDescription], console: Console) -> None:
    """Layers at the smallest and the largest micro-batch; links, optimizer, actions, steps; how sure all of it is."""
    facts = dict(profile.facts)
    threads = f" of {facts['threads']} threads" if facts.get("threads", "1") != "1" else ""
    console.print(
        f"{facts.get('device', profile.machine.name)}: {facts.get('ranks', '?')} ranks{threads} at once; "
        f"micro-batches of {', '.join(f'{rows:,}' for rows in profile.rows)} rows",
        soft_wrap=True,
        markup=False,
    )
    console.print(_table(profile, layers))
    machine = profile.machine
    lines = {
        "message between stages": f"{seconds_text(machine.inside.message.seconds[0])} for "
        f"{size_text(machine.inside.message.sizes[0])}, {seconds_text(machine.inside.message.seconds[-1])} for "
        f"{size_text(machine.inside.message.sizes[-1])}",
        "sum over replicas": f"{seconds_text(machine.inside.reduction.seconds[-1])} for "
        f"{size_text(machine.inside.reduction.sizes[-1])}",
        "optimizer": f"{seconds_text(1e6 * machine.optimizer_seconds)} per million parameters",
        "besides, per action": ", ".join(
            f"{kind} {seconds_text(seconds)}" for kind, seconds in zip("FIW", machine.action_seconds, strict=True)
        )
        + f", between two {seconds_text(machine.overhead_seconds)}",
        "besides, per step": seconds_text(machine.step_seconds),
    }
    for name, value in lines.items():
        console.print(f"  {name:<24}{value}", markup=False, soft_wrap=True)
    if machine.inside.patterns:
        console.print(_patterns_table(machine.inside, int(facts.get("ranks", "2"))))
    if LEFT_OUT in facts:
        console.print(
            f"warning: the time was too short for micro-batches of {facts[LEFT_OUT]} rows; what they take is told from "
            "the other sizes; give more --seconds",
            markup=False,
            soft_wrap=True,
        )
    for note in spread_notes(profile):
        console.print(note, markup=False, soft_wrap=True)


def _patterns_table(network: Network, num_ranks: int) -> Table:
    """What each pattern took to sum over all ranks, with the best for every size."""
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"sums over {num_ranks} ranks: time and bus bandwidth (* the fastest)",
        title_justify="left",
    )
    sizes = network.patterns[0].seconds.sizes
    for name in ("pattern", *(size_text(size) for size in sizes)):
        table.add_column(name, justify="right" if name != "pattern" else "left", no_wrap=True)
    times = {"backend": tuple(network.all_reduce_seconds(size, num_ranks) for size in sizes)}
    times |= {each.name: each.seconds.seconds for each in network.patterns}
    best = [min(column) for column in zip(*times.values(), strict=True)]
    for name, seconds in times.items():
        cells = [
            f"{seconds_text(own)}, {size_text(bus_bandwidth(size, num_ranks, own))}/s{' *' if own == least else '  '}"
            for own, size, least in zip(seconds, sizes, best, strict=True)
        ]
        table.add_row(name, *cells)
    return table


def _table(profile: Profile, layers: Sequence[LayerDescription]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title="F forward, I input gradient, W weight gradient of one micro-batch; bytes kept until I, and until W",
        title_justify="left",
    )
    names = ("layers", "rows", "F", "I", "W", "kept", "pending", "spread")
    for name in names:
        table.add_column(name, justify="left" if name == "layers" else "right", no_wrap=True)
    for kind, measurements in enumerate(profile.kinds):
        shown = measurements if len(measurements) < 3 else (measurements[0], measurements[-1])
        for measurement in shown:
            name = _name(profile, layers, kind) if measurement is shown[0] else ""
            table.add_row(name, *_cells(measurement))
    return table


def _name(profile: Profile, layers: Sequence[LayerDescription], kind: int) -> str:
    indices = [index for index, own in enumerate(profile.kind_of_layer) if own == kind]
    layer = layers[indices[0]]
    where = f"{indices[0]}" if len(indices) == 1 else f"{indices[0]}..{indices[-1]}"
    count = f" x{len(indices)}" if len(indices) > 1 else ""
    return f"{where} {layer.kind} {layer.input_width}>{layer.output_width}{count}"


def _cells(measured: Measurement) -> list[str]:
    times = (measured.forward_seconds, measured.input_gradient_seconds, measured.weight_gradient_seconds)
    sizes = (measured.kept_bytes, measured.pending_bytes)
    return [
        f"{measured.rows:,}",
        *map(seconds_text, times),
        *map(compact_size, sizes),
        f"{measured.spread:.0%}",
    ]


def spread_notes(profile: Profile) -> list[str]:
    """What is worth saying of how much the repetitions differed."""
    if profile.spread <= NOTEWORTHY_SPREAD:
        return []
    return [
        f"warning: repetitions differed by {profile.spread:.0%}: the device was busy with something else, or is "
        "shared; plans from this profile are less sure by as much"
    ]


def check_spread(profile: Profile) -> None:
    """Refuse measurements that say nothing.

    Raises:
        ClusterError: saying how much they differ, and what to do.
    """
    if profile.spread > LARGEST_SPREAD:
        raise ClusterError(
            f"the device is busy: repetitions differed by {profile.spread:.0%} (middle half over median), at most "
            f"{LARGEST_SPREAD:.0%} says anything; no profile was written; stop what else runs on it, then profile again"
        )
