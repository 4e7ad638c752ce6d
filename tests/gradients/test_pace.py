"""Who may go on, who takes which slice, what messages say: the parts of asynchronous updates, without processes."""

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from pipemlp.gradients.mail import HEADER_BYTES, Header, Kind, read_header, write_header
from pipemlp.gradients.meter import Meter
from pipemlp.gradients.staleness import Clocks, Staleness
from pipemlp.training.turns import Turns


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(0, 3))
def test_nobody_starts_a_step_beyond_the_bound(order, bound):
    """Replicas that step whenever they may, in any order of turns: none starts one more than `bound` ahead."""
    clocks, done = Clocks(3, bound), [0, 0, 0]
    for replica in order:
        if clocks.may_go_on(replica):
            assert done[replica] - min(done) <= bound
            done[replica] += 1
            clocks.stepped(replica, done[replica])
        else:
            assert done[replica] - min(done) > bound


def test_without_a_bound_all_may():
    clocks = Clocks(2, None)
    clocks.stepped(0, 1000)
    assert clocks.may_go_on(0) and clocks.lead(0) == 1000


def test_nobody_waits_for_a_replica_that_pauses_and_all_start_anew():
    clocks = Clocks(3, 1)
    for replica, steps in ((0, 3), (1, 3)):
        clocks.stepped(replica, steps)
    assert not clocks.may_go_on(0)
    clocks.pause(2)
    assert clocks.may_go_on(0)
    clocks.pause(0)
    clocks.pause(1)
    assert [clocks.lead(replica) for replica in range(3)] == [0, 0, 0]


def test_staleness_is_counted():
    staleness = Staleness()
    for behind, ahead in ((0, 0), (2, 1), (2, 0)):
        staleness.note(behind, ahead)
    assert staleness.behind == {0: 1, 2: 2} and staleness.most_ahead == 1


@given(st.sampled_from(list(Kind)), st.integers(0, 2**50), st.integers(0, 2**50), st.floats(0, 10))
def test_a_header_is_read_as_it_was_written(kind, steps, version, learning_rate):
    message = torch.zeros(HEADER_BYTES + 5, dtype=torch.uint8)
    header = Header(kind, steps, version, learning_rate)
    write_header(message, header)
    assert read_header(message) == header and not message[HEADER_BYTES:].any()


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), min_size=40, max_size=40))
def test_every_slice_is_taken_once(order):
    """Three replicas that ask in any order; each stops at the first slice that is not of this stretch."""
    store = dist.HashStore()
    for start, stop in ((0, 7), (7, 12)):
        asking = [Turns(store, None, 0).between(start, stop) for _ in range(3)]
        taken = [next(asking[replica], None) for replica in order]
        taken += [slice_index for own in asking for slice_index in own]
        assert sorted(index for index in taken if index is not None) == list(range(start, stop))


def test_a_meter_adds_up(monkeypatch):
    now = iter([1.0, 3.0, 10.0, 10.5])
    monkeypatch.setattr("pipemlp.gradients.meter.time.perf_counter", lambda: next(now))
    meter = Meter()
    with meter.busy():
        pass
    with pytest.raises(ValueError), meter.waiting():
        raise ValueError
    assert (meter.busy_seconds, meter.waited_seconds) == (2.0, 0.5)
