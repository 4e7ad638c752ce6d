"""The ring: partial sums go once around it, then sums do; every link carries as much, at the same time.

    four replicas, a vector of the parts a b c d; what each sends to the next in each step

    step     0 ► 1   1 ► 2   2 ► 3   3 ► 0
    1 of 6     a       b       c       d     added to what the next one has
    2 of 6     d       a       b       c     added
    3 of 6     c       d       a       b     added: now 0 1 2 3 have the sums of b c d a
    4 of 6     b       c       d       a     taken for what the next one has
    5 of 6     a       b       c       d     taken
    6 of 6     d       a       b       c     taken

What arrives in a step is what goes on in the next. A part goes in segments: the next segment arrives while one is
added, and goes on before its part is complete. Each part is added up in one place, in the order of the ring, and
copied from there: all replicas have the same bits. (Patarasuk and Yuan 2009.)
"""

from collections import deque

from torch import Tensor

from pipemlp.gradients.links import Links
from pipemlp.gradients.parts import cut, num_segments
from pipemlp.planning.sums import RING_SEGMENTS

SEGMENT_BYTES, NUM_AHEAD = RING_SEGMENTS.num_bytes, RING_SEGMENTS.num_ahead


class Ring:
    """Sums around a ring of all replicas."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._num_steps = 2 * (links.num_replicas - 1)
        self._next = (links.rank + 1) % links.num_replicas
        self._previous = (links.rank - 1) % links.num_replicas
        self._moments = [f"ring, step {step + 1} of {self._num_steps}" for step in range(self._num_steps)]

    def sum(self, values: Tensor) -> None:
        """See `Pattern.sum`."""
        links, num_parts = self._links, self._links.num_replicas
        if num_parts == 1 or not values.numel():
            return
        in_step = num_segments(values.nbytes // num_parts, SEGMENT_BYTES)
        pieces = cut(values, num_parts * in_step)
        # own part first, then down the alphabet; a message is received at the place that it goes on from a step later
        places = [
            pieces[(links.rank - step) % num_parts * in_step + segment]
            for step in range(self._num_steps + 1)
            for segment in range(in_step)
        ]
        self._go_around(places, in_step, len(pieces[-1]))

    def _go_around(self, places: list[Tensor], in_step: int, size: int) -> None:
        """Send places[n] as message n; what arrives as n is added, later put, to places[n + in_step]."""
        links, num_messages = self._links, self._num_steps * in_step
        num_added, ahead = num_messages // 2, min(NUM_AHEAD, num_messages)
        rooms = links.room(min(ahead, num_added) * size, places[0]).split(size)
        # Sums may arrive in places from which a send was not waited for: they were made from what it brought.
        arrivals = [
            rooms[n % len(rooms)][: len(place)] if n < num_added else place for n, place in enumerate(places[in_step:])
        ]
        receiving = deque(links.receive(arrival, self._previous) for arrival in arrivals[:ahead])
        sending = deque(links.send(place, self._next) for place in places[:in_step])
        for n in range(num_messages):
            moment = self._moments[n // in_step]
            links.wait(receiving.popleft(), self._previous, moment)
            if n < num_added:
                places[n + in_step].add_(arrivals[n])
            if n + in_step < num_messages:
                sending.append(links.send(places[n + in_step], self._next))
            if n + ahead < num_messages:
                receiving.append(links.receive(arrivals[n + ahead], self._previous))
            links.wait(sending.popleft(), self._next, moment)
