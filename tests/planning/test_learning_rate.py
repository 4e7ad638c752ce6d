"""The learning rate by step: key points, warm-up, direction, and equality with torch's schedulers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipemlp.config.training import Constant, Cosine, Linear, OneCycle, Step
from pipemlp.planning.learning_rate import learning_rate

BASE = 0.02
SCHEDULES = [
    Constant(),
    Linear(final_fraction=0.1),
    Cosine(final_fraction=0.1),
    OneCycle(final_fraction=0.001),
    Step(every_steps=7, factor=0.5),
]


def rates(schedule, num_steps, base=BASE):
    return [learning_rate(schedule, base, step, num_steps) for step in range(num_steps)]


def rates_of_torch(make, num_steps, base=BASE):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=base)
    scheduler = make(optimizer)
    values = []
    for _ in range(num_steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (Constant(), {0: 1.0, 50: 1.0, 100: 1.0}),
        (Linear(), {0: 1.0, 50: 0.5, 100: 0.0}),
        (Linear(final_fraction=0.2), {0: 1.0, 25: 0.8, 50: 0.6, 100: 0.2}),
        (Cosine(), {0: 1.0, 25: (1 + math.sqrt(0.5)) / 2, 50: 0.5, 100: 0.0}),
        (Cosine(final_fraction=0.2), {0: 1.0, 50: 0.6, 100: 0.2}),
        (Step(every_steps=40, factor=0.1), {0: 1.0, 39: 1.0, 40: 0.1, 79: 0.1, 80: 0.01, 100: 0.01}),
        (OneCycle(warmup_steps=20), {0: 0.04, 10: 0.52, 20: 1.0, 60: (1 + 4e-6) / 2, 100: 4e-6}),
        (OneCycle(), {0: 0.04, 15: 0.52, 30: 1.0, 100: 4e-6}),
    ],
    ids=str,
)
def test_key_points_of_101_steps(schedule, points):
    found = {step: learning_rate(schedule, 1.0, step, 101) for step in points}
    assert found == pytest.approx(points, abs=1e-12)


@pytest.mark.parametrize("schedule", [s for s in SCHEDULES if not isinstance(s, OneCycle)], ids=str)
def test_warm_up_rises_to_the_rate_and_the_curve_spans_the_rest(schedule):
    warm = schedule.model_copy(update={"warmup_steps": 8})
    assert rates(warm, 40)[:8] == pytest.approx([BASE * (step + 1) / 8 for step in range(8)])
    assert rates(warm, 40)[8:] == pytest.approx(rates(schedule, 32))


def test_the_rise_of_one_cycle_is_its_warm_up():
    values = rates(OneCycle(warmup_steps=5), 50)
    assert values.index(max(values)) == 5
    values = rates(OneCycle(), 50)
    assert values.index(max(values)) == 15  # 30 % of the run


@pytest.mark.parametrize(("final", "num_steps"), [(0.0, 50), (0.1, 50), (0.3, 2)])
def test_equal_to_torch_cosine_and_linear(final, num_steps):
    def cosine(optimizer):
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=num_steps - 1, eta_min=final * BASE)

    def linear(optimizer):
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, final, total_iters=num_steps - 1)

    # torch multiplies from step to step, which rounds
    close = {"rel": 1e-9, "abs": 1e-15}
    assert rates(Cosine(final_fraction=final), num_steps) == pytest.approx(rates_of_torch(cosine, num_steps), **close)
    assert rates(Linear(final_fraction=final), num_steps) == pytest.approx(rates_of_torch(linear, num_steps), **close)


def test_equal_to_torch_step_and_warm_up():
    def step(optimizer):
        return torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.3)

    def warm_up(optimizer):
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 6, 1.0, total_iters=5)

    assert rates(Step(every_steps=7, factor=0.3), 50) == pytest.approx(rates_of_torch(step, 50), rel=1e-9)
    assert rates(Constant(warmup_steps=6), 20) == pytest.approx(rates_of_torch(warm_up, 20), rel=1e-9)


@pytest.mark.parametrize(("rise", "num_steps", "initial", "final"), [(15, 50, 0.04, 4e-6), (10, 101, 0.1, 0.001)])
def test_equal_to_torch_one_cycle(rise, num_steps, initial, final):
    def one_cycle(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=BASE,
            total_steps=num_steps,
            pct_start=(rise + 1) / num_steps,
            cycle_momentum=False,
            div_factor=1 / initial,
            final_div_factor=initial / final,
        )

    ours = OneCycle(warmup_steps=rise, initial_fraction=initial, final_fraction=final)
    # the last call of step() is one beyond torch's total
    assert rates(ours, num_steps)[:-1] == pytest.approx(rates_of_torch(one_cycle, num_steps - 1), rel=1e-9)
    assert rates(ours, num_steps)[-1] == pytest.approx(BASE * final)


@given(
    schedule=st.sampled_from(SCHEDULES),
    warmup_steps=st.integers(0, 30),
    num_steps=st.integers(1, 200),
    base=st.floats(1e-8, 10.0),
)
def test_up_then_down_within_the_base_rate(schedule, warmup_steps, num_steps, base):
    values = rates(schedule.model_copy(update={"warmup_steps": warmup_steps}), num_steps, base)
    assert all(0 < value <= base * (1 + 1e-12) for value in values)
    top = values.index(max(values))
    slack = 1e-12 * base
    assert all(left <= right + slack for left, right in zip(values[:top], values[1 : top + 1], strict=True))
    assert all(left >= right - slack for left, right in zip(values[top:], values[top + 1 :], strict=False))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_beyond_the_last_step_the_rate_stays_at_its_end(schedule):
    if not isinstance(schedule, Step):
        assert learning_rate(schedule, BASE, 80, 40) == pytest.approx(rates(schedule, 40)[-1])
