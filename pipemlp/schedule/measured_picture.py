"""A measured step as a picture: for people with what it waited for, for trace viewers with every transfer."""

from collections.abc import Iterator, Sequence

from pipemlp.schedule.action import Action
from pipemlp.schedule.measured import Event, MeasuredStep
from pipemlp.schedule.picture import Bar, Picture, sizes_text, time_text
from pipemlp.schedule.time_shares import producer_of, sum_of, time_shares


def picture_of_step(step: MeasuredStep, stages: Sequence[int] | None = None) -> Picture:
    """Computations, and the waits for messages that were on their way; times since the start of the step."""
    ends = {event.action: event.end for events in step.computations for event in events}

    def bars_of(stage: int) -> Iterator[Bar]:
        for event in step.computations[stage]:
            producer = producer_of(step.schedule, event.action, ends)
            if producer is not None:
                waits_from = max(event.start, ends[producer], step.start)
                if waits_from < event.computes_from:
                    receive = event.action._replace(kind="RECV_F" if event.action.kind == "F" else "RECV_B")
                    yield _bar(step, stage, waits_from, event.computes_from, receive)
            yield _bar(step, stage, event.computes_from, event.end, event.action)

    drawn = tuple(range(step.schedule.num_stages) if stages is None else stages)
    return _picture(step, drawn, tuple(bar for stage in drawn for bar in bars_of(stage)))


def trace_of_step(step: MeasuredStep) -> Picture:
    """Computations, and every send and receive from its start to its end."""
    bars = []
    for stage, (computations, transfers) in enumerate(zip(step.computations, step.transfers, strict=True)):
        bars += [_bar(step, stage, event.computes_from, event.end, event.action) for event in computations]
        bars += [_transfer_bar(step, stage, event) for event in transfers]
    return _picture(step, tuple(range(step.schedule.num_stages)), tuple(bars))


def _transfer_bar(step: MeasuredStep, stage: int, event: Event) -> Bar:
    """What began before the step did is cut: viewers have no time before 0."""
    return _bar(step, stage, max(event.start, step.start), max(event.end, step.start), event.action)


def _bar(step: MeasuredStep, stage: int, start: float, end: float, action: Action) -> Bar:
    return Bar(stage, start - step.start, end - step.start, action)


def _picture(step: MeasuredStep, stages: tuple[int, ...], bars: tuple[Bar, ...]) -> Picture:
    schedule, shares = step.schedule, sum_of(time_shares(step))
    return Picture(
        title=f"{schedule.name} measured: {sizes_text(schedule)}, step {step.step}",
        caption=f"makespan {time_text(step.makespan, True)}, bubble {shares.share('bubble'):.1%}",
        stages=stages,
        num_stages=schedule.num_stages,
        num_virtual_stages=schedule.num_virtual_stages,
        bars=bars,
        makespan=step.makespan,
        seconds=True,
    )
