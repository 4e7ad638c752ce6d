"""What `plan --explain` says of the exchange of gradients: what it takes, and what would be faster."""

from pipemlp.planning.exchange_advice import WORTH, Advice, Way
from pipemlp.training.sizes import seconds_text, size_text


def exchange_lines(advice: Advice | None) -> list[str]:
    """Whether a pattern or a compression would pay, with the figures."""
    if advice is None:
        return ["gradients: this plan has one replica, and exchanges nothing"]
    share = advice.exposed_seconds / advice.step_seconds
    lines = [
        f"gradients: {size_text(advice.num_bytes)} on the fullest stage, {seconds_text(advice.seconds)} to exchange in "
        f"a step, of which {seconds_text(advice.exposed_seconds)} ({share:.1%} of it) is not hidden"
    ]
    lines += [f"  {kind}: {_list(ways)}" for kind, ways in _kinds(advice) if ways]
    if not advice.worthwhile:
        lines.append(
            f"  no other pattern and no compression would save {WORTH:.0%} of the step: leave them as they are"
        )
        return lines
    best = advice.worthwhile[0]
    changes = ", ".join(f"{key}: {value}" for key, value in best.changes.items())
    lines.append(
        f"  {changes} would pay: at most {best.saves:.0%} of the step less"
        + (", before what encoding takes; compressed gradients are not exact" if best in advice.compressions else "")
    )
    return lines


def _kinds(advice: Advice) -> tuple[tuple[str, tuple[Way, ...]], ...]:
    return ("by pattern", advice.patterns), ("by compression", advice.compressions)


def _list(ways: tuple[Way, ...]) -> str:
    return ", ".join(f"{way.name} {seconds_text(way.seconds)}" for way in ways)
