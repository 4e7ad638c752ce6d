"""Fully connected: everyone sends to everyone, directly; two steps, whatever the number of replicas.

    four replicas, a vector of the parts a b c d; replica 0 owns a, 1 owns b, ...

              step 1 of 2, every part to its owner     step 2 of 2, its sum to all
      to      0  1  2  3                               0  1  2  3
    from 0    .  b  c  d                               .  a  a  a
    from 1    a  .  c  d                               b  .  b  b
    from 2    a  b  .  d                               c  c  .  c
    from 3    a  b  c  .                               d  d  d  .

A part goes in segments: while the owner adds one, the next arrives, and the one before goes out. An owner adds in the
order of the replicas, and the others copy what it has: all have the same bits. (Thakur, Rabenseifner and Gropp 2005
have such direct exchanges for reduce-scatter.)
"""

from collections import deque

import torch
from torch import Tensor

from pipemlp.gradients.links import Links, Posted
from pipemlp.gradients.parts import cut, num_segments
from pipemlp.planning.sums import DIRECT_SEGMENTS

SEGMENT_BYTES, NUM_AHEAD = DIRECT_SEGMENTS.num_bytes, DIRECT_SEGMENTS.num_ahead


class FullyConnected:
    """Sums by direct messages between all replicas."""

    def __init__(self, links: Links) -> None:
        self._links = links
        # each begins with the one after it, so that not all send to the same one at once
        self._others = [(links.rank + step) % links.num_replicas for step in range(1, links.num_replicas)]

    def sum(self, values: Tensor) -> None:
        """See `Pattern.sum`."""
        if not self._others:
            return
        turns, rank = self._turns(values), self._links.rank
        size, num_ahead = max(1, len(turns[-1][-1])), min(NUM_AHEAD, len(turns))
        rooms = self._links.room(num_ahead * len(turns[0]) * size, values).split(size)
        arrivals = [
            [
                rooms[turn % num_ahead * len(segments) + replica][: len(segments[rank])]
                for replica in range(len(segments))
            ]
            for turn, segments in enumerate(turns)
        ]
        ahead = deque(map(self._collect, turns[:num_ahead], arrivals))
        handed_out = []
        for turn, segments in enumerate(turns):
            self._settle(ahead.popleft(), "fully-connected, step 1 of 2")
            self._add(segments[rank], arrivals[turn])
            handed_out.append(self._hand_out(segments))
            ahead.extend(map(self._collect, turns[turn + num_ahead :][:1], arrivals[turn + num_ahead :]))
        for posted in handed_out:
            self._settle(posted, "fully-connected, step 2 of 2")

    def gather(self, values: Tensor, moment: str) -> None:
        """Give every replica's own part to all others.

        Args:
            values: 1-D, contiguous, of any type; the own part is sent, all others are overwritten.
            moment: what goes on, for messages.

        Raises:
            ExchangeError: if a replica is gone or does not answer.
        """
        handed_out = [self._hand_out(segments) for segments in self._turns(values)]
        for posted in handed_out:
            self._settle(posted, moment)

    def _turns(self, values: Tensor) -> list[list[Tensor]]:
        """The segments that are exchanged at a time, one for each replica; each replica has as many, some empty."""
        parts = cut(values, self._links.num_replicas)
        num_turns = num_segments(parts[-1].nbytes, SEGMENT_BYTES)
        return list(map(list, zip(*(cut(part, num_turns) for part in parts), strict=True)))

    def _collect(self, segments: list[Tensor], arrivals: list[Tensor]) -> list[Posted]:
        """Send everyone's segment to its owner, and receive those for this one."""
        receives = [(arrivals[replica], replica) for replica in self._others]
        return self._links.exchange(receives, [(segments[replica], replica) for replica in self._others])

    def _hand_out(self, segments: list[Tensor]) -> list[Posted]:
        """Send the own segment to all, and take theirs.

        Theirs may arrive where a send was not waited for: they were made from what that brought.
        """
        receives = [(segments[replica], replica) for replica in self._others]
        return self._links.exchange(receives, [(segments[self._links.rank], replica) for replica in self._others])

    def _add(self, own: Tensor, arrivals: list[Tensor]) -> None:
        """Add what the others sent to the own, in the order of the replicas."""
        terms = [*arrivals[: self._links.rank], own, *arrivals[self._links.rank + 1 :]]
        for term in terms[1:-1]:
            terms[0].add_(term)
        torch.add(terms[0], terms[-1], out=own)

    def _settle(self, posted: list[Posted], moment: str) -> None:
        for work, replica in posted:
            self._links.wait(work, replica, moment)
