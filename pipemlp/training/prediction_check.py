"""How far the plan's prediction was off: some steps timed, some listened to, one watched for its memory.

step    1..3    warm up
        4       its memory is watched
        5..9    the clock listens: bubbles
        others  are timed, from the end of one to the end of the next, evaluations left out
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist

from pipemlp.engine.pipeline import Pipeline
from pipemlp.planning.plan import Plan
from pipemlp.schedule.action import COMPUTE_KINDS
from pipemlp.schedule.measured import Event, MeasuredStep
from pipemlp.schedule.time_shares import time_shares
from pipemlp.training.memory_watch import MemoryWatch
from pipemlp.training.sizes import seconds_text, size_text
from pipemlp.training.timeline import is_recorded

PREDICTION_FILE = "prediction.json"
WATCHED_STEP = 4
LISTENED_STEPS = range(5, 10)
MOST_TIMED = 10_000
"""Steps whose times are kept; later ones replace earlier ones."""


@dataclass(frozen=True)
class RankReport:
    """One rank: what was predicted and what was measured; None for what the run was too short to measure."""

    rank: int
    predicted_bubble: float
    measured_bubble: float | None
    predicted_peak_bytes: float
    measured_peak_bytes: float | None


@dataclass(frozen=True)
class PredictionReport:
    """The whole run.

    Args:
        is_measured: whether a profile made the prediction, and not a data sheet.
        predicted_seconds, measured_seconds: of a step, on the median.
        num_timed: steps that were timed.
        ranks: one by one.
    """

    is_measured: bool
    predicted_seconds: float
    measured_seconds: float | None
    num_timed: int
    ranks: tuple[RankReport, ...]

    def to_json(self) -> dict[str, object]:
        """As plain values, with the errors."""
        return asdict(self) | {"error": relative_error(self.predicted_seconds, self.measured_seconds)}


def relative_error(predicted: float, measured: float | None) -> float | None:
    """How much too long or too large the prediction was, as a fraction of what was measured."""
    return None if not measured else predicted / measured - 1.0


class PredictionCheck:
    """Follows a planned run on every rank.

    Args:
        pipeline: of this rank.
        device: of its tensors.
        timeline_every_steps: steps that somebody else listens to already.
    """

    def __init__(self, pipeline: Pipeline, device: torch.device, timeline_every_steps: int) -> None:
        self._pipeline = pipeline
        self._watch = MemoryWatch(device)
        self._timeline_every_steps = timeline_every_steps
        self._last_end: float | None = None
        self._seconds: list[float] = []
        self._bubbles: list[list[float]] = []
        self._peak_bytes: int | None = None

    def before(self, step: int) -> None:
        """Step `step` (counted from 1) is about to run."""
        if step == WATCHED_STEP:
            self._watch.begin()
        elif self._listens(step):
            self._pipeline.clock.listen()

    def after(self, step: int) -> None:
        """It has run, its loss is known where it is asked for."""
        now, disturbed = time.perf_counter(), True
        if step == WATCHED_STEP:
            self._peak_bytes = self._watch.end()
        elif self._listens(step):
            self._bubbles.append(self._own_bubbles())
        else:
            disturbed = is_recorded(step, self._timeline_every_steps)
            if self._last_end is not None and not disturbed and step > WATCHED_STEP:
                self._seconds.append(now - self._last_end)
                del self._seconds[:-MOST_TIMED]
        self._last_end = None if disturbed else now

    def paused(self) -> None:
        """Something else than a step came between."""
        self._last_end = None

    def _listens(self, step: int) -> bool:
        return step in LISTENED_STEPS and not is_recorded(step, self._timeline_every_steps)

    def _own_bubbles(self) -> list[float]:
        """The idle share of every rank's time in the pipeline, by rank."""
        own = [event for event in self._pipeline.clock.events() if event.action.kind in COMPUTE_KINDS]
        everyone: list[list[Event]] = [[]] * dist.get_world_size()
        dist.all_gather_object(everyone, own)
        return bubbles_of(self._pipeline.plan, everyone)

    def report(self) -> PredictionReport:
        """All ranks together; to be asked on every rank."""
        plan = self._pipeline.plan
        assert plan.prediction is not None
        peaks: list[int | None] = [None] * dist.get_world_size()
        dist.all_gather_object(peaks, self._peak_bytes)
        ranks = []
        for rank, peak in enumerate(peaks):
            stage = rank // plan.num_replicas
            measured = median(own[rank] for own in self._bubbles) if self._bubbles else None
            predicted = plan.prediction.bubbles[stage], plan.prediction.counted_bytes[stage]
            ranks.append(RankReport(rank, predicted[0], measured, predicted[1], peak))
        return PredictionReport(
            is_measured=plan.prediction.is_measured,
            predicted_seconds=plan.prediction.step_seconds,
            measured_seconds=median(self._seconds) if self._seconds else None,
            num_timed=len(self._seconds),
            ranks=tuple(ranks),
        )


def bubbles_of(plan: Plan, ranks: Sequence[Sequence[Event]]) -> list[float]:
    """The idle share of every rank's time between its replica's first forward and last gradient."""
    result = [0.0] * len(ranks)
    for replica in range(plan.num_replicas):
        own = tuple(tuple(events) for events in ranks[replica :: plan.num_replicas])
        shares = time_shares(MeasuredStep(plan.schedule, 0, replica, own, ((),) * plan.num_stages))
        for stage, share in enumerate(shares):
            result[stage * plan.num_replicas + replica] = share.share("bubble") + share.share("transfer_wait")
    return result


def write_report(run_dir: Path, report: PredictionReport) -> None:
    """Keep it in the run directory."""
    (run_dir / PREDICTION_FILE).write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")


def report_lines(report: PredictionReport) -> list[str]:
    """What is printed at the end of a run: predicted, measured, the error; by rank what differs by rank."""
    step = "not measured: the run was too short"
    if report.measured_seconds is not None:
        error = relative_error(report.predicted_seconds, report.measured_seconds)
        step = f"{seconds_text(report.measured_seconds)} measured, prediction {_signed(error)}"
    how = "predicted" if report.is_measured else "predicted by a data sheet, which is a floor"
    lines = [f"step: {seconds_text(report.predicted_seconds)} {how}, {step}"]
    for rank in report.ranks:
        bubble, memory = "", ""
        if rank.measured_bubble is not None:
            points = 100 * (rank.predicted_bubble - rank.measured_bubble)
            bubble = f", {rank.measured_bubble:.1%} measured ({points:+.1f} points)"
        if rank.measured_peak_bytes is not None:
            error = relative_error(rank.predicted_peak_bytes, rank.measured_peak_bytes)
            memory = f", {size_text(rank.measured_peak_bytes)} measured ({_signed(error)})"
        lines.append(
            f"rank {rank.rank}: bubble {rank.predicted_bubble:.1%} predicted{bubble}; "
            f"memory {size_text(rank.predicted_peak_bytes)} predicted{memory}"
        )
    return lines


def _signed(error: float | None) -> str:
    return "" if error is None else f"{error:+.1%}"
