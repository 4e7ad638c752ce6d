"""What a link really does: messages of every size that is used, one at a time and all at once, from one to the next."""

import time
from collections.abc import Sequence
from statistics import median

import torch
import torch.distributed as dist
from timed_calls import timed_calls

from pipemlp.gradients.links import Links


def measured_rates(sizes: Sequence[int], num_rounds: int) -> tuple[list[float], float]:
    """Run on every rank: Mbit/s for messages of so many bytes, one at a time; and for the largest, all at once.

    A message is answered by one of four bytes; the least time of such an answer to such a message is taken off. Of all
    at once, the slowest counts: so much the links carry, whatever the pattern. The same on every rank.
    """
    links = Links(dist.new_group())
    empty = min(_round_trips(links, 4, 40))
    rates = [8e-6 * size / max(1e-9, median(_round_trips(links, size, num_rounds)) - empty) for size in sizes]
    at_once = timed_calls({"": _Shift(links, sizes[-1])}, num_rounds)[""]
    shared = torch.tensor([*rates, 8e-6 * sizes[-1] / median(at_once)])
    dist.broadcast(shared, 0)
    *one_at_a_time, together = shared.tolist()
    return one_at_a_time, together


class _Shift:
    """Every replica sends to the next one."""

    def __init__(self, links: Links, size: int) -> None:
        self._links = links
        self._message, self._arrival = torch.zeros(2, size, dtype=torch.uint8)

    def __call__(self) -> None:
        links, after = self._links, (self._links.rank + 1) % self._links.num_replicas
        before = (links.rank - 1) % links.num_replicas
        arrival = links.receive(self._arrival, before)
        links.wait(links.send(self._message, after), after, "message")
        links.wait(arrival, before, "message")


def _round_trips(links: Links, size: int, num_rounds: int) -> list[float]:
    """The seconds of a message and its answer, on the first two ranks; of the others, nothing."""
    message, answer = torch.zeros(size, dtype=torch.uint8), torch.zeros(4, dtype=torch.uint8)
    seconds = []
    for _ in range(1 + num_rounds):
        dist.barrier()
        started = time.perf_counter()
        if links.rank == 0:
            arrival = links.receive(answer, 1)
            links.wait(links.send(message, 1), 1, "message")
            links.wait(arrival, 1, "answer")
        elif links.rank == 1:
            links.wait(links.receive(message, 0), 0, "message")
            links.wait(links.send(answer, 0), 0, "answer")
        seconds.append(time.perf_counter() - started)
    return seconds[1:]
