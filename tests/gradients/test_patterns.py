"""Every pattern: its drawing, the sum of any vector over any number of replicas, equal bits, lost replicas."""

import re
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pattern_bodies import exchanged, summed, with_a_replica_that_dies, with_a_replica_that_stops
from ranks import RankPool
from thread_links import ThreadLinks, World

from pipemlp.gradients import fully_connected, ring, tree
from pipemlp.gradients.fully_connected import FullyConnected
from pipemlp.gradients.parts import cut, part_of
from pipemlp.gradients.ring import Ring
from pipemlp.gradients.tree import Tree

OURS = {"ring": Ring, "tree": Tree, "fully-connected": FullyConnected}
FILES = {"ring": ring, "tree": tree, "fully-connected": fully_connected}
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-14, torch.bfloat16: 0.15}


def messages(pattern: type, num_replicas: int, num_values: int) -> list[list[tuple[int, str]]]:
    """What each replica sends, in order: to whom, and which values, as letters."""

    def body(links: ThreadLinks) -> list[tuple[int, str]]:
        pattern(links).sum(torch.ones(num_values))
        letters = "abcdefgh"[:num_values]
        return [(to, letters[v.storage_offset() :][: len(v)]) for to, v in links.sent]

    return World(num_replicas).run(body)


def test_the_ring_is_as_drawn():
    rows = re.findall(r"^ +\d of 6 +(\w) +(\w) +(\w) +(\w)  ", ring.__doc__, re.MULTILINE)
    assert len(rows) == 6
    for replica, sent in enumerate(messages(Ring, 4, 4)):
        assert sent == [((replica + 1) % 4, row[replica]) for row in rows]


@pytest.mark.parametrize("num_replicas", [2, 3, 4])
def test_the_ring_is_ready_for_all_that_comes_before_it_waits(num_replicas):
    """Gloo sends what the other end is ready for, and hears of that behind all that is on its way to here."""
    posted = defaultdict(list)

    def body(links: ThreadLinks) -> None:
        wait, receive = links.wait, links.receive
        links.wait = lambda *message: posted[links.rank].append("wait") or wait(*message)
        links.receive = lambda *message: posted[links.rank].append("receive") or receive(*message)
        Ring(links).sum(torch.ones(8))

    World(num_replicas).run(body)
    num_messages = 2 * (num_replicas - 1)
    assert all(done[: num_messages + 1] == ["receive"] * num_messages + ["wait"] for done in posted.values())


def test_the_tree_is_as_drawn():
    drawn = [(int(a), int(b)) for a, b in re.findall(r"(\d) ► (\d)", tree.__doc__)]
    assert len(drawn) == 2 * 6
    for replica, sent in enumerate(messages(Tree, 7, 2)):
        assert sent == [(b, "ab") for a, b in drawn if a == replica]


def test_fully_connected_is_as_drawn():
    rows = re.findall(r"from \d +(.) +(.) +(.) +(.) +(.) +(.) +(.) +(.)$", fully_connected.__doc__, re.MULTILINE)
    assert len(rows) == 4
    for replica, sent in enumerate(messages(FullyConnected, 4, 4)):
        for cells, of_step in ((rows[replica][:4], sent[:3]), (rows[replica][4:], sent[3:])):
            assert sorted(of_step) == [(to, letter) for to, letter in enumerate(cells) if letter != "."]


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("name", OURS)
@given(st.integers(1, 11), st.integers(0, 60), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_any_number_of_replicas_values_and_segments(name, early, num_replicas, num_values, segment_values):
    """Whole numbers, which add up exactly."""

    def body(links: ThreadLinks) -> torch.Tensor:
        values = torch.arange(num_values, dtype=torch.float64) + 100 * links.rank
        pattern = OURS[name](links)
        pattern.sum(values)
        pattern.sum(values)
        return values

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FILES[name], "SEGMENT_BYTES", 8 * segment_values)
        results = World(num_replicas, early).run(body)
    once = num_replicas * torch.arange(num_values, dtype=torch.float64) + 50 * num_replicas * (num_replicas - 1)
    for values in results:
        assert torch.equal(values, once * num_replicas)


