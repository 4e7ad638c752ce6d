"""Draws one step, or several above each other on the same time axis, as an SVG that needs nothing else.

Colours tell the kinds apart for colour-blind readers too (after Okabe and Ito, jfly.uni-koeln.de/color), the second
virtual stage of a stage is lighter than its first, and the number in a bar is its micro-batch. Pointing at a bar
names it. Light or dark follows the reader's setting.
"""

from collections.abc import Iterator, Sequence
from html import escape
from statistics import median

from pipemlp.schedule.picture import MEANINGS, WAIT_MEANING, Bar, Picture, axis_marks, time_text
from pipemlp.schedule.svg_style import NUM_SHADES, WAIT_CLASS, bar_class, style_sheet

MOST_BARS = 20_000
"""More would make a file of several megabytes in which a bar is thinner than a pixel."""

_LEFT, _RIGHT, _TOP = 76.0, 20.0, 16.0
_ROW, _BAR = 26.0, 22.0
_TITLE, _BETWEEN, _AXIS, _LEGEND = 34.0, 20.0, 26.0, 30.0
_LEAST_ROOM, _MOST_ROOM, _BAR_ROOM, _MARK_ROOM = 864.0, 2600.0, 16.0, 70.0
_DIGIT, _MARGIN = 6.0, 4.0


def render_svg(*pictures: Picture) -> str:
    """The SVG's text; pictures from top to bottom.

    Raises:
        ValueError: if there are more than `MOST_BARS` bars.
    """
    bars = [bar for picture in pictures for bar in picture.bars]
    if len(bars) > MOST_BARS:
        raise ValueError(
            f"{len(bars):,} bars are too many for an SVG, which shows {MOST_BARS:,} at most; "
            "draw fewer micro-batches or stages, or a Chrome trace"
        )
    end = max((picture.makespan for picture in pictures), default=0.0) or 1.0
    durations = [bar.end - bar.start for bar in bars if bar.computes and bar.end > bar.start]
    room = min(max(_LEAST_ROOM, _BAR_ROOM * end / median(durations)), _MOST_ROOM) if durations else _LEAST_ROOM
    per_time = room / end
    marks = axis_marks(end, int(room / _MARK_ROOM))
    seconds = any(picture.seconds for picture in pictures)

    parts: list[str] = []
    top = _TOP
    for picture in pictures:
        parts += _panel(picture, top, per_time, marks)
        top += _panel_height(picture) + _BETWEEN
    bottom = top - _BETWEEN
    for mark in marks:
        x = _number(mark * per_time + _LEFT)
        parts.append(f'<text class="mark" x="{x}" y="{bottom + 18:g}">{time_text(mark, seconds)}</text>')
    parts += _legend(pictures, bottom + _AXIS)
    width, height = _LEFT + room + _RIGHT, bottom + _AXIS + _LEGEND
    return "\n".join([*_head(pictures, width, height), *parts, "</svg>", ""])


def _head(pictures: Sequence[Picture], width: float, height: float) -> Iterator[str]:
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{_description(pictures)}">'
    yield f"<style>{style_sheet(_classes(pictures))}</style>"
    yield f'<rect class="page" width="{width:g}" height="{height:g}" rx="6"/>'


def _description(pictures: Sequence[Picture]) -> str:
    return escape(". ".join(f"{picture.title}; {picture.caption}" for picture in pictures))


def _classes(pictures: Sequence[Picture]) -> set[str]:
    return {_class_of(picture, bar) for picture in pictures for bar in picture.bars}


def _class_of(picture: Picture, bar: Bar) -> str:
    if not bar.computes:
        return WAIT_CLASS
    last_turn = max(picture.num_virtual_stages - 1, 1)
    return bar_class(bar.action.kind, picture.turn_of(bar.action) * (NUM_SHADES - 1) // last_turn)


def _panel_height(picture: Picture) -> float:
    return _TITLE + _ROW * len(picture.stages)


def _panel(picture: Picture, top: float, per_time: float, marks: Sequence[float]) -> Iterator[str]:
    """Title and rows of one step."""
    caption = f'<tspan class="caption" dx="8">{escape(picture.caption)}</tspan>'
    yield f'<text class="title" x="12" y="{top + 14:g}">{escape(picture.title)} {caption}</text>'
    first = top + _TITLE - (_ROW - _BAR)
    rows = {stage: first + _ROW * row for row, stage in enumerate(picture.stages)}
    by_stage: dict[int, list[Bar]] = {stage: [] for stage in picture.stages}
    for bar in picture.bars:
        by_stage[bar.stage].append(bar)
    width = _number(picture.makespan * per_time)
    for stage, y in rows.items():
        yield f'<text class="stage" x="{_LEFT - 10:g}" y="{y + 15:g}">stage {stage}</text>'
        yield f'<rect class="idle" x="{_LEFT:g}" y="{y:g}" width="{width}" height="{_BAR:g}"/>'
    for mark in marks:
        x = _number(mark * per_time + _LEFT)
        yield f'<path class="grid" d="M{x} {first:g}V{first + _ROW * len(rows):g}"/>'
    for stage, y in rows.items():
        yield f'<g class="bars" data-stage="{stage}">'
        for bar in by_stage[stage]:
            yield from _bar(picture, bar, y, per_time)
        yield "</g>"


def _bar(picture: Picture, bar: Bar, y: float, per_time: float) -> Iterator[str]:
    x, width = bar.start * per_time + _LEFT, (bar.end - bar.start) * per_time
    y, height = (y, _BAR) if bar.computes else (y + _BAR / 4, _BAR / 2)
    name = _class_of(picture, bar)
    place = f'x="{_number(x)}" y="{y:g}" width="{_number(width)}" height="{height:g}"'
    times = f"{time_text(bar.start, picture.seconds)} to {time_text(bar.end, picture.seconds)}"
    yield f'<rect class="{name}" {place}><title>{bar.action}: {times}</title></rect>'
    number = str(bar.action.micro_batch)
    if bar.computes and _DIGIT * len(number) + _MARGIN <= width:
        yield f'<text class="n n-{name}" x="{_number(x + width / 2)}" y="{y + 15:g}">{number}</text>'


def _legend(pictures: Sequence[Picture], y: float) -> Iterator[str]:
    kinds = {bar.action.kind for picture in pictures for bar in picture.bars}
    deepest = max((picture.num_virtual_stages for picture in pictures), default=1)
    entries = [(bar_class(kind, 0), meaning) for kind, meaning in MEANINGS.items() if kind in kinds]
    if kinds - set(MEANINGS):
        entries.append((WAIT_CLASS, WAIT_MEANING))
    entries.append(("idle", "idle"))
    if deepest > 1:
        entries.append(("", "lighter: second virtual stage" if deepest == 2 else "lighter: later virtual stages"))
    x = _LEFT
    for name, meaning in entries:
        if name:
            yield f'<rect class="{name}" x="{x:g}" y="{y + 3:g}" width="14" height="14"/>'
        x += 20.0 * bool(name)
        yield f'<text x="{x:g}" y="{y + 14:g}">{meaning}</text>'
        x += 6.6 * len(meaning) + 22.0


def _number(value: float) -> str:
    """Hundredths of a pixel, without trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
