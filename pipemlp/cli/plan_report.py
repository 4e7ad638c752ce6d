"""What `plan` prints: the ranking, the picture, memory per rank, and with --explain how it came about."""

from rich import box
from rich.console import Console
from rich.table import Table

from pipemlp.cli.plan_exchange import exchange_lines
from pipemlp.cli.plan_picture import draw, legend
from pipemlp.cli.plan_words import (
    considered,
    cut_text,
    data_parallel,
    header,
    nodes,
    reason,
    seconds_text,
    sharded_text,
)
from pipemlp.data.problems import counted
from pipemlp.planning.candidate import Candidate, sent_bytes
from pipemlp.planning.exchange_advice import advice_on
from pipemlp.planning.explaining import balance, best_of_kinds, front, parts_of, stage_shares
from pipemlp.planning.remedies import describe
from pipemlp.training.answer import Answer
from pipemlp.training.report import MEMORY_HEADS
from pipemlp.training.sizes import compact_size

_MOST_STAGES = 16
"""Stages in a table; of more, the first and the last are shown."""
_WORTH_SHOWING, _MOST_OF_FRONT = 0.01, 9
"""The share of memory that a slower way has to save to be shown on the front, and how many are."""
_TITLES = {
    "stages": "stages",
    "schedule": "",
    "micro_batches": "micro-batches",
    "recompute": "recompute",
    "zero_stage": "ZeRO",
}


def show(answer: Answer, console: Console, *, explain: bool) -> None:
    """The report for people."""
    found, verdict, machine = answer.found, answer.verdict, answer.machine
    rows = answer.workload.global_batch_rows
    layers = len(answer.workload.layers)
    for line in header(machine, answer.origin, answer.num_ranks, answer.cap_bytes, layers, rows):
        _say(console, line)
    console.print(_ranking_table(answer))
    _say(console, reason(found, verdict))
    alone = data_parallel(found, verdict, answer.num_ranks, rows)
    if alone and verdict.choice is not found.data_parallel:
        _say(console, alone)
    if verdict.sharded is not None:
        _say(console, sharded_text(verdict.sharded))
    if machine.ranks_per_node:
        _say(console, nodes(verdict.choice, machine))
    if answer.num_ranks > 1:
        _say(console, _one_rank(answer))
    _show_front(answer, console)
    console.print(_memory_table(verdict.choice, answer.cap_bytes))
    if explain:
        _explain(answer, console)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)


def _ranking_table(answer: Answer) -> Table:
    """The choice and the fastest others; columns that are the same for all are in the title."""
    shown = answer.ranking
    zero = {each.setting.zero_stage for each in shown}
    title = f"the fastest ways on {counted(answer.num_ranks, 'rank')}"
    title += f" (ZeRO {min(zero)})" if len(zero) == 1 and answer.num_ranks > 1 else ""
    way = "stages x\nreplicas", "schedule", "micro-\nbatches", "re-\ncompute"
    names = *way, "step", "samples\n/s", "speed-\nup", "effi-\nciency", "bubble", "memory", "sent"
    table = _table(title, "", *names)
    table.columns[2].justify = "left"
    if len(zero) > 1:
        table.add_column("ZeRO", justify="right", no_wrap=True, vertical="bottom")
    for number, each in enumerate(shown, start=1):
        speed_up = answer.speed_up(each)
        cells = [
            str(number),
            *_way(each),
            seconds_text(each.step_seconds),
            _rate_text(answer.samples_per_second(each)),
            f"{speed_up:.3g}x",
            f"{speed_up / answer.num_ranks:.0%}",
            f"{each.prediction.bubble_fraction:.1%}",
            compact_size(each.peak_bytes),
            compact_size(sent_bytes(answer.workload, each.plan)),
        ]
        table.add_row(*cells, *([str(each.setting.zero_stage)] if len(zero) > 1 else []))
    return table


def _one_rank(answer: Answer) -> str:
    one = answer.found.one_rank
    text = f"one rank alone: {seconds_text(one.step_seconds)} a step ({describe(one.setting)})"
    if not one.fits:
        return f"{text}; it would need {compact_size(one.peak_bytes)}, so that speed-up is over what cannot be run"
    return text


def _show_front(answer: Answer, console: Console) -> None:
    found, choice = answer.found, answer.verdict.choice
    members = front(found.ranking, _WORTH_SHOWING)[:_MOST_OF_FRONT]
    if len(found.ranking) < 3:
        return
    console.print("\nstep time over memory per rank", markup=False)
    drawn = draw(members, [*found.ranking, *found.misses], choice)
    console.print(drawn, markup=False, soft_wrap=True)
    _say(console, legend(choice, len(members), shows_cap="┊" in drawn))
    for number, each in enumerate(members if len(members) > 1 else (), start=1):
        figures = f"{seconds_text(each.step_seconds)}, {compact_size(each.peak_bytes)}"
        _say(console, f"  {number}  {figures}: {describe(each.setting)}")
    if found.misses:
        nearest = found.misses[0]
        _say(
            console,
            f"did not fit: {len(found.misses):,}; the nearest lacks {compact_size(nearest.missing_bytes)} "
            f"({describe(nearest.setting)})",
        )


