"""Writes a step as a Chrome trace, which ui.perfetto.dev and chrome://tracing open."""

import json
from collections.abc import Iterable, Iterator

from pipemlp.schedule.picture import Bar, Picture

_Event = dict[str, object]

MOST_BARS = 500_000
"""More would be a file above a hundred megabytes, which viewers refuse or crawl through."""


def render_chrome(*pictures: Picture) -> str:
    """JSON with one process per picture, one thread per stage, and others for its transfers.

    Transfers that overlap lie on threads of their own: viewers nest what overlaps on one thread. Times
    become microseconds; without a unit of time, one unit becomes one second.

    Raises:
        ValueError: if there are more than `MOST_BARS` bars.
    """
    num_bars = sum(len(picture.bars) for picture in pictures)
    if num_bars > MOST_BARS:
        raise ValueError(
            f"{num_bars:,} bars are too many for a Chrome trace, which shows {MOST_BARS:,} at most; "
            "draw fewer micro-batches or stages"
        )
    events: list[_Event] = []
    for process, picture in enumerate(pictures):
        events.append(_name("process_name", process, 0, f"{picture.title}; {picture.caption}"))
        events += _events(process, picture)
    return json.dumps({"displayTimeUnit": "ms", "traceEvents": events})


def _events(process: int, picture: Picture) -> Iterator[_Event]:
    """Stage by stage: its computations, its transfers."""
    thread = picture.num_stages
    rows: dict[int, list[Bar]] = {stage: [] for stage in picture.stages}
    for bar in sorted(picture.bars, key=lambda bar: bar.start):
        rows[bar.stage].append(bar)
    for stage, bars in rows.items():
        yield from _thread(process, stage, f"stage {stage}", 1000 * stage)
        yield from (_event(process, stage, bar, "compute") for bar in bars if bar.computes)
        for lane in _lanes(bar for bar in bars if not bar.computes):
            position = 1000 * stage + thread - picture.num_stages + 1
            yield from _thread(process, thread, f"stage {stage} transfers", position)
            yield from (_event(process, thread, bar, "transfer") for bar in lane)
            thread += 1


def _lanes(bars: Iterable[Bar]) -> list[list[Bar]]:
    """Bars in order of their starts, on as few lanes as keep them from overlapping."""
    lanes: list[list[Bar]] = []
    for bar in bars:
        free = next((lane for lane in lanes if lane[-1].end <= bar.start), None)
        if free is None:
            lanes.append([bar])
        else:
            free.append(bar)
    return lanes


def _event(process: int, thread: int, bar: Bar, category: str) -> _Event:
    _, start, end, action = bar
    return {
        "name": f"{action.kind}{action.micro_batch}",
        "cat": category,
        "ph": "X",
        "ts": start * 1e6,
        "dur": (end - start) * 1e6,
        "pid": process,
        "tid": thread,
        "args": {"virtual_stage": action.virtual_stage, "micro_batch": action.micro_batch},
    }


def _name(what: str, process: int, thread: int, name: str) -> _Event:
    return {"name": what, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}


def _thread(process: int, thread: int, name: str, position: int) -> Iterator[_Event]:
    yield _name("thread_name", process, thread, name)
    yield {"name": "thread_sort_index", "ph": "M", "pid": process, "tid": thread, "args": {"sort_index": position}}
