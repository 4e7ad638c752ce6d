"""Who may go on, who takes which slice, what messages say: the parts of asynchronous updates, without processes."""

import re
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from pipemlp.gradients import staleness as staleness_module
from pipemlp.gradients.asynchronous import AsynchronousWorker
from pipemlp.gradients.links import ExchangeError, lost
from pipemlp.gradients.mail import HEADER_BYTES, Header, Kind, read_header, write_header
from pipemlp.gradients.meter import Meter
from pipemlp.gradients.staleness import Clocks, Staleness
from pipemlp.training import asynchronous_steps
from pipemlp.training.doing import Doing
from pipemlp.training.exchange_report import ExchangeReport
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


DOCUMENT = (Path(__file__).parents[2] / "docs" / "gradients.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", [staleness_module.__doc__, DOCUMENT], ids=["module", "document"])
def test_the_drawing_of_the_bound(text):
    """Replicas have done as many steps as there are points; who has a bar behind them waits until what is said."""
    rows = re.findall(r"    replica (\d)   ((?:\. )*\.)(\|?)", text)
    clocks = Clocks(len(rows), int(re.search(r"with max_staleness (\d) it waits", text)[1]))
    for replica, points, _ in rows:
        clocks.stepped(int(replica), points.count("."))
    waits = [replica for replica in range(len(rows)) if not clocks.may_go_on(replica)]
    assert waits == [int(replica) for replica, _, bar in rows if bar] == [0]
    assert "replica 2   . . . .                until this one has done its fifth step" in text
    clocks.stepped(2, 5)
    assert clocks.may_go_on(0)


class Answers:
    """Of two replicas; the other one answers, or has gone."""

    rank, num_replicas = 0, 2

    def __init__(self, gone: bool = False) -> None:
        self.gone = gone

    def receive(self, values: torch.Tensor, replica: int) -> str:
        return "an answer"

    def send(self, values: torch.Tensor, replica: int) -> str:
        return "a push"

    def wait(self, work: str, replica: int, moment: str) -> None:
        if self.gone and work == "an answer":
            raise lost(replica, moment)


class Server:
    """Beside the worker; it says nothing of its own accord."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure, self.own_answers = failure, SimpleQueue()

    def handle(self, replica: int, message: torch.Tensor) -> None:
        pass

    def slowest(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("server", "gone", "message"),
    [
        (Server(), False, "waiting for the slowest replica: replica 1 left or stopped answering"),
        (Server(), True, "pulling parameters: replica 1 left or stopped answering"),
        (Server(ValueError("no such kind")), True, "the parameter server of replica 0: no such kind"),
        (Server(ValueError("no such kind")), False, "the parameter server of replica 0: no such kind"),
        (Server(RuntimeError("pair.cc: closed")), True, "pulling parameters: replica 1 left or stopped answering"),
        (
            Server(RuntimeError("pair.cc: closed")),
            False,
            "taking the gradients of other replicas: a replica left or stop",
        ),
    ],
    ids=["too slow", "gone", "failed, and nobody answers", "failed", "a link broke, gone", "a link broke"],
)
def test_a_worker_that_gets_no_answer_says_who_was_waited_for(server, gone, message):
    worker = AsynchronousWorker(server, Answers(), Answers(gone), [4, 4], 0.01)
    with pytest.raises(ExchangeError, match=f"^{message}"):
        worker.push([[torch.zeros(4, dtype=torch.uint8)]] * 2, 0.1)


def test_the_speed_is_that_of_this_process(monkeypatch):
    """Steps 100 and 101 of two replicas, the first after a resume; a clock of a second per look."""
    now, shown = iter(map(float, range(100))), []
    monkeypatch.setattr(asynchronous_steps.time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(asynchronous_steps, "default_store", dist.HashStore)
    monkeypatch.setattr(asynchronous_steps.dist, "get_rank", lambda: 0)
    pipeline = SimpleNamespace(
        place=SimpleNamespace(replica=0),
        plan=SimpleNamespace(num_replicas=2),
        pipe_group=None,
        engine=SimpleNamespace(device="cpu"),
        train_batch=lambda *arguments, **keys: None,
        replica_loss=lambda: 1.0,
    )
    weights = iter((1.0, 1.0, 0.0, 2.0))
    loader = SimpleNamespace(slice_of_batch=lambda *place: None, weight_of_slice=lambda *place: next(weights))
    budget = SimpleNamespace(steps_per_epoch=10)
    doing, refusals = Doing(), SimpleNamespace(look=lambda **options: None)
    steps = asynchronous_steps.AsynchronousSteps(
        pipeline, loader, budget, lambda step: 0.1, 1, lambda *told: shown.append(told), doing, refusals, lambda: False
    )
    assert steps.run(100, 101) == 101
    assert shown == [(101, 1.0, 1.0)], "its first slice, after a second"
    assert doing.text() == "step 101"
    steps.run(101, 102)
    assert shown[1] == (102, 1.0, 1.0), "three slices in two seconds of the first stretch and one of this"
    steps.run(102, 103)
    steps.run(103, 104)
    assert [told[:2] for told in shown[2:]] == [(104, 0.5)], (
        "of a ragged batch the mean of the slice's own rows, if any"
    )


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


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(0, 12), st.integers(1, 4))
def test_a_stop_ends_with_a_whole_batch(order, asked_after, in_batch):
    """Three replicas that ask in any order; from some moment on somebody asks for a stop, once or again and again."""
    store, stop = dist.HashStore(), 6 * in_batch
    is_asked = False
    turns = [Turns(store, None, 0, in_batch=in_batch, is_asked=lambda: is_asked) for _ in range(3)]
    asking = [own.between(0, stop) for own in turns]
    taken = []
    for number, replica in enumerate(order):
        is_asked = number >= asked_after
        taken.append(next(asking[replica], None))
    is_asked = True
    taken += [slice_index for own in asking for slice_index in own]
    (end,) = {own.stopped_at for own in turns}
    assert end % in_batch == 0 and in_batch <= end <= stop
    assert sorted(index for index in taken if index is not None) == list(range(end))
    taken_before = min(asked_after, len(order))
    assert end <= max(in_batch, -(-taken_before // in_batch) * in_batch)


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(7.46, "7.5x fewer than a"), (1.04, "as many as a"), (0.97, "as many as a"), (0.8, "1.2x as many as a")],
)
def test_more_bytes_are_not_said_to_be_fewer(ratio, said):
    report = ExchangeReport("backend", "synchronous", "none", 1, 100.0, 1.0, 0.1, 0.1, {}, 0, 100.0 * ratio)
    assert f" sent per exchange and replica, {said} plain ring" in report.lines()["exchange"]


@pytest.mark.parametrize(
    ("busy_seconds", "said"),
    [(0.4, "400 ms, of which 100 ms waited for: 75% hidden behind computation"), (0.0, "not known, 100 ms waited for")],
    ids=["gloo", "NCCL"],
)
def test_a_time_that_nobody_knows_is_not_said_to_be_hidden(busy_seconds, said):
    report = ExchangeReport("backend", "synchronous", "none", 1, 1.0, 1.0, busy_seconds, 0.1, {}, 0, 1.0)
    assert report.lines()["exchange time"] == said


def test_a_meter_adds_up(monkeypatch):
    now = iter([1.0, 3.0, 10.0, 10.5])
    monkeypatch.setattr("pipemlp.gradients.meter.time.perf_counter", lambda: next(now))
    meter = Meter()
    with meter.busy():
        pass
    with pytest.raises(ValueError), meter.waiting():
        raise ValueError
    assert (meter.busy_seconds, meter.waited_seconds) == (2.0, 0.5)
