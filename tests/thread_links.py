"""Links between threads, for tests of what goes over them: any number of replicas in milliseconds, and all on record.

A message is copied as late as links may (when its receiver waits) or as early (as soon as both ends are posted),
whichever finds more mistakes with memory that is used twice.
"""

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Condition

from torch import Tensor

from pipemlp.gradients.links import Links

SECONDS = 10.0


@dataclass
class _Message:
    """One end or both of it; there is nothing to wait for that was not posted."""

    sent: Tensor | None = None
    received: Tensor | None = None
    done: bool = False

    def copy(self) -> None:
        if self.sent is not None and self.received is not None and not self.done:
            assert (self.sent.dtype, self.sent.shape) == (self.received.dtype, self.received.shape)
            self.received.copy_(self.sent)
            self.done = True


@dataclass
class World:
    """What the replicas share.

    Args:
        num_replicas: as many threads.
        early: when messages are copied.
    """

    num_replicas: int
    early: bool = False
    messages: dict[tuple[int, int], list[_Message]] = field(default_factory=lambda: defaultdict(list))
    changed: Condition = field(default_factory=Condition)

    def run(self, body: Callable[["ThreadLinks"], object]) -> list:
        """The results of `body(links)`, called by every replica in a thread of its own."""
        with ThreadPoolExecutor(self.num_replicas) as pool:
            replicas = [ThreadLinks(self, rank) for rank in range(self.num_replicas)]
            results = [future.result() for future in [pool.submit(body, links) for links in replicas]]
        assert all(message.done for link in self.messages.values() for message in link), "half a message is left"
        return results


class ThreadLinks(Links):
    """The links of one thread; `sent` is what went over them, in order: the replica that it went to, and the values."""

    def __init__(self, world: World, rank: int) -> None:
        self.group = self
        self.rank, self.num_replicas = rank, world.num_replicas
        self.bytes_sent, self._sends_as_one, self._room = 0, False, {}
        self._world = world
        self._num_posted: dict[tuple[int, int, str], int] = defaultdict(int)
        self.sent: list[tuple[int, Tensor]] = []

    def recv(self, values: list[Tensor], sender: int, tag: int) -> "_Work":
        return self._post((sender, self.rank), "received", values[0])

    def send(self, values, replica, tag=None):
        """Both what the patterns call, and what `Links` calls on its group."""
        if tag is None:
            self.sent.append((replica, values))
            return super().send(values, replica)
        return self._post((self.rank, replica), "sent", values[0])

    def _post(self, link: tuple[int, int], end: str, values: Tensor) -> "_Work":
        with self._world.changed:
            number = self._num_posted[(*link, end)]
            self._num_posted[(*link, end)] += 1
            messages = self._world.messages[link]
            if number == len(messages):
                messages.append(_Message())
            setattr(messages[number], end, values)
            if self._world.early:
                messages[number].copy()
            self._world.changed.notify_all()
        return _Work(self._world, messages[number], copies=end == "received")


@dataclass
class _Work:
    world: World
    message: _Message
    copies: bool

    def wait(self) -> None:
        def done() -> bool:
            if self.copies and not self.message.done:
                self.message.copy()
                self.world.changed.notify_all()
            return self.message.done

        with self.world.changed:
            if not self.world.changed.wait_for(done, SECONDS):
                raise RuntimeError("no answer")
