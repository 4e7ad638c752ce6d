"""What a link really does: messages of every size that is used, one at a time, from one replica to the next."""

import time
from collections.abc import Sequence
from statistics import median

import torch
import torch.distributed as dist

from pipemlp.gradients.links import Links


def measured_rates(sizes: Sequence[int], num_rounds: int) -> list[float]:
    """Run on every rank: Mbit/s from rank 0 to rank 1, for messages of so many bytes; the same on every rank.

    A message is answered by one of four bytes; the least time of such an answer to such a message is taken off.
    """
    links = Links(dist.new_group())
    empty = min(_round_trips(links, 4, 40))
    rates = [8e-6 * size / max(1e-9, median(_round_trips(links, size, num_rounds)) - empty) for size in sizes]
    shared = torch.tensor(rates)
    dist.broadcast(shared, 0)
    return shared.tolist()


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
