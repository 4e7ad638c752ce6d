"""Ranks that are at different steps stop after the same one; a rank that falls silent is named by the others."""

import re
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from pipemlp.training import doing as doing_module
from pipemlp.training import heartbeats
from pipemlp.training.beat import Beat
from pipemlp.training.doing import Doing
from pipemlp.training.heartbeats import Heartbeats
from pipemlp.training.stopping import Stopping


@pytest.mark.parametrize("asking", [0, 2])
def test_all_stop_after_the_farthest(asking):
    store = dist.HashStore()
    ranks = [Stopping(store, rank, 3) for rank in range(3)]
    done = [0, 0, 0]

    def train(rank):
        for step in range(10_000):
            if ranks[rank].stops_before(step):
                return
            if step % 50 == 0 and not ranks[rank]._asked:
                time.sleep(0.002 * rank)  # never at the same place
            done[rank] = step + 1
            if rank == asking and step == 123:
                ranks[rank].ask(15)
            time.sleep(0.0005)

    threads = [threading.Thread(target=train, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(set(done)) == 1 and 124 <= done[0] < 10_000
    assert [rank.signum for rank in ranks] == [15] * 3


def test_a_step_that_needs_the_others_is_followed():
    """Rank 0 is in a step that ends only when rank 1 has begun it too."""
    store = dist.HashStore()
    ranks, reached = [Stopping(store, rank, 2) for rank in range(2)], [0, 0]
    both = threading.Barrier(2, timeout=20)

    def train(rank):
        for step in range(1000):
            if ranks[rank].stops_before(step):
                return
            if rank == 0 and step == 20:
                ranks[1].ask(10)
                time.sleep(0.5)  # the others hear while this one is inside
            both.wait()
            reached[rank] = step + 1

    threads = [threading.Thread(target=train, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert reached == [21, 21]


def test_the_signal_is_known_to_who_has_not_heard_yet(monkeypatch):
    monkeypatch.setattr(Stopping, "_listen", lambda self: None)
    store = dist.HashStore()
    one, other = (Stopping(store, rank, 2) for rank in range(2))
    one.ask(2)
    assert not other.is_asked and other.signum == 2


def test_nobody_stops_who_was_not_asked():
    ranks = [Stopping(dist.HashStore(), 0, 1)]
    assert not any(ranks[0].stops_before(step) for step in range(100))
    ranks[0].end()


class Silent:
    """A store in which one rank's beats no longer arrive."""

    def __init__(self, store, key):
        self._store, self._key = store, key

    def set(self, key, value):
        if not key.endswith(self._key):
            self._store.set(key, value)

    def check(self, keys):
        return self._store.check(keys)

    def get(self, key):
        return self._store.get(key)


def test_a_silent_rank_is_named_by_all_others():
    store, lost = dist.HashStore(), {}
    doing = [Doing(f"step {7 + rank}") for rank in range(4)]
    doing[3].finer = lambda: "action 1F0"
    beats = {}
    for rank in range(4):
        beats[rank] = Heartbeats(
            store, rank, 4, doing[rank], 1.0, lambda message, rank=rank: lost.setdefault(rank, message)
        )
        beats[rank].num_replicas = 2
    time.sleep(0.3)
    beats[3].end()  # as if it were stopped
    deadline = time.monotonic() + 20
    while len(lost) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(lost) == {0, 1, 2}
    for message in lost.values():
        assert message.startswith("rank 3 (stage 1) has not been heard of for ")
        assert message.endswith("last: step 10, action 1F0; see logs/rank-3.log")


def test_where_the_beats_are_kept_may_be_lost_too():
    class Hanging(Silent):
        def check(self, keys):
            time.sleep(60)
            return False

    lost = []
    beats = Heartbeats(Hanging(dist.HashStore(), "-"), 1, 2, Doing(), 0.5, lost.append)
    deadline = time.monotonic() + 20
    while not lost and time.monotonic() < deadline:
        time.sleep(0.05)
    assert lost and lost[0].startswith("rank 0 has not been heard of")
    beats.end()


def test_who_lives_is_not_lost():
    store, lost = dist.HashStore(), []
    beats = [Heartbeats(store, rank, 2, Doing(), 4.0, lost.append) for rank in range(2)]
    time.sleep(3.0)  # longer than the silence that is allowed
    for each in beats:
        each.end()
    assert lost == []


def test_rank_0_is_followed_by_all_others():
    """Where somebody else keeps the beats, as torchrun's agent does, answers come though rank 0 is stopped."""
    store, lost = dist.HashStore(), {}
    doing = [Doing(f"step {7 + rank}") for rank in range(3)]
    beats = [
        Heartbeats(store, rank, 3, doing[rank], 1.0, lambda message, rank=rank: lost.setdefault(rank, message))
        for rank in range(3)
    ]
    time.sleep(0.3)
    beats[0].end()  # as if it were stopped
    deadline = time.monotonic() + 20
    while len(lost) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(lost) == {1, 2}
    for message in lost.values():
        assert message.startswith("rank 0 has not been heard of for ")
        assert message.endswith("last: step 7; see logs/rank-0.log")


def test_who_has_not_begun_to_beat_is_not_missed():
    """A rank that is still starting up: its clock begins with its first beat."""
    lost = []
    beats = Heartbeats(dist.HashStore(), 0, 2, Doing(), 0.5, lost.append)
    time.sleep(1.5)  # longer than the silence that is allowed
    beats.end()
    assert lost == []


def test_who_was_suspended_judges_nobody(monkeypatch):
    """The machine sleeps for a while: the first to wake up sees an old beat of the other, and an old answer."""
    slept = [0.0]
    monkeypatch.setattr(heartbeats, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + slept[0]))
    store, lost = dist.HashStore(), []
    both = [Heartbeats(store, rank, 2, Doing(), 4.0, lost.append) for rank in range(2)]
    time.sleep(0.5)
    both[1].end()  # so that its beat stays as it was before
    time.sleep(0.8)  # until that was looked at
    slept[0] = 1000.0
    time.sleep(1.0)  # shorter than the silence that is allowed once awake
    both[0].end()
    assert lost == []


def until(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def test_a_disk_that_does_not_answer_is_named_and_ends_the_run(monkeypatch):
    """The rank lives and beats, and its thread that saves is at one thing for ever."""
    slept = [0.0]
    monkeypatch.setattr(doing_module, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + slept[0]))
    store, lost, said = dist.HashStore(), {}, []
    doing = [Doing("step 9"), Doing("step 9")]
    beats = [
        Heartbeats(store, rank, 2, doing[rank], 2.0, lambda message, rank=rank: lost.setdefault(rank, message))
        for rank in range(2)
    ]
    beats[0].note = said.append
    doing[1].saving("checkpoint 8: flushing layer-00003.safetensors")
    slept[0] = 1.0
    until(lambda: said)
    slept[0] = 500.0  # slow it may be
    time.sleep(1.0)
    assert len(said) == 1 and lost == {}
    assert re.match(
        r"warning: rank 1 has waited \d s for its disk: step 9, checkpoint 8: flushing layer-00003", said[0]
    )
    slept[0] = 610.0
    until(lambda: len(lost) == 2)
    for message in lost.values():
        assert re.match(r"rank 1 has waited 6\d\d s for its disk; last: step 9, checkpoint 8: flushing layer-", message)


def test_who_waits_for_others_to_save_is_not_slow():
    doing = Doing("step 9")
    doing.saving("checkpoint 8: writing layer-00003.safetensors")
    assert doing.saving_seconds() > 0
    doing.saving("")
    assert doing.saving_seconds() == 0 and doing.text() == "step 9"


def test_who_was_suspended_while_it_saved_has_a_disk_that_answers(monkeypatch):
    slept = [0.0]
    for module in (doing_module, heartbeats):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + slept[0]))
    lost, said, doing = [], [], Doing("step 9")
    beats = Heartbeats(dist.HashStore(), 0, 1, doing, 20.0, lost.append)
    beats.note = said.append
    doing.saving("checkpoint 8: flushing layer-00003.safetensors")
    time.sleep(0.3)
    slept[0] = 5000.0
    time.sleep(3.0)  # until it has woken up, and less than is slow
    beats.end()
    assert (lost, said) == ([], [])


def test_who_has_died_here_is_named_with_what_it_did_last():
    """Its beat is not old yet: its process is gone."""
    store = dist.HashStore()
    beats = Heartbeats(store, 0, 3, Doing(), 60.0, lambda message: None)
    beats.num_replicas = 1
    other = subprocess.Popen(["sleep", "60"])
    store.set("pipemlp/beats /1", Beat(3, "step 7, action 1F0", 0.0, pid=other.pid).to_text())
    store.set("pipemlp/beats /2", Beat(3, "step 7", 0.0, machine="another", pid=2**22 + 1).to_text())
    assert beats.gone() == ""
    other.kill()
    assert beats.gone() == "rank 1 (stage 1) has died; last reported: step 7, action 1F0"
    other.wait()
    assert beats.gone() == "rank 1 (stage 1) has died; last reported: step 7, action 1F0"
    beats.end()


def test_who_has_died_is_told_though_the_store_does_not_answer():
    class Hanging(Silent):
        def check(self, keys):
            time.sleep(60)
            return False

    beats = Heartbeats(Hanging(dist.HashStore(), "-"), 1, 2, Doing(), 600.0, lambda message: None)
    started = time.monotonic()
    assert beats.gone() == "" and time.monotonic() - started < 30
    beats.end()
