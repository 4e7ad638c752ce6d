"""Draws a step for a terminal: one line per stage, time to the right.

1f1b: 3 stages, 4 micro-batches; makespan 18, bubble 33.3%

stage 0  F0 F1 F2 .. .. .. .. B0--- F3 B1--- .. B2--- .. B3---
stage 1  .. F0 F1 .. .. B0--- F2 B1--- F3 B2--- .. B3--- .. ..
stage 2  .. .. F0 B0--- F1 B1--- F2 B2--- F3 B3--- .. .. .. ..
         0              5              10             15
F forward  B backward  . idle

Where all times are multiples of one unit, and there is room, each unit takes the same number of columns; otherwise
the step is scaled to the width. What would be too small to read is cut: the middle is left out. Only where the
warm-up alone is too long for that, a column shows what took most of its time.
"""

from itertools import groupby

from pipemlp.schedule.picture import MEANINGS, WAIT_MEANING, Bar, Picture, time_text
from pipemlp.schedule.text_scale import Scale, Window, scale_for

IDLE, WAIT, MIXED, GAP, BREAK = ".", "~", "=", " ", " // "
STYLES = {
    "F": "white on blue",
    "f": "black on bright_blue",
    "B": "black on yellow",
    "b": "black on bright_yellow",
    "I": "black on green",
    "i": "black on bright_green",
    "W": "black on magenta",
    "w": "black on bright_magenta",
    MIXED: "bold",
    WAIT: "dim",
    IDLE: "dim",
}
"""Styles of rich by the letter of a kind, small letters for every second virtual stage of a stage."""
_LEAST_WIDTH = 40
_MOST_STAGES = 24
_STAGES_OF_MANY = 16

_Cell = tuple[str, str]
"""A character, and the letter of what it belongs to."""


def stages_to_draw(num_stages: int) -> tuple[int, ...]:
    """All stages, or some at even distances, the first and the last included, where there are too many to look at."""
    if num_stages <= _MOST_STAGES:
        return tuple(range(num_stages))
    return tuple(round(row * (num_stages - 1) / (_STAGES_OF_MANY - 1)) for row in range(_STAGES_OF_MANY))


def render_text(picture: Picture, width: int = 80, *, markup: bool = False) -> str:
    """The drawing, its rows at most `width` columns wide (but no less than 40).

    With `markup` it is coloured, for rich to print.
    """
    label = max(len(_label(stage)) for stage in picture.stages) + 2
    scale = scale_for(picture, max(width, _LEAST_WIDTH) - label, len(BREAK))
    by_stage: dict[int, list[Bar]] = {stage: [] for stage in picture.stages}
    for bar in picture.bars:
        by_stage[bar.stage].append(bar)

    head = f"{picture.title}; {picture.caption}"
    lines = [head.replace("[", "\\[") if markup else head]
    if len(picture.stages) < picture.num_stages:
        lines.append(f"({len(picture.stages)} of the {picture.num_stages} stages)")
    lines.append("")
    used = set()
    for stage, bars in by_stage.items():
        windows = [_row(picture, bars, scale, window) for window in scale.windows]
        used |= {letter for cells in windows for _, letter in cells}
        drawn = BREAK.join(_text_of(cells, markup) for cells in windows)
        lines.append((_label(stage).ljust(label) + drawn).rstrip())
    lines.append((" " * label + (" " * len(BREAK)).join(scale.axis(picture.seconds))).rstrip())
    return "\n".join([*lines, *_legend(picture, scale, used, markup)])


def _label(stage: int) -> str:
    return f"stage {stage}"


def _letter(picture: Picture, bar: Bar) -> str:
    if not bar.computes:
        return WAIT
    kind = bar.action.kind
    return kind.lower() if picture.turn_of(bar.action) % 2 else kind


def _row(picture: Picture, bars: list[Bar], scale: Scale, window: Window) -> list[_Cell]:
    """A stage's line: bars of two columns and more with their names, shorter ones by who fills most of a column."""
    num_columns = scale.columns(window)
    gap = GAP if scale.per_unit > 2 else IDLE
    idle = IDLE * (scale.per_unit - 1) + gap if scale.per_unit else IDLE
    cells = [(idle[column % len(idle)], IDLE) for column in range(num_columns)]
    shares: list[dict[str, float]] = [{} for _ in range(num_columns)]
    for bar in bars:
        if bar.end <= window.start or bar.start >= window.end:
            continue
        start, end = ((time - window.start) * scale.per_time for time in (bar.start, bar.end))
        first, last = max(round(start), 0), min(round(end), num_columns)
        letter = _letter(picture, bar)
        if last - first >= scale.least_named:
            cells[first:last] = [(character, letter) for character in _name(bar, letter, last - first)]
        else:
            _share_out(max(start, 0.0), min(end, num_columns), letter, shares)
    for column, share in enumerate(shares):
        if share and cells[column][1] == IDLE:
            letter = _who_fills(share)
            cells[column] = (letter, letter)
    return cells


def _name(bar: Bar, letter: str, columns: int) -> str:
    """`F0`, in the given number of columns; the letter only where there is no room for the number."""
    if letter == WAIT:
        return WAIT * columns
    name = f"{letter}{bar.action.micro_batch}"
    name = name if len(name) <= columns else letter
    return name if columns == len(name) else name + "-" * (columns - len(name) - 1) + GAP


def _share_out(start: float, end: float, letter: str, shares: list[dict[str, float]]) -> None:
    """Add the part of every column that lies between `start` and `end`."""
    column = int(start)
    while column < end:
        part = min(end, column + 1.0) - max(start, column)
        shares[column][letter] = shares[column].get(letter, 0.0) + part
        column += 1


def _who_fills(share: dict[str, float]) -> str:
    """The letter of a column, by the part of it that each kind takes."""
    busy = sum(share.values())
    if busy < 0.5:
        return IDLE
    most = max(share, key=share.__getitem__)
    return most if share[most] > 0.75 * busy else MIXED


def _text_of(cells: list[_Cell], markup: bool) -> str:
    if not markup:
        return "".join(character for character, _ in cells)
    parts = []
    for (letter, is_gap), group in groupby(cells, key=lambda cell: (cell[1], cell[0] == GAP)):
        text = "".join(character for character, _ in group)
        parts.append(text if is_gap else f"[{STYLES[letter]}]{text}[/]")
    return "".join(parts)


def _legend(picture: Picture, scale: Scale, used: set[str], markup: bool) -> list[str]:
    capitals = {letter.upper() for letter in used}
    entries: list[tuple[str, str]] = [(kind, meaning) for kind, meaning in MEANINGS.items() if kind in capitals]
    entries += [(MIXED, "several in turn"), (WAIT, WAIT_MEANING), (IDLE, "idle")]
    shown = [(letter, meaning) for letter, meaning in entries if letter in capitals]
    lines = ["  ".join(f"{_text_of([(letter, letter)], markup)} {meaning}" for letter, meaning in shown)]
    if any(letter.islower() for letter in used):
        which = "the" if picture.num_virtual_stages == 2 else "every"
        lines.append(f"small letters: {which} second virtual stage of the stage")
    if len(scale.windows) > 1:
        left, right = (time_text(time, picture.seconds) for time in (scale.windows[0].end, scale.windows[1].start))
        lines.append(f"// the middle, from {left} to {right}, is not drawn")
    return lines
