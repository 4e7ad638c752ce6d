"""Sums over replicas that are processes: bodies that run on ranks."""

import hashlib
import itertools
import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from unittest import mock

import torch
import torch.distributed as dist

from pipemlp.gradients import fully_connected, ring, tree
from pipemlp.gradients.bucket import Bucket
from pipemlp.gradients.exchange import BackendExchange
from pipemlp.gradients.links import ExchangeError, Links
from pipemlp.gradients.meter import Meter
from pipemlp.gradients.pattern import make_pattern


@dataclass
class Summed:
    """What a replica has after a sum: a digest of its bits, how far it is from the backend's, and what it sent."""

    digest: str
    error: float
    bytes_sent: int


@lru_cache
def links_of(ranks: tuple[int, ...]) -> Links | None:
    group = dist.new_group(list(ranks))
    return Links(group) if dist.get_rank() in ranks else None


def summed(name: str, ranks: tuple[int, ...], num_values: int, dtype: torch.dtype) -> Summed | None:
    """Body: the sum over some ranks; the others have no part in it."""
    links = links_of(ranks)
    if links is None:
        return None
    values = torch.randn(num_values, generator=torch.Generator().manual_seed(links.rank)).to(dtype)
    expected = values.clone()
    dist.all_reduce(expected, group=links.group)
    before = links.bytes_sent
    with ExitStack() as stack:
        for file in (ring, tree, fully_connected):
            stack.enter_context(mock.patch.object(file, "SEGMENT_BYTES", 2**16))
        make_pattern(name, links).sum(values)
    error = (values - expected).abs().max().item() if num_values else 0.0
    digest = hashlib.sha256(values.view(torch.uint8).numpy().tobytes()).hexdigest()
    return Summed(digest, error, links.bytes_sent - before)


def exchanged(num_values: int, as_one: bool) -> tuple[list[float], int]:
    """Body: a sum by everyone's direct messages, one by one or a batch at a time."""
    links = Links(links_of((0, 1, 2, 3)).group)
    links._sends_as_one = as_one
    values = torch.randn(num_values, generator=torch.Generator().manual_seed(links.rank))
    make_pattern("fully-connected", links).sum(values)
    return values.tolist(), links.bytes_sent


def with_a_replica_that_stops(name: str, num_sends: int) -> str:
    """Body: replica 1 does nothing more after so many sends have gone; what the others say of it."""
    links = Links(dist.group.WORLD)
    if links.rank == 1:
        _after(links, num_sends, _stop)
    return _sum(name, links)


def with_a_replica_that_dies(name: str, num_sends: int | None) -> str:
    """Body: as above, but its process ends (None: before all), and so do those that notice, a little later."""
    links = Links(dist.group.WORLD)
    if links.rank == 1 and num_sends is None:
        os._exit(1)
    if links.rank == 1:
        _after(links, num_sends, lambda: os._exit(1))
    answer = _sum(name, links)
    threading.Timer(1.0, os._exit, (0,)).start()
    return answer


def _sum(name: str, links: Links) -> str:
    try:
        make_pattern(name, links).sum(torch.ones(1000))
    except (ExchangeError, _StoppedError) as error:
        return str(error)
    return "nothing happened"


def _after(links: Links, num_sends: int, end) -> None:
    send, sent = links.send, []

    def counted(values, replica):
        if len(sent) == num_sends:
            time.sleep(0.3)  # what was sent goes out
            end()
        sent.append(replica)
        return send(values, replica)

    links.send = counted


class _StoppedError(Exception):
    pass


def _stop() -> None:
    raise _StoppedError("stopped")


def backend_exchanged() -> tuple[torch.Tensor, Meter]:
    """Body: two buckets by the backend's exchange; what is there afterwards, and what it cost.

    The clock ticks once whenever it is read, so that what is counted does not depend on how fast anything is.
    """
    ticks = itertools.count()
    with mock.patch("time.perf_counter", lambda: float(next(ticks))):
        return _backend_exchanged()


def _backend_exchanged() -> tuple[torch.Tensor, Meter]:
    values, meter = (dist.get_rank() + 1) * torch.arange(10.0), Meter()
    buckets = [Bucket(part, (part,)) for part in values.split([4, 6])]
    exchange = BackendExchange(buckets, dist.new_group(), meter)
    for index in (1, 0):
        exchange.start(index)
    exchange.finish()
    return values, meter
