"""The balanced cut is as good as trying every cut, keeps its caps, and says how far it may be from the best."""

import random
from dataclasses import replace

import pytest
from planning.brute_force import best_worth, every_cut, worth

from pipemlp.planning import balanced as balanced_module
from pipemlp.planning.balanced import balanced
from pipemlp.planning.cut_problem import cut_problem
from pipemlp.planning.layer_costs import LayerCosts
from pipemlp.planning.several_runs import Effort, Search
from pipemlp.schedule.placement import Placement

ENDLESS = float("inf")
KINDS: list[tuple[int, Placement, int]] = [
    (1, "loop", 1000),
    (1, "v", 100),
    (2, "v", 600),
    (2, "loop", 600),
    (3, "loop", 300),
]


def plain_costs(seconds, crossing=0.0, kept=0.0):
    """Forwards of so many seconds, equal crossings of one byte."""
    none = (0.0,) * len(seconds)
    return LayerCosts(
        forward=tuple(map(float, seconds)),
        input_gradient=none,
        weight_gradient=none,
        crossing_seconds=(crossing,) * (len(seconds) - 1),
        kept_bytes=(kept,) * len(seconds),
        pending_bytes=none,
        state_bytes=none,
        crossing_bytes=(1.0,) * (len(seconds) - 1),
    )


def random_costs(numbers, num_layers):
    """Small whole numbers, so that there are many ties, and layers and crossings that cost nothing."""

    def some(count):
        top = numbers.choice((1, 2, 6))
        return tuple(float(numbers.randint(0, top)) for _ in range(count))

    return LayerCosts(
        forward=some(num_layers),
        input_gradient=some(num_layers),
        weight_gradient=(0.0,) * num_layers,
        crossing_seconds=some(num_layers - 1),
        kept_bytes=some(num_layers),
        pending_bytes=(0.0,) * num_layers,
        state_bytes=some(num_layers),
        crossing_bytes=some(num_layers - 1),
        first_bytes=some(num_layers) if numbers.random() < 0.5 else (),
        last_bytes=some(num_layers) if numbers.random() < 0.5 else (),
    )


def random_cases(seed, num_virtual_stages, num_cases):
    """Costs, trainable layers, stages, caps and micro-batches in flight."""
    numbers = random.Random(seed)
    while num_cases:
        costs = random_costs(numbers, numbers.randint(1, 9))
        trainable = [numbers.random() < 0.8 for _ in range(costs.num_layers)]
        most = sum(trainable) // num_virtual_stages
        if not most:
            continue
        num_stages = numbers.randint(1, most)
        in_flight = [float(numbers.randint(0, 3)) for _ in range(num_stages)]
        caps = [ENDLESS] * num_stages
        if numbers.random() < 0.6:
            total = int(sum(costs.state_bytes) + 2 * sum(costs.kept_bytes)) + 3
            caps = [float(numbers.randint(0, total)) for _ in caps]
        yield costs, trainable, num_stages, [max(caps)] * num_stages if numbers.random() < 0.3 else caps, in_flight
        num_cases -= 1


@pytest.mark.parametrize(("num_virtual_stages", "placement", "num_cases"), KINDS)
def test_as_good_as_trying_every_cut(num_virtual_stages, placement, num_cases):
    cases = random_cases(num_virtual_stages, num_virtual_stages, num_cases)
    num_impossible = 0
    for costs, trainable, num_stages, caps, in_flight in cases:
        best = best_worth(costs, trainable, num_stages, num_virtual_stages, placement, caps, in_flight)
        options = {"trainable": trainable, "memory_caps": caps, "in_flight": in_flight}
        if best is None:
            num_impossible += 1
            with pytest.raises(ValueError, match="memory_caps: no cut keeps"):
                balanced(costs, num_stages, num_virtual_stages, placement, **options)
            continue
        cut = balanced(costs, num_stages, num_virtual_stages, placement, **options)
        seconds, sent, held = worth(costs, cut.boundaries, num_stages, placement, in_flight)
        assert cut.boundaries in every_cut(trainable, num_stages * num_virtual_stages)
        assert all(own <= cap for own, cap in zip(held, caps, strict=True))
        assert (max(seconds), sent, max(held)) == best
        assert cut.slowest_seconds == cut.lower_bound_seconds == best[0]
        assert cut.is_optimal and cut.distance == 0
    assert num_cases // 10 < num_impossible < num_cases // 2


