"""Messages between the replicas of a stage, first-in first-out on every link, each with its bytes counted.

A message of gloo leaves when its receiver is ready, so patterns post their receives ahead. Messages go straight to
the communicator: torch's functions around it check again, at every message, what was settled with the group.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from pipemlp.config.errors import RunFailedError

Message = tuple[Tensor, int]
"""Values, and the replica that they go to or come from."""
Posted = tuple[dist.Work, int | None]
"""What to wait for, and the replica at the other end, where that is one."""


class ExchangeError(RunFailedError):
    """Replicas could not exchange what they had to."""


class ReplicaLostError(ExchangeError):
    """A replica is gone, or stopped answering, in the middle of an exchange."""


def lost(replica: int | None, moment: str) -> ReplicaLostError:
    """What to say when a replica, or one of all, does not answer."""
    who = "a replica" if replica is None else f"replica {replica}"
    return ReplicaLostError(f"{moment}: {who} left or stopped answering")


class _Settled:
    """The work of a message of no values."""

    def wait(self) -> None:
        return


class _Refused:
    """The work of a message that could not even be posted: whoever waits for it hears why, and says when it was."""

    def __init__(self, error: RuntimeError) -> None:
        self._error = error

    def wait(self) -> None:
        raise self._error


class Links:
    """The links of this replica to all others of its stage.

    Used by one thread; an asynchronous update's by one that receives, and others of which one at a time sends.

    Args:
        group: a process group of exactly these replicas, which nothing else uses.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.rank: int = dist.get_rank(group)
        self.num_replicas: int = dist.get_world_size(group)
        self.bytes_sent = 0
        """Payload of every send of this replica so far."""
        self._sends_as_one = "nccl" in dist.get_backend(group)
        self._room: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def send(self, values: Tensor, replica: int) -> dist.Work:
        """Start to send contiguous values of any type; they must stay as they are until the work is waited for."""
        if not values.numel():
            return _Settled()
        self.bytes_sent += values.nbytes
        try:
            return self.group.send([values], replica, 0)
        except RuntimeError as error:
            return _Refused(error)

    def receive(self, values: Tensor, replica: int) -> dist.Work:
        """Get ready to receive into contiguous `values`, of the type and number that are sent."""
        if not values.numel():
            return _Settled()
        try:
            return self.group.recv([values], replica, 0)
        except RuntimeError as error:
            return _Refused(error)

    def exchange(self, receives: Sequence[Message], sends: Sequence[Message]) -> list[Posted]:
        """Start messages that answer each other: what a replica sends in its n-th call is received in the others' n-th.

        On NCCL they go as one, where no receive can stand behind the send that its peer waits for.

        Returns:
            What to wait for, with the replicas: receives, then sends, each in the order given; on NCCL one for all.
        """
        if not self._sends_as_one:
            posted = [(self.receive(values, replica), replica) for values, replica in receives]
            return posted + [(self.send(values, replica), replica) for values, replica in sends]
        self.bytes_sent += sum(values.nbytes for values, _ in sends)
        both = [(dist.irecv, *message) for message in receives] + [(dist.isend, *message) for message in sends]
        batch = [dist.P2POp(post, v, group=self.group, group_peer=peer) for post, v, peer in both if v.numel()]
        try:
            return [(work, None) for work in dist.batch_isend_irecv(batch)] if batch else []
        except RuntimeError as error:
            return [(_Refused(error), None)]

    def swap(self, outgoing: Sequence[Tensor], incoming: Sequence[Tensor], moment: str) -> None:
        """Send every other replica its tensor, and receive one from each; what is for this one stays.

        Those after this replica come first, so that not all send to the same one at once.

        Raises:
            ExchangeError: if a replica is gone or does not answer.
        """
        others = [(self.rank + ahead) % self.num_replicas for ahead in range(1, self.num_replicas)]
        posted = self.exchange([(incoming[each], each) for each in others], [(outgoing[each], each) for each in others])
        for work, replica in posted:
            self.wait(work, replica, moment)

    def wait(self, work: dist.Work, replica: int | None, moment: str) -> None:
        """Wait for a message (on a GPU: let the stream wait).

        Args:
            work: what `send` or `receive` gave.
            replica: the one at the other end; None for all of them.
            moment: what goes on, such as `ring, step 2 of 6`.

        Raises:
            ExchangeError: if the replica is gone or does not answer in the group's time.
        """
        try:
            work.wait()
        except RuntimeError as error:
            raise lost(replica, moment) from error

    def room(self, num_values: int, like: Tensor) -> Tensor:
        """Somewhere to receive values of the type of `like`, 1-D: the same place at every call, to save making it."""
        key = like.dtype, like.device
        if key not in self._room or self._room[key].numel() < num_values:
            self._room[key] = like.new_empty(num_values)
        return self._room[key][:num_values]
