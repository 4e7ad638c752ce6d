"""What exchanging cost a run: bytes, waiting, what was hidden, how stale; for people, and in exchange.json."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import torch.distributed as dist

from pipemlp.engine.pipeline import Pipeline
from pipemlp.training.sizes import seconds_text, size_text

EXCHANGE_FILE = "exchange.json"


@dataclass(frozen=True)
class ExchangeReport:
    """Of one run; means over the ranks.

    Args:
        pattern, update, compression: their names.
        num_exchanges: that a rank took part in.
        bytes_sent: per exchange and replica, by all its stages.
        plain_bytes: of what was exchanged, as it is in memory, likewise.
        busy_seconds: per exchange; 0 where it is not known.
        waited_seconds: per exchange, while the computation stood still for it.
        behind: for each number of updates that had come between a pull and its push, how often that was; empty
            unless the update is asynchronous.
        most_ahead: steps that a replica was ahead of the slowest at most.
        ring_bytes: that a ring would send of the values as they are.
    """

    pattern: str
    update: str
    compression: str
    num_exchanges: int
    bytes_sent: float
    plain_bytes: float
    busy_seconds: float
    waited_seconds: float
    behind: dict[int, int]
    most_ahead: int
    ring_bytes: float

    @property
    def hidden(self) -> float | None:
        """The share of the exchange that the computation hid; None where nobody knows how long it took (NCCL's own)."""
        return max(0.0, 1 - self.waited_seconds / self.busy_seconds) if self.busy_seconds else None

    @property
    def ratio(self) -> float:
        """Times fewer bytes than a ring sends of the values as they are."""
        return self.ring_bytes / self.bytes_sent if self.bytes_sent else 1.0

    def lines(self) -> dict[str, str]:
        """For the summary of a run."""
        found = {
            "exchange": f"{self.pattern}, {self.update}, compression {self.compression}: "
            f"{size_text(round(self.bytes_sent))} sent per exchange and "
            f"replica, {_compared(self.ratio)} a plain ring",
            "exchange time": f"not known, {seconds_text(self.waited_seconds)} waited for"
            if self.hidden is None
            else f"{seconds_text(self.busy_seconds)}, of which {seconds_text(self.waited_seconds)} waited for: "
            f"{self.hidden:.0%} hidden behind computation",
        }
        if self.behind:
            number = sum(self.behind.values())
            mean = sum(behind * count for behind, count in self.behind.items()) / number
            ahead = f"{self.most_ahead} step{'s' * (self.most_ahead != 1)} ahead"
            found["staleness"] = (
                f"{mean:.1f} updates between pull and push on average, {max(self.behind)} at most, over {number:,} "
                f"updates of all servers; a replica was at most {ahead}"
            )
        return found


def _compared(ratio: float) -> str:
    """Bytes against those of another way that sends `ratio` times as many."""
    if f"{ratio:.1f}" == "1.0":
        return "as many as"
    return f"{ratio:.1f}x fewer than" if ratio > 1 else f"{1 / ratio:.1f}x as many as"


def exchange_report(pipeline: Pipeline) -> ExchangeReport | None:
    """All ranks together; None with one replica."""
    plan, config, meter = pipeline.plan, pipeline.gradients, pipeline.update.meter
    if plan.num_replicas == 1:
        return None
    staleness = pipeline.update.staleness
    own = (meter, None if staleness is None else (staleness.behind, staleness.most_ahead))
    everyone = [own] * dist.get_world_size()
    dist.all_gather_object(everyone, own)
    behind: Counter[int] = Counter()
    most_ahead = 0
    for _, found in everyone:
        if found is not None:
            behind += found[0]
            most_ahead = max(most_ahead, found[1])
    meters = [each for each, _ in everyone]
    number = max(1, round(fmean(each.num_steps for each in meters)))

    def per_exchange(values: Sequence[float]) -> float:
        return sum(values) / plan.num_replicas / number

    plain = per_exchange([each.plain_bytes for each in meters])
    busy = fmean(each.busy_seconds for each in meters) / number
    waited = fmean(each.waited_seconds for each in meters) / number
    return ExchangeReport(
        pattern=config.pattern,
        update=config.update.name,
        compression=config.compression.name,
        num_exchanges=number,
        bytes_sent=per_exchange([each.bytes_sent for each in meters]),
        plain_bytes=plain,
        busy_seconds=busy,
        waited_seconds=min(waited, busy) if busy else waited,  # to hand it over to a thread is no exchange
        behind=dict(sorted(behind.items())),
        most_ahead=most_ahead,
        ring_bytes=2 * (plan.num_replicas - 1) / plan.num_replicas * plain,
    )


def write_exchange(run_dir: Path, report: ExchangeReport) -> None:
    """Keep it in the run directory."""
    values = asdict(report) | {"hidden": report.hidden, "ratio": report.ratio}
    (run_dir / EXCHANGE_FILE).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
