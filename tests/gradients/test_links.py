"""Swapped messages: everybody gets what is for it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thread_links import ThreadLinks, World


@pytest.mark.parametrize("early", [False, True])
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_everybody_gets_what_is_for_it(early, sizes):
    """Messages for replica n have sizes[n] values."""

    def body(links: ThreadLinks) -> list[list[float]]:
        outgoing = [torch.full((size,), 10.0 * links.rank + to) for to, size in enumerate(sizes)]
        incoming = [torch.full((sizes[links.rank],), -1.0) for _ in sizes]
        incoming[links.rank] = outgoing[links.rank]
        links.swap(outgoing, incoming, "test")
        return [each.tolist() for each in incoming]

    found = World(len(sizes), early).run(body)
    for own, arrived in enumerate(found):
        assert arrived == [[10.0 * other + own] * sizes[own] for other in range(len(sizes))]
