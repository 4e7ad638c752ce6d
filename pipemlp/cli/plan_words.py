"""What `plan` says in sentences: what it planned for, why the choice is one, how it lies on nodes."""

from pipemlp.data.problems import counted
from pipemlp.planning.candidate import Candidate
from pipemlp.planning.comparison import NOISE, Sharded, Verdict
from pipemlp.planning.explaining import deciding_parts, node_layout, parts_of, runner_up
from pipemlp.planning.machine import Machine
from pipemlp.planning.remedies import describe
from pipemlp.planning.search import Found
from pipemlp.schedule.picture import time_text
from pipemlp.training.sizes import size_text

_PARTS = {
    "computing": "computes",
    "idle": "idles",
    "reduction": "waits for gradients to be reduced",
    "optimizer": "updates parameters",
    "other": "does the rest",
}


def seconds_text(seconds: float) -> str:
    """`143.2 ms`."""
    return time_text(seconds, True) if seconds else "0 s"


def header(machine: Machine, origin: str, num_ranks: int, cap_bytes: float, num_layers: int, rows: int) -> list[str]:
    """What was planned for, and how far the times can be trusted."""
    lines = [
        f"{num_layers} layers, {rows:,} rows a step, on {counted(num_ranks, 'rank')} of {machine.name}, "
        f"{size_text(cap_bytes)} each",
    ]
    if machine.is_measured:
        lines.append(f"times: {origin}")
    else:
        lines.append(
            f"times: not measured; {origin}. They are a floor: real steps take longer. `pipemlp profile` measures."
        )
    if machine.ranks_per_node == 0 and num_ranks > 8:
        lines.append(f"all {num_ranks} ranks are taken to share one node; say how many nodes there are with --nodes")
    return lines


def considered(found: Found) -> str:
    """How thorough the search was."""
    text = (
        f"{found.num_considered:,} ways considered: {found.num_laid_out:,} cut and simulated, "
        f"{found.num_hopeless:,} too large for any rank, {found.num_slower:,} not promising enough to simulate"
    )
    if found.slack > NOISE:
        text += f"; of what would have taken too long, none can be more than {found.slack:.0%} faster"
    return text


def cut_text(candidate: Candidate) -> str:
    """How good the cut is for sure."""
    distance = candidate.plan.distance
    if not distance:
        return "the cut: no other has a faster slowest stage, within the same memory"
    return f"the cut: at most {distance:.2%} slower, on its slowest stage, than any other; more was too much to look at"


def reason(found: Found, verdict: Verdict) -> str:
    """Why the choice is the choice, in one sentence."""
    choice, rival = verdict.choice, verdict.rival
    if choice.setting.num_ranks == 1:
        return f"do not pipeline: there is one rank; {_own(choice)}"
    if not verdict.pipeline:
        if rival is None:
            return f"do not pipeline: no pipeline fits, and plain data parallelism does; {_own(choice)}"
        noise = f" (below {NOISE:.0%} is noise)" if choice.step_seconds > rival.step_seconds else ""
        return f"do not pipeline: {_own(choice)}, {_against(choice, rival)}{noise}"
    other = runner_up(found, choice)
    if other is None:
        return f"{_own(choice)}: nothing of another kind fits"
    return f"{_own(choice)}, {_against(choice, other)}"


def data_parallel(found: Found, verdict: Verdict, num_ranks: int, rows: int) -> str:
    """Plain data parallelism beside the choice."""
    alone, choice = found.data_parallel, verdict.choice
    if num_ranks == 1:
        return ""
    if alone is None:
        return (
            f"plain data parallelism: not possible, {num_ranks} replicas do not divide the {rows:,} rows of a step "
            f"({rows} % {num_ranks} = {rows % num_ranks})"
        )
    if alone is choice:
        text = f"plain data parallelism ({describe(alone.setting)}): that is the choice"
    else:
        text = (
            f"plain data parallelism ({describe(alone.setting)}): {seconds_text(alone.step_seconds)} a step, "
            f"{_ratio(alone.step_seconds / choice.step_seconds)}; {size_text(alone.peak_bytes)} per rank"
        )
        if not alone.fits:
            text += f", {size_text(alone.missing_bytes)} too much"
    return text


def sharded_text(sharded: Sharded) -> str:
    """Where ZeRO 2 or 3 would be the better answer."""
    what = "gradients" if sharded.zero_stage == 2 else "gradients and parameters"
    return (
        f"ZeRO {sharded.zero_stage} may be the better answer: plain data parallelism with sharded {what} "
        f"(DeepSpeed has it, PipeMLP does not) would take {seconds_text(sharded.step_seconds)} a step at best and "
        f"about {size_text(sharded.peak_bytes)} per rank"
    )


def nodes(candidate: Candidate, machine: Machine) -> str:
    """Which dimension lies inside a node."""
    setting, per_node = candidate.setting, machine.ranks_per_node
    layout = node_layout(setting.num_stages, setting.num_replicas, per_node)
    num_nodes = setting.num_ranks // per_node
    text = f"{counted(num_nodes, 'node')} of {counted(per_node, 'rank')}: "
    if setting.num_replicas == 1:
        text += f"a node holds {counted(min(per_node, setting.num_stages), 'stage')}"
    elif layout.stages_per_node:
        text += (
            f"the {setting.num_replicas} replicas of a stage share a node, so that gradients are reduced inside it; "
            f"a node holds {counted(min(layout.stages_per_node, setting.num_stages), 'stage')}"
        )
    else:
        text += (
            f"the {setting.num_replicas} replicas of a stage lie on several nodes: gradients are reduced between nodes"
        )
    if setting.num_stages == 1:
        return text
    crossing = layout.crossing_cuts
    if not crossing:
        return f"{text}; no cut between stages crosses nodes"
    shown = ", ".join(map(str, crossing[:8])) + (", ..." if len(crossing) > 8 else "")
    return f"{text}; {len(crossing)} of {setting.num_stages - 1} cuts cross nodes (behind stage {shown})"


def _own(candidate: Candidate) -> str:
    return f"{describe(candidate.setting)}: {seconds_text(candidate.step_seconds)} a step"


def _against(choice: Candidate, other: Candidate) -> str:
    """`5.1% less than ...: an average rank idles 12 ms against 25 ms`."""
    ratio = choice.step_seconds / other.step_seconds
    text = f"{_ratio(ratio)} than {describe(other.setting)} ({seconds_text(other.step_seconds)})"
    less, more = deciding_parts(choice, other)
    mine, its = parts_of(choice), parts_of(other)

    def part(name: str) -> str:
        return f"{_PARTS[name]} for {seconds_text(mine[name])} against {seconds_text(its[name])}"

    if less:
        text += f": an average rank {' and '.join(part(name) for name in less[:2])}"
    if more:
        text += f"{', though it' if less else ': an average rank'} {part(more[0])}"
    return text


def _ratio(ratio: float) -> str:
    """`5.1% less`, `3.2 times as much`, of time."""
    if ratio >= 2:
        return f"{ratio:.3g} times as long"
    return f"{abs(ratio - 1):.1%} {'longer' if ratio > 1 else 'shorter'}"
