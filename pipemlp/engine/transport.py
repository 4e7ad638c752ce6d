"""Tensors from stage to stage: every directed link is first-in first-out, and nothing is tagged.

On NCCL each directed link has a communicator, and so a stream, of its own. On one shared by both directions a send
could stand before the receive that its peer's send waits for. Communicators are made, with a first message, before
the first step: made at the first use, the maker would wait for its peer in the middle of a program.

Messages go straight to the communicator: torch's functions around it check again, at every message, what was settled
when the link was opened. A send does not hold up the action after it. Its tensor is let go when it is done. NCCL
tells; gloo does so only to those who wait, and is asked after that next action, when the receiver has been ready for
long unless it is later than planned: then its sender waits for it, which also keeps what is on its way within what
was planned. In strict mode, for tests on gloo, a send holds up its rank until the receive is posted, which is the
least that any link promises (see schedule/lower.py).
"""

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from pipemlp.schedule.action import Action

Link = tuple[int, int]
"""Sender and receiver, as global ranks."""


class PeerLostError(RuntimeError):
    """A message did not come, or could not be sent: its peer is gone, or stopped answering."""


def _lost(awaited: Action, rank: int) -> PeerLostError:
    """What to say when an action of a global rank does not come about."""
    return PeerLostError(f"waited for {awaited} of rank {rank}, which left or stopped answering")


class Arrival:
    """A receive that was posted, for what the action of another rank makes."""

    __slots__ = ("_awaited", "_sender", "_tensor", "_work")

    def __init__(self, tensor: Tensor, work: dist.Work, awaited: Action, sender: int) -> None:
        self._tensor = tensor
        self._work = work
        self._awaited = awaited
        self._sender = sender

    def wait(self) -> Tensor:
        """The tensor, once it is here (on a GPU: once its stream has it).

        Raises:
            PeerLostError: if it does not come.
        """
        try:
            self._work.wait()
        except RuntimeError as error:
            raise _lost(self._awaited, self._sender) from error
        return self._tensor


@dataclass(slots=True)
class _Sending:
    """A tensor on its way to the action that another rank must have come to, and whom to tell when it has gone."""

    work: dist.Work
    tensor: Tensor
    awaited: Action
    receiver: int
    done: Callable[[], None] | None

    def finish(self) -> None:
        try:
            self.work.wait()
        except RuntimeError as error:
            raise _lost(self.awaited, self.receiver) from error
        if self.done is not None:
            self.done()


@dataclass(frozen=True)
class _End:
    """This rank's end of a link: the communicator, and its peer's rank in it."""

    group: dist.ProcessGroup
    peer: int


class Transport:
    """The links of this rank.

    Args:
        links: all directed links of the job, in the same order on every rank.
        device: where tensors are.
        strict: promise no more than the weakest link does; gloo only.
    """

    def __init__(self, links: Collection[Link], device: torch.device, *, strict: bool = False) -> None:
        self._strict = strict
        self._sending: deque[_Sending] = deque()
        self._told: deque[_Sending] = deque()
        self._asks = device.type == "cuda"
        self._outward: dict[int, _End] = {}
        self._inward: dict[int, _End] = {}
        self._tokens = dist.new_group(list(range(dist.get_world_size()))) if strict else None
        for link in links:
            self._open(link, device)

    def _open(self, link: Link, device: torch.device) -> None:
        """Make the link's communicator where it has one of its own, and send the first message over it."""
        group = dist.new_group(list(link)) if self._asks else dist.group.WORLD
        (sender, receiver), rank = link, dist.get_rank()
        greeting = torch.zeros(1, device=device)
        if rank == sender:
            self._outward[receiver] = _End(group, dist.get_group_rank(group, receiver))
            dist.send(greeting, receiver, group=group)
        elif rank == receiver:
            self._inward[sender] = _End(group, dist.get_group_rank(group, sender))
            dist.recv(greeting, sender, group=group)

    def send(self, tensor: Tensor, receiver: int, awaited: Action, done: Callable[[], None] | None) -> None:
        """Send to a global rank.

        Args:
            tensor: what to send.
            receiver: a global rank.
            awaited: its action that makes it ready.
            done: called when the tensor is let go, if given.

        Raises:
            PeerLostError: if the receiver is gone.
        """
        end = self._outward[receiver]
        try:
            if self._strict:
                dist.recv(torch.zeros(1), receiver, group=self._tokens)
            work = end.group.send([tensor], end.peer, 0)
        except RuntimeError as error:
            raise _lost(awaited, receiver) from error
        self._sending.append(_Sending(work, tensor, awaited, receiver, done))

    def receive(self, tensor: Tensor, sender: int, awaited: Action) -> Arrival:
        """Get ready to receive into `tensor` what an action of a global rank makes.

        Raises:
            PeerLostError: if the sender is gone.
        """
        end = self._inward[sender]
        try:
            work = end.group.recv([tensor], end.peer, 0)
        except RuntimeError as error:
            raise _lost(awaited, sender) from error
        if self._strict:
            token = torch.zeros(1)
            ready = dist.isend(token, sender, group=self._tokens)
            assert ready is not None
            self._told.append(_Sending(ready, token, awaited, sender, None))
        return Arrival(tensor, work, awaited, sender)

    def let_go(self) -> None:
        """After an action: forget the tensors whose sends are done."""
        if self._asks:
            while self._sending and self._sending[0].work.is_completed():
                self._sending.popleft().finish()
            return
        while self._sending:  # all from before the action that has just ended
            self._sending.popleft().finish()

    def finish(self) -> None:
        """Wait until everything is sent."""
        for sending in (self._sending, self._told):
            while sending:
                sending.popleft().finish()