@given(st.integers(1, 9), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_gather_hands_out_the_own_parts(num_replicas, num_values):
    def body(links: ThreadLinks) -> torch.Tensor:
        values = torch.full((num_values,), -1.0)
        own = part_of(num_values, num_replicas, links.rank)
        values[own] = torch.arange(num_values)[own].float()
        FullyConnected(links).gather(values, "test")
        return values

    for values in World(num_replicas).run(body):
        assert torch.equal(values, torch.arange(num_values).float())


@given(st.integers(0, 200), st.integers(1, 30))
def test_parts_are_in_order_and_as_equal_as_can_be(num_values, num_parts):
    pieces = cut(torch.arange(num_values), num_parts)
    assert torch.equal(torch.cat(pieces), torch.arange(num_values))
    sizes = [len(piece) for piece in pieces]
    assert len(sizes) == num_parts and max(sizes) - min(sizes) <= 1 and sizes[-1] == max(sizes)


@pytest.mark.parametrize("ranks", [(0,), (1, 3), (1, 2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("name", ["backend", *OURS])
def test_it_is_the_sum_of_the_backend_and_the_same_bits_everywhere(name, ranks, run_on_ranks):
    num_replicas = len(ranks)
    for num_values, dtype in (
        (0, torch.float32),
        (num_replicas - 1, torch.float64),
        (1000, torch.bfloat16),
        (1_000_001, torch.float32),
    ):
        found = [result for result in run_on_ranks(4, summed, name, ranks, num_values, dtype) if result]
        again = [result for result in run_on_ranks(4, summed, name, ranks, num_values, dtype) if result]
        assert len(found) == num_replicas
        assert len({result.digest for result in found + again}) == 1
        assert max(result.error for result in found) <= ROUNDING[dtype]
        sent = sum(result.bytes_sent for result in found)
        assert sent == pytest.approx(2 * (num_replicas - 1) * num_values * dtype.itemsize, abs=num_replicas)


def test_messages_may_go_as_one(run_on_ranks):
    """As they do on NCCL; here over gloo."""
    for num_values in (3, 1000):
        plain, batched = (run_on_ranks(4, exchanged, num_values, as_one) for as_one in (False, True))
        assert plain == batched


@pytest.mark.parametrize(
    ("name", "num_sends", "moment"),
    [
        ("ring", 0, "ring, step 1 of 2"),
        ("ring", 1, "ring, step 2 of 2"),
        ("tree", 0, "tree, step 1 of 2"),
        ("fully-connected", 0, "fully-connected, step 1 of 2"),
        ("fully-connected", 1, "fully-connected, step 2 of 2"),
    ],
)
def test_who_waits_in_vain_says_for_whom_and_when(name, num_sends, moment):
    pool = RankPool(2, timeout_seconds=1.0)
    try:
        answers = pool.run(with_a_replica_that_stops, name, num_sends)
    finally:
        pool.close()
    assert answers == [f"{moment}: replica 1 left or stopped answering", "stopped"]


@pytest.mark.parametrize(("name", "num_sends"), [("backend", None), ("ring", 1), ("tree", 0), ("fully-connected", 2)])
def test_a_replica_that_dies_is_named_at_once(name, num_sends):
    """Long before the group's minute. Whoever notices ends, so that those notice who waited for it."""
    pool = RankPool(3)
    try:
        answers = answers_of_those_left(pool, with_a_replica_that_dies, name, num_sends)
    finally:
        pool.close()
    assert answers.pop(1) is None
    if name == "backend":
        assert answers == ["all-reduce of the backend: a replica left or stopped answering"] * 2
    else:
        said = [re.fullmatch(rf"{name}, step \d of \d: replica (\d) left or stopped answering", a) for a in answers]
        assert all(said), answers
        assert "1" in [match[1] for match in said]


def answers_of_those_left(pool: RankPool, body, *arguments: object) -> list[str | None]:
    """In rank order; None for a rank that ended."""
    answers: list[str | None] = []
    for connection in pool._connections:
        connection.send((body, arguments))
    for connection in pool._connections:
        assert connection.poll(30), "it waits in vain"
        try:
            succeeded, answer = connection.recv()
        except EOFError:
            answers.append(None)
        else:
            assert succeeded, answer
            answers.append(answer)
    return answers