@pytest.mark.parametrize(("num_virtual_stages", "placement", "num_cases"), KINDS[2:])
def test_the_narrow_search_and_the_lower_bound_are_on_either_side_of_the_best(num_virtual_stages, placement, num_cases):
    for costs, trainable, num_stages, caps, in_flight in random_cases(9, num_virtual_stages, num_cases // 3):
        if num_stages == 1:
            continue
        best = best_worth(costs, trainable, num_stages, num_virtual_stages, placement, caps, in_flight)
        problem = cut_problem(
            costs,
            num_stages,
            num_virtual_stages,
            placement,
            trainable=trainable,
            memory_caps=caps,
            in_flight=in_flight,
        )
        found = Search(problem, problem.most, Effort(2**62, num_states=2, reach=1)).run()
        if best is None:
            assert found is None
            continue
        assert problem.lower_bound() * problem.unit <= best[0]
        if found is not None:
            seconds, _, held = worth(costs, found, num_stages, placement, in_flight)
            assert max(problem.loads(found)) * problem.unit == max(seconds) >= best[0]
            assert all(own <= cap for own, cap in zip(held, caps, strict=True))


@pytest.mark.parametrize("placement", ["loop", "v"])
@pytest.mark.parametrize("capped", [0, 1])
def test_a_first_cut_keeps_the_cap_of_one_stage_beside_another_without(placement, capped):
    caps = [ENDLESS, ENDLESS]
    caps[capped] = 17.0
    costs = replace(plain_costs([1, 1, 1, 9, 1, 1]), state_bytes=(4.0, 4.0, 4.0, 8.0, 8.0, 8.0))
    options = {"trainable": [True] * 6, "memory_caps": caps}
    problem = cut_problem(costs, 2, 2, placement, in_flight=None, **options)
    cut = balanced_module._equal_runs(problem)
    assert cut is not None and problem.peaks(cut)[capped] <= 17
    assert problem.peaks(balanced(costs, 2, 2, placement, **options).boundaries)[capped] <= 17


def test_times_near_the_smallest_float():
    assert balanced(plain_costs([1e-310] * 4), 2, trainable=[True] * 4).boundaries == (0, 2, 4)
    assert balanced(plain_costs([5e-324, 0.0]), 2, trainable=[True] * 2).boundaries == (0, 1, 2)


@pytest.mark.parametrize(("placement", "num_virtual_stages"), [("loop", 1), ("loop", 2), ("v", 2)])
def test_a_large_cut_keeps_its_caps_and_its_bound(placement, num_virtual_stages):
    numbers = random.Random(1)
    costs = replace(random_costs(numbers, 150), forward=tuple(numbers.uniform(1, 9) for _ in range(150)))
    in_flight = [float(8 - stage) for stage in range(8)]
    free = balanced(costs, 8, num_virtual_stages, placement, trainable=[True] * 150, in_flight=in_flight)
    _, _, held = worth(costs, free.boundaries, 8, placement, in_flight)
    caps = [0.9 * max(held)] * 8
    cut = balanced(
        costs, 8, num_virtual_stages, placement, trainable=[True] * 150, in_flight=in_flight, memory_caps=caps
    )
    seconds, _, held = worth(costs, cut.boundaries, 8, placement, in_flight)
    assert max(held) <= caps[0]
    assert cut.slowest_seconds == pytest.approx(max(seconds))
    assert free.lower_bound_seconds <= cut.slowest_seconds
    assert 0 <= free.distance < 0.05 and (num_virtual_stages > 1 or cut.is_optimal)


@pytest.mark.parametrize(
    ("seconds", "num_stages", "num_virtual_stages", "placement", "boundaries", "slowest"),
    [
        ([5], 1, 1, "loop", (0, 1), 5),
        ([1, 1, 1, 1], 4, 1, "loop", (0, 1, 2, 3, 4), 1),
        ([1] * 12, 4, 1, "loop", (0, 3, 6, 9, 12), 3),
        ([0] * 4, 4, 1, "loop", (0, 1, 2, 3, 4), 0),
        ([1, 1, 100, 1, 1], 3, 1, "loop", (0, 2, 3, 5), 100),
        ([1, 2, 3, 4], 2, 2, "loop", (0, 1, 2, 3, 4), 6),
        ([1, 2, 4, 3], 2, 2, "v", (0, 1, 2, 3, 4), 6),
        ([1, 1, 1, 1], 1, 4, "loop", (0, 1, 2, 3, 4), 4),
    ],
)
def test_cuts_one_can_check_by_hand(seconds, num_stages, num_virtual_stages, placement, boundaries, slowest):
    cut = balanced(plain_costs(seconds), num_stages, num_virtual_stages, placement, trainable=[True] * len(seconds))
    assert (cut.boundaries, cut.slowest_seconds, cut.is_optimal) == (boundaries, slowest, True)


def test_a_transfer_counts_for_both_stages_and_not_inside_one():
    costs = plain_costs([4, 4, 4, 4], crossing=1.0)
    assert balanced(costs, 2, trainable=[True] * 4).slowest_seconds == 8 + 1
    assert balanced(costs, 2, 2, "loop", trainable=[True] * 4).slowest_seconds == 8 + 3
    assert balanced(costs, 2, 2, "v", trainable=[True] * 4).slowest_seconds == 8 + 2
    assert balanced(costs, 1, 2, "loop", trainable=[True] * 4).slowest_seconds == 16


@pytest.mark.parametrize(
    ("num_stages", "num_virtual_stages", "placement", "message"),
    [
        (5, 1, "loop", r"^5 stages, but 4 of the 6 layers have parameters; use at most 4 stages$"),
        (3, 2, "v", r"^3 stages x 2 virtual stages = 6, but 4 of the 6 layers have parameters; use at most 2 stages$"),
        (1, 5, "loop", r"^1 stage x 5 virtual stages = 5, but 4 .*; use at most 4 virtual stages in all$"),
        (0, 1, "loop", r"^0 stages x 1 virtual stages: both must be at least 1$"),
        (1, 3, "v", r"^placement 'v' with 3 virtual stages per stage; use 2$"),
        (1, 1, "x", r"^placement 'x'; use 'loop' or 'v'$"),
    ],
)
def test_more_virtual_stages_than_layers_to_train(num_stages, num_virtual_stages, placement, message):
    with pytest.raises(ValueError, match=message):
        balanced(plain_costs([1] * 6), num_stages, num_virtual_stages, placement, trainable=[False, False, *[True] * 4])


def test_all_that_is_wrong_is_said_at_once():
    costs = replace(plain_costs([1, -2, float("nan")]), crossing_bytes=(1.0,), last_bytes=(ENDLESS, 1.0, 1.0))
    with pytest.raises(ValueError) as raised:
        balanced(costs, 2, trainable=[True] * 2, memory_caps=[ENDLESS], in_flight=[1.0, -1.0])
    assert str(raised.value).splitlines() == [
        "forward[1] is -2.0, and 1 more; give a finite number of at least 0",
        "crossing_bytes has 1 entries for 2 cuts between two layers; give one each",
        "last_bytes[0] is inf; give a finite number of at least 0",
        "trainable has 2 entries for 3 layers; give one each",
        "memory_caps has 1 entries for 2 stages; give one each",
        "in_flight[1] is -1.0; give a finite number of at least 0",
    ]


@pytest.mark.parametrize(("num_virtual_stages", "placement"), [(1, "loop"), (2, "loop"), (2, "v")])
def test_caps_that_nothing_keeps_say_what_would_do(num_virtual_stages, placement):
    costs = plain_costs([1] * 8, kept=10.0)
    options = {"trainable": [True] * 8, "in_flight": [2.0, 1.0]}
    with pytest.raises(ValueError) as raised:
        balanced(costs, 2, num_virtual_stages, placement, memory_caps=[30.0, 40.0], **options)
    assert str(raised.value) == (
        "memory_caps: no cut keeps the caps of 2 stages (30 to 40 bytes); it takes 20 bytes more on every stage that "
        "has one, or an equal cap of 60 bytes for all"
    )
    for caps in ([50.0, 60.0], [60.0, 60.0]):
        cut = balanced(costs, 2, num_virtual_stages, placement, memory_caps=caps, **options)
        assert cut.slowest_seconds >= 5
    for caps in ([49.0, 59.0], [59.0, 59.0]):
        with pytest.raises(ValueError, match="no cut keeps"):
            balanced(costs, 2, num_virtual_stages, placement, memory_caps=caps, **options)
