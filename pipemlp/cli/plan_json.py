"""What `plan --json` prints: the ranking and the decision as plain values; seconds, bytes, fractions."""

from pipemlp.cli.plan_words import reason
from pipemlp.planning.candidate import Candidate, sent_bytes
from pipemlp.planning.comparison import Sharded
from pipemlp.planning.explaining import parts_of, stage_shares
from pipemlp.training.answer import Answer


def as_json(answer: Answer) -> dict[str, object]:
    """The report as plain values; the first candidate is the choice."""
    found, verdict = answer.found, answer.verdict
    alone = found.data_parallel
    return {
        "ranks": answer.num_ranks,
        "device": answer.machine.name,
        "measured": answer.machine.is_measured,
        "costs": answer.origin,
        "memory_bytes": answer.cap_bytes,
        "pipeline": verdict.pipeline,
        "reason": reason(found, verdict),
        "candidates": [_candidate(answer, each) for each in answer.ranking],
        "one_rank": _candidate(answer, found.one_rank),
        "data_parallel": None if alone is None else _candidate(answer, alone),
        "sharded": None if verdict.sharded is None else _sharded(verdict.sharded),
        "does_not_fit": [
            {**_candidate(answer, each), "missing_bytes": each.missing_bytes}
            for each in found.misses[: answer.num_shown]
        ],
        "considered": found.num_considered,
        "simulated": found.num_laid_out,
        "too_large": found.num_hopeless,
        "slack": found.slack,
    }


def _candidate(answer: Answer, candidate: Candidate) -> dict[str, object]:
    setting, plan = candidate.setting, candidate.plan
    return {
        "stages": setting.num_stages,
        "virtual_stages": setting.num_virtual_stages,
        "data_parallel": setting.num_replicas,
        "micro_batches": setting.num_micro_batches,
        "schedule": setting.schedule,
        "zero_stage": setting.zero_stage,
        "recompute": setting.recompute or "none",
        "boundaries": list(plan.boundaries),
        "cut_distance": plan.distance,
        "step_seconds": candidate.step_seconds,
        "samples_per_second": answer.samples_per_second(candidate),
        "speed_up": answer.speed_up(candidate),
        "efficiency": answer.speed_up(candidate) / setting.num_ranks,
        "bubble_fraction": candidate.prediction.bubble_fraction,
        "parts_seconds": parts_of(candidate),
        "stage_seconds": [share.seconds for share in stage_shares(candidate)],
        "sent_bytes": sent_bytes(answer.workload, plan),
        "peak_bytes": candidate.peak_bytes,
        "fits": candidate.fits,
        "stage_memory": [
            {**{f"{name}_bytes": size for name, size in memory.items().items()}, "total_bytes": memory.total_bytes}
            for memory in plan.memory
        ],
    }


def _sharded(sharded: Sharded) -> dict[str, object]:
    return {
        "zero_stage": sharded.zero_stage,
        "micro_batches": sharded.setting.num_micro_batches,
        "recompute": sharded.setting.recompute or "none",
        "step_seconds": sharded.step_seconds,
        "peak_bytes": sharded.peak_bytes,
    }
