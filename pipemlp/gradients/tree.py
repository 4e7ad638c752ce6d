"""The tree: sums go up a binomial tree, the whole sum comes down; the fewest steps for small vectors.

    seven replicas; each adds what its children send, in this order, and sends the sum to its parent; then back

    step 1   1 ► 0   3 ► 2   5 ► 4
    step 2   2 ► 0   6 ► 4
    step 3   4 ► 0
    step 4   0 ► 4
    step 5   0 ► 2   4 ► 6
    step 6   0 ► 1   2 ► 3   4 ► 5

A long vector goes in segments: while one is on its way up, those before it come down. The sum is made in one place,
in one order, and copied from there: all replicas have the same bits. (Thakur, Rabenseifner and Gropp 2005.)
"""

from collections import deque
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor

from pipemlp.gradients.links import Links
from pipemlp.gradients.parts import cut, num_segments
from pipemlp.planning.sums import TREE_SEGMENTS

SEGMENT_BYTES, NUM_AHEAD = TREE_SEGMENTS.num_bytes, TREE_SEGMENTS.num_ahead


def children_of(replica: int, num_replicas: int) -> list[int]:
    """Those below it, nearest first: it, with one zero bit below its lowest one set."""
    steps = (1 << bit for bit in range((num_replicas - 1).bit_length()))
    return [replica + step for step in steps if replica % (2 * step) == 0 and replica + step < num_replicas]


def parent_of(replica: int) -> int:
    """The one above it: its lowest one bit cleared. Replica 0 has none."""
    return replica & (replica - 1)


@dataclass(frozen=True)
class _Branch:
    """The link to the replica above or below."""

    replica: int
    moment_up: str
    moment_down: str


class Tree:
    """Sums up and down a binomial tree, with replica 0 at its top."""

    def __init__(self, links: Links) -> None:
        self._links = links
        num_steps = 2 * (links.num_replicas - 1).bit_length()

        def branch(replica: int, lower: int) -> _Branch:
            step = (lower - parent_of(lower)).bit_length()
            up, down = (f"tree, step {number} of {num_steps}" for number in (step, num_steps + 1 - step))
            return _Branch(replica, up, down)

        self._children = [branch(child, child) for child in children_of(links.rank, links.num_replicas)]
        self._parent = branch(parent_of(links.rank), links.rank) if links.rank else None
        # A segment comes back after as many others. They are fewer nearer to the top, or two would wait for each other.
        self._num_behind = 2 * links.rank.bit_count()

    def sum(self, values: Tensor) -> None:
        """See `Pattern.sum`."""
        if self._links.num_replicas == 1 or not values.numel():
            return
        segments = cut(values, num_segments(values.nbytes, SEGMENT_BYTES))
        trip = _Trip(self._links, self._children, self._parent, segments)
        for turn in range(len(segments) + self._num_behind):
            if turn < len(segments):
                trip.go_up(turn)
            if turn >= self._num_behind:
                trip.come_down(turn - self._num_behind)
        trip.finish()


class _Trip:
    """The segments of one vector on their way through one replica."""

    def __init__(self, links: Links, children: list[_Branch], parent: _Branch | None, segments: list[Tensor]) -> None:
        self._links, self._children, self._parent, self._segments = links, children, parent, segments
        self._sending: list[tuple[dist.Work, int, str]] = []
        size = len(segments[-1])
        rooms = links.room(len(children) * NUM_AHEAD * size, segments[0]).split(size)
        # for each child its segments, in turn, and the receives that are posted
        self._arrivals = [
            [rooms[which * NUM_AHEAD + turn % NUM_AHEAD][: len(segment)] for turn, segment in enumerate(segments)]
            for which in range(len(children))
        ]
        self._from_children = [
            deque(links.receive(arrival, child.replica) for arrival in arrivals[:NUM_AHEAD])
            for child, arrivals in zip(children, self._arrivals, strict=True)
        ]
        # The sum may arrive where a send was not waited for: it was made from what that brought.
        self._from_parent = deque([links.receive(segment, parent.replica) for segment in segments] if parent else [])

    def go_up(self, turn: int) -> None:
        """Add what the children send of a segment, and send the sum to the parent."""
        links, segment = self._links, self._segments[turn]
        for child, arrivals, receiving in zip(self._children, self._arrivals, self._from_children, strict=True):
            links.wait(receiving.popleft(), child.replica, child.moment_up)
            segment.add_(arrivals[turn])
            if turn + NUM_AHEAD < len(arrivals):
                receiving.append(links.receive(arrivals[turn + NUM_AHEAD], child.replica))
        if self._parent:
            self._send(segment, self._parent.replica, self._parent.moment_up)

    def come_down(self, turn: int) -> None:
        """Take a segment of the sum from the parent, and send it to the children: first where most are below."""
        segment = self._segments[turn]
        if self._parent:
            self._links.wait(self._from_parent.popleft(), self._parent.replica, self._parent.moment_down)
        for child in reversed(self._children):
            self._send(segment, child.replica, child.moment_down)

    def finish(self) -> None:
        """Wait until everything has gone."""
        for work, replica, moment in self._sending:
            self._links.wait(work, replica, moment)

    def _send(self, segment: Tensor, replica: int, moment: str) -> None:
        self._sending.append((self._links.send(segment, replica), replica, moment))