def _memory_table(choice: Candidate, cap_bytes: float) -> Table:
    """Items per rank of every stage; those that no rank has are left out."""
    plan = choice.plan
    items = [name for name in plan.memory[0].items() if any(memory.items()[name] for memory in plan.memory)]
    heads = [MEMORY_HEADS[name] for name in items]
    table = _table(f"memory per rank (G = GiB), of {compact_size(cap_bytes)}", "stage", "layers", *heads, "total")
    for stage in range(plan.num_stages):
        if _is_left_out(table, stage, plan.num_stages):
            continue
        memory = plan.memory[stage]
        held = " ".join(f"{start}..{stop - 1}" for start, stop in plan.layer_ranges(stage))
        sizes = [compact_size(memory.items()[name]) for name in items]
        table.add_row(str(stage), held, *sizes, compact_size(memory.total_bytes))
    return table


def _is_left_out(table: Table, stage: int, num_stages: int) -> bool:
    """Whether it is in the middle of too many; for the first such stage, the table says so."""
    first, stop = _MOST_STAGES // 2, num_stages - _MOST_STAGES // 2
    if stage == first < stop:
        table.add_row("...", f"{stop - first} more")
    return first <= stage < stop


def _explain(answer: Answer, console: Console) -> None:
    """How the choice's step is made up, its stages, and the best of every other kind."""
    choice = answer.verdict.choice
    _say(console, considered(answer.found))
    parts = parts_of(choice)
    step = choice.step_seconds
    shares = ", ".join(f"{name} {seconds_text(own)} ({own / step:.1%})" for name, own in parts.items())
    _say(console, f"a step of {seconds_text(step)}, on an average rank: {shares}")
    for line in exchange_lines(advice_on(choice, answer.workload, answer.machine, answer.config)):
        _say(console, line)
    _say(console, cut_text(choice))
    console.print(_stages_table(choice))
    console.print(_kinds_table(answer))


def _stages_table(choice: Candidate) -> Table:
    shares = stage_shares(choice)
    title = f"one micro-batch by stage; the mean stage has {balance(shares):.1%} of the slowest one's work"
    table = _table(title, "stage", "layers", "forward", "input\ngradient", "weight\ngradient", "all", "idle")
    for stage, share in enumerate(shares):
        if _is_left_out(table, stage, len(shares)):
            continue
        held = " ".join(f"{start}..{stop - 1}" for start, stop in share.layers)
        seconds = (share.forward, share.input_gradient, share.weight_gradient, share.seconds)
        table.add_row(str(stage), held, *map(seconds_text, seconds), f"{share.bubble:.1%}")
    return table


def _kinds_table(answer: Answer) -> Table:
    """The fastest with each value of each dimension."""
    names = "kind", "step", "times the\nchoice", "memory", "stages x\nreplicas", "schedule", "micro-\nbatches"
    table = _table("the fastest of every kind", *names, "re-\ncompute")
    table.columns[0].justify = table.columns[5].justify = "left"
    choice = answer.verdict.choice
    for dimension, values in best_of_kinds(answer.found, choice).items():
        for value, each in sorted(values.items(), key=lambda pair: pair[1].step_seconds):
            table.add_row(
                f"{_TITLES[dimension]} {'elem.' if value == 'elementwise' else value}".strip(),
                seconds_text(each.step_seconds),
                f"{each.step_seconds / choice.step_seconds:.3g}",
                compact_size(each.peak_bytes),
                *_way(each),
            )
        table.add_section()
    return table


def _rate_text(per_second: float) -> str:
    """`116,002`, `8.48M`."""
    return f"{per_second:,.0f}" if per_second < 1e6 else f"{per_second / 1e6:,.2f}M"


def _way(candidate: Candidate) -> tuple[str, str, str, str]:
    """Grid, schedule, micro-batches, recomputation, as cells."""
    setting, recompute = candidate.setting, candidate.setting.recompute
    virtual = f" ({setting.num_virtual_stages})" if setting.num_virtual_stages > 1 else ""
    return (
        f"{setting.num_stages} x {setting.num_replicas}",
        setting.schedule + virtual,
        str(setting.num_micro_batches),
        "none" if recompute == 0 else "elem." if recompute == "elementwise" else f"by {recompute}",
    )


def _table(title: str, *names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    return table
