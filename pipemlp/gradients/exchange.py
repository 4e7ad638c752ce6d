"""Two ways to exchange buckets while a rank computes: the backend's own, and a thread that runs ours.

    computing    F F F B ......... B ......... B | finish | step
    exchanging             bucket 2   bucket 1     bucket 0

Buckets are exchanged in the order in which they were started; as all replicas run the same schedule, that is the same
order on all of them.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
import torch.distributed as dist

from pipemlp.gradients.backend import MOMENT
from pipemlp.gradients.bucket import Bucket
from pipemlp.gradients.links import lost
from pipemlp.gradients.meter import Meter


class BackendExchange:
    """The backend's asynchronous all-reduce: gloo's thread, or NCCL's stream.

    What it sends is not ours to count: it is taken to be what a ring sends, 2 (n - 1) / n of the bytes.
    """

    def __init__(self, buckets: Sequence[Bucket], group: dist.ProcessGroup, meter: Meter) -> None:
        self._buckets, self._group, self._meter = buckets, group, meter
        num_replicas = dist.get_world_size(group)
        self._share = 2 * (num_replicas - 1) / num_replicas
        self._works: list[dist.Work] = []
        self._ends: list[tuple[float, Future[float]]] = []

    def start(self, index: int) -> None:
        """Start the all-reduce of a bucket.

        Raises:
            ExchangeError: if a replica is gone.
        """
        values = self._buckets[index].values
        try:
            work = dist.all_reduce(values, group=self._group, async_op=True)
        except RuntimeError as error:
            raise lost(None, MOMENT) from error
        self._works.append(work)
        self._meter.plain_bytes += values.nbytes
        self._meter.bytes_sent += self._share * values.nbytes
        if not values.is_cuda:
            started, ended = time.perf_counter(), Future[float]()
            work.get_future().add_done_callback(lambda _: ended.set_result(time.perf_counter()))
            self._ends.append((started, ended))

    def finish(self) -> None:
        """Wait for all of them.

        Raises:
            ExchangeError: if a replica is gone or does not answer.
        """
        with self._meter.waiting():
            for work in self._works:
                try:
                    work.wait()
                except RuntimeError as error:
                    raise lost(None, MOMENT) from error
        self._works.clear()
        self._meter.num_steps += 1
        self._meter.busy_seconds += _covered([(started, ended.result()) for started, ended in self._ends])
        self._ends.clear()


class ThreadedExchange:
    """One thread that exchanges what it is given, by a function that blocks.

    Args:
        exchange: called with the index of a bucket, by the thread.
        buckets: for their sizes, and the device.
        bytes_sent: what was sent so far.
        meter: told what it cost.
    """

    def __init__(
        self,
        exchange: Callable[[int], None],
        buckets: Sequence[Bucket],
        bytes_sent: Callable[[], int],
        meter: Meter,
    ) -> None:
        self._exchange, self._buckets, self._bytes_sent, self._meter = exchange, buckets, bytes_sent, meter
        self._device = buckets[0].values.device if buckets else torch.device("cpu")
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        """Of the thread: on the default one its messages would wait for whatever the computation has queued."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="exchange", initializer=self._use_device)
        self._started: list[Future[None]] = []

    def start(self, index: int) -> None:
        """Have the thread exchange a bucket."""
        ready = torch.cuda.current_stream().record_event() if self._device.type == "cuda" else None
        self._started.append(self._thread.submit(self._run, index, ready))

    def _use_device(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)

    @torch.no_grad()
    def _run(self, index: int, ready: torch.cuda.Event | None) -> None:
        before = self._bytes_sent()
        with self._meter.busy(), torch.cuda.stream(self._stream):
            if self._stream is not None:
                self._stream.wait_event(ready)
            self._exchange(index)
            if self._stream is not None:
                self._stream.synchronize()
        self._meter.bytes_sent += self._bytes_sent() - before
        self._meter.plain_bytes += self._buckets[index].values.nbytes

    def finish(self) -> None:
        """Wait for all of them.

        Raises:
            ExchangeError: if a replica did not answer.
        """
        started, self._started = self._started, []
        with self._meter.waiting():
            for future in started:
                future.result()
        self._meter.num_steps += 1


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """The length of their union; they come by rising starts."""
    covered, reached = 0.0, float("-inf")
    for start, end in spans:
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered
