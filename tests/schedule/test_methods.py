"""The registry: every name makes a legal schedule, and wrong names and sizes are refused with what is right."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipemlp.schedule.costs import uniform_costs
from pipemlp.schedule.methods import METHODS, make_schedule, method_of
from pipemlp.schedule.placement import Placement
from pipemlp.schedule.simulate import simulate
from pipemlp.schedule.validate import check

NAMES = ("gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-h2", "interleaved-zb", "zb-v", "zb-auto")


def test_the_names_are_those_that_users_write():
    assert tuple(METHODS) == NAMES
    assert [method.name for method in METHODS.values()] == list(NAMES)
    with pytest.raises(TypeError):
        METHODS["mine"] = METHODS["1f1b"]  # type: ignore[index]


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_every_allowed_size_is_made(name, data):
    method = METHODS[name]
    num_stages, num_micro_batches = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 12))
    allowed = st.none() | (st.sampled_from(method.virtual_stages) if method.virtual_stages else st.integers(1, 3))
    num_virtual_stages = data.draw(allowed)
    schedule = make_schedule(name, num_stages, num_micro_batches, num_virtual_stages)
    check(schedule)
    sizes = schedule.num_stages, schedule.num_micro_batches, schedule.num_virtual_stages
    assert sizes == (num_stages, num_micro_batches, num_virtual_stages or method.default_virtual_stages)
    assert schedule.name == name
    one_each = schedule.num_virtual_stages == 1
    assert schedule.placement == method.placement or one_each
    if method.make is not None:
        kinds = {action.kind for row in schedule.actions for action in row}
        assert kinds == ({"F", "I", "W"} if method.splits_backward else {"F", "B"})


def test_what_is_known_of_a_method():
    defaults = {name: METHODS[name].default_virtual_stages for name in NAMES}
    assert defaults == dict.fromkeys(NAMES, 1) | dict.fromkeys(
        ("interleaved-1f1b", "interleaved-zb", "zb-v", "zb-auto"), 2
    )
    assert {name for name in NAMES if METHODS[name].placement == "v"} == {"zb-v", "zb-auto"}
    assert {name for name in NAMES if not METHODS[name].splits_backward} == {"gpipe", "1f1b", "interleaved-1f1b"}
    for method in METHODS.values():
        assert method.placement in get_args(Placement)
        assert 20 < len(method.summary) < 90
        method.check(method.default_virtual_stages)


@pytest.mark.parametrize(
    ("name", "num_virtual_stages", "message"),
    [
        ("1f1b", 2, "1f1b with 2 virtual stages per stage; it takes 1"),
        ("gpipe", 0, "gpipe with 0 virtual stages per stage; it takes 1"),
        ("zb-h1", 3, "zb-h1 with 3 virtual stages per stage; it takes 1"),
        ("zb-h2", 2, "zb-h2 with 2 virtual stages per stage; it takes 1"),
        ("zb-v", 1, "zb-v with 1 virtual stage per stage; it takes 2"),
        ("zb-auto", 3, "zb-auto with 3 virtual stages per stage; it takes 1 or 2"),
        ("interleaved-1f1b", 0, "interleaved-1f1b with 0 virtual stages per stage; it takes any number from 1 on"),
        ("interleaved-zb", -1, "interleaved-zb with -1 virtual stages per stage; it takes any number from 1 on"),
    ],
)
def test_a_wrong_number_of_virtual_stages_is_refused(name, num_virtual_stages, message):
    with pytest.raises(ValueError) as error:
        make_schedule(name, 4, 8, num_virtual_stages)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "near"),
    [("zbv", "zb-v"), ("ZB_H1", "zb-h1"), ("1F1B", "1f1b"), ("interleaved", "interleaved-zb"), ("zb-autp", "zb-auto")],
)
def test_an_unknown_name_gets_the_nearest(name, near):
    with pytest.raises(ValueError, match=f"unknown schedule '{name}'; did you mean {near}\\? There are gpipe, 1f1b, "):
        method_of(name)


def test_a_name_like_no_other_gets_the_list():
    with pytest.raises(ValueError) as error:
        make_schedule("something", 2, 2)
    assert str(error.value) == f"unknown schedule 'something'. There are {', '.join(NAMES)}"


def test_costs_and_caps_are_for_zb_auto():
    costs = uniform_costs(4, 2, hop=0.3)
    assert make_schedule("zb-v", 4, 6, costs=costs, memory_cap=1.0) == make_schedule("zb-v", 4, 6)
    wide, tight = (make_schedule("zb-auto", 4, 6, costs=costs, memory_cap=cap) for cap in (None, 2.0))
    assert max(simulate(tight, costs).peak_bytes) <= 2.0 < max(simulate(wide, costs).peak_bytes)
    with pytest.raises(ValueError, match="costs.forward has 8 entries; 4 virtual stages need 4"):
        make_schedule("zb-auto", 4, 6, 1, costs=costs)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match="0 stages; a pipeline needs at least 1"):
        make_schedule(name, 0, 1)
    with pytest.raises(ValueError, match="0 micro-batches; a pipeline needs at least 1"):
        make_schedule(name, 1, 0)
