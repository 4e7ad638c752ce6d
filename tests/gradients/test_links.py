"""Swapped messages: everybody gets what is for it, and large ones go in the rounds that are drawn."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thread_links import ThreadLinks, World

from pipemlp.gradients import links as links_file
from pipemlp.gradients.links import Links


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("paced_bytes", [0, 20, 10_000])
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_everybody_gets_what_is_for_it(early, paced_bytes, sizes):
    """Messages for replica n have sizes[n] values; some replicas go in rounds and others not, which must not matter."""

    def body(links: ThreadLinks) -> list[list[float]]:
        outgoing = [torch.full((size,), 10.0 * links.rank + to) for to, size in enumerate(sizes)]
        incoming = [torch.full((sizes[links.rank],), -1.0) for _ in sizes]
        incoming[links.rank] = outgoing[links.rank]
        links.swap(outgoing, incoming, "test")
        return [each.tolist() for each in incoming]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(links_file, "PACED_BYTES", paced_bytes)
        found = World(len(sizes), early).run(body)
    for own, arrived in enumerate(found):
        assert arrived == [[10.0 * other + own] * sizes[own] for other in range(len(sizes))]


def test_large_messages_go_as_drawn():
    rounds = [re.findall(r"(\d)►(\d)", part) for part in re.split(r"round \d", Links.swap.__doc__)[1:]]
    assert [len(each) for each in rounds] == [4, 4, 4]

    def body(links: ThreadLinks) -> list[list[str]]:
        sent_before_waits, wait = [], links.wait

        def noting(*message: object) -> None:
            sent_before_waits.append([f"{links.rank}►{to}" for to, _ in links.sent])
            wait(*message)

        links.wait = noting
        numbers = torch.zeros(links_file.PACED_BYTES // 4)
        links.swap([numbers] * 4, [torch.empty_like(numbers) for _ in range(4)], "test")
        return sent_before_waits

    for replica, found in enumerate(World(4).run(body)):
        own = [f"{a}►{b}" for each in rounds for a, b in each if int(a) == replica]
        assert found == [own[:1], own[:1], own[:2], own[:2], own, own]
