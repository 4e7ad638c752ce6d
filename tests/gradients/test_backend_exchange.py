"""The backend's own all-reduce of buckets: its sums, and what is said when it fails."""

from concurrent.futures import Future

import pytest
import torch
from pattern_bodies import backend_exchanged

from pipemlp.gradients import exchange
from pipemlp.gradients.bucket import Bucket
from pipemlp.gradients.links import ExchangeError
from pipemlp.gradients.meter import Meter


def test_it_sums_every_bucket_and_counts(run_on_ranks):
    for values, meter in run_on_ranks(2, backend_exchanged):
        assert torch.equal(values, 3 * torch.arange(10.0)), "1 x on replica 0, 2 x on replica 1"
        assert (meter.num_steps, meter.plain_bytes, meter.bytes_sent) == (1, 40, 40)
        ticks = int(meter.busy_seconds), int(meter.waited_seconds)
        assert min(ticks) >= 1, "it was on its way, and waited for, however short that was"


class Work:
    """An all-reduce whose peer has gone."""

    def wait(self) -> None:
        raise RuntimeError("Connection closed by peer")

    def get_future(self) -> "Work":
        return self

    def add_done_callback(self, callback: object) -> Future:
        return Future()


def refused(*arguments: object, **keys: object) -> None:
    raise RuntimeError("Connection closed by peer")


@pytest.mark.parametrize("all_reduce", [refused, lambda *arguments, **keys: Work()], ids=["at the start", "later"])
def test_a_replica_that_left_ends_it_as_it_does_the_other_patterns(all_reduce, monkeypatch):
    monkeypatch.setattr(exchange.dist, "get_world_size", lambda group: 2)
    monkeypatch.setattr(exchange.dist, "all_reduce", all_reduce)
    values = torch.zeros(4)
    own = exchange.BackendExchange([Bucket(values, (values,))], None, Meter())
    with pytest.raises(ExchangeError, match="^all-reduce of the backend: a replica left or stopped answering$"):
        own.start(0)
        own.finish()
