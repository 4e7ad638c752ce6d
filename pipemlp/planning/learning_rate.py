"""The learning rate as a pure function of the step, so that a resumed run continues it exactly."""

import math

from pipemlp.config.training import Constant, Cosine, Linear, LrScheduleConfig, OneCycle, Step


def learning_rate(schedule: LrScheduleConfig, base: float, step: int, num_steps: int) -> float:
    """The rate used for optimizer step `step` (from 0) of `num_steps`.

    With a warm-up of w steps, step s < w uses (s + 1) / w of the rate; the schedule's own curve then
    spans the steps that remain, and reaches its end at the last one.
    """
    if isinstance(schedule, OneCycle):
        return base * _one_cycle(schedule, step, num_steps)
    if step < schedule.warmup_steps:
        return base * (step + 1) / schedule.warmup_steps
    done = step - schedule.warmup_steps
    fraction = min(1.0, done / max(1, num_steps - schedule.warmup_steps - 1))
    if isinstance(schedule, Linear):
        return base * _between(1.0, schedule.final_fraction, fraction)
    if isinstance(schedule, Cosine):
        return base * _between(1.0, schedule.final_fraction, _half_cosine(fraction))
    if isinstance(schedule, Step):
        return base * float(schedule.factor ** (done // schedule.every_steps))
    assert isinstance(schedule, Constant)
    return base


def _one_cycle(schedule: OneCycle, step: int, num_steps: int) -> float:
    rise = schedule.warmup_steps or max(1, round(0.3 * num_steps))
    if step < rise:
        return _between(schedule.initial_fraction, 1.0, _half_cosine(step / rise))
    fraction = min(1.0, (step - rise) / max(1, num_steps - rise - 1))
    return _between(1.0, schedule.final_fraction, _half_cosine(fraction))


def _half_cosine(fraction: float) -> float:
    """0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * fraction)) / 2


def _between(start: float, end: float, fraction: float) -> float:
    return start + (end - start) * fraction
