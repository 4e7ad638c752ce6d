"""Workers that push gradients and pull parameters, and servers that never wait for any of them in particular.

    worker r    compute | push to all servers | wait for the answers, which are the new parameters | compute ...
    server s    (a thread beside the worker of replica s)    push arrives > update > answer, unless its worker is too
                far ahead of the slowest: then when that one has pushed

Every push moves the parameters by the worker's own gradient and 1 / n of the learning rate: n pushes move them about as
far as one synchronous step. A gradient that is not finite changes nothing anywhere: as a server sees only its own part
of it, the worker says so to all servers, which count it against its replica.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

import torch
import torch.distributed as dist
from torch import Tensor

from pipemlp.gradients.links import ExchangeError, Links, lost
from pipemlp.gradients.mail import HEADER_BYTES, Header, Kind, read_header, write_header
from pipemlp.gradients.parameter_server import ParameterServer
from pipemlp.gradients.staleness import Clocks, Staleness

Decode = Callable[[Tensor], Tensor]
"""What a push says: the values of this server's share, in float32."""


class AsynchronousServer:
    """Updates its share by every push; starts its thread.

    Args:
        server: the share.
        requests: the group on which workers push.
        answers: links on another group, on which parameters go back.
        message_bytes: of a push to this server, without the header.
        decode: what a push says.
        value_type: in which parameters are sent.
        max_staleness: the bound; None for none.
    """

    def __init__(
        self,
        server: ParameterServer,
        requests: dist.ProcessGroup,
        answers: Links,
        message_bytes: int,
        decode: Decode,
        value_type: torch.dtype,
        max_staleness: int | None,
    ) -> None:
        self._server, self._requests, self._answers = server, requests, answers
        self._message_bytes, self._decode, self._value_type = message_bytes, decode, value_type
        self._clocks = Clocks(answers.num_replicas, max_staleness)
        self._lock = threading.Lock()
        self._waiting: list[int] = []
        self._last_answer: dict[int, tuple[dist.Work, Tensor]] = {}
        self._running = set(range(answers.num_replicas)) - {answers.rank}
        self.own_answers: SimpleQueue[Tensor | None] = SimpleQueue()
        """To the worker beside it; None once there will be no more."""
        self.failure: BaseException | None = None
        """Why the thread ended, if it did before its time."""
        self.version = 0
        self.staleness = Staleness()
        self.refused: Counter[int] = Counter()
        """Steps whose gradients were not finite, by replica."""
        self._thread = threading.Thread(target=self._listen, name="parameter server", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        message = torch.empty(HEADER_BYTES + self._message_bytes, dtype=torch.uint8)
        rank_of = dist.get_process_group_ranks(self._requests)
        try:
            while self._running:
                sender = dist.recv(message, group=self._requests)
                self.handle(rank_of.index(sender), message)
        except BaseException as error:  # noqa: BLE001 - the worker beside it says it
            self.failure = error
            self.own_answers.put(None)

    @torch.no_grad()
    def handle(self, replica: int, message: Tensor) -> None:
        """Do what a message asks for; called by the thread, and by the worker beside it for its own messages."""
        header = read_header(message)
        with self._lock:
            match header.kind:
                case Kind.PUSH:
                    self._clocks.stepped(replica, header.steps)
                    self._update(replica, header, message[HEADER_BYTES:])
                    self._waiting.append(replica)
                case Kind.SKIP:
                    self._clocks.stepped(replica, header.steps)
                    self.refused[replica] += 1
                    self._waiting.append(replica)
                case Kind.PAUSE:
                    self._clocks.pause(replica)
                    self._send(replica)
                case Kind.STOP:
                    self._running.discard(replica)
            self._answer()

    def _update(self, replica: int, header: Header, payload: Tensor) -> None:
        self.staleness.note(self.version - header.version, self._clocks.lead(replica) - 1)
        self._server.update(self._decode(payload), header.learning_rate)
        self.version += 1

    def _answer(self) -> None:
        """All who may go on."""
        for replica in [each for each in self._waiting if self._clocks.may_go_on(each)]:
            self._waiting.remove(replica)
            self._send(replica)

    def slowest(self) -> int:
        """The replica that the others wait for."""
        with self._lock:
            return self._clocks.slowest()

    def write(self) -> None:
        """Put the share where this replica's parameters are; nothing must be on its way."""
        with self._lock:
            self._server.write()

    def _send(self, replica: int) -> None:
        values = self._server.message(self._value_type).view(torch.uint8)
        answer = torch.empty(HEADER_BYTES + len(values), dtype=torch.uint8)
        write_header(answer, Header(Kind.PUSH, version=self.version))
        answer[HEADER_BYTES:].copy_(values)
        if replica == self._answers.rank:
            self.own_answers.put(answer)
        else:
            if replica in self._last_answer:  # which has arrived, or there would be no new push
                self._answers.wait(self._last_answer[replica][0], replica, "answering a push")
            self._last_answer[replica] = self._answers.send(answer, replica), answer


class AsynchronousWorker:
    """Pushes to all servers, and pulls from them.

    Args:
        own: the server beside it.
        requests, answers: links on the groups of the servers.
        answer_bytes: of the parameters of every server.
        timeout_seconds: to wait for the server beside it.
    """

    def __init__(
        self,
        own: AsynchronousServer,
        requests: Links,
        answers: Links,
        answer_bytes: Sequence[int],
        timeout_seconds: float,
    ) -> None:
        self._own, self._requests, self._answers = own, requests, answers
        self._room = [torch.empty(HEADER_BYTES + size, dtype=torch.uint8) for size in answer_bytes]
        self.versions = [0] * len(answer_bytes)
        """Updates that each server had done when its parameters were pulled."""
        self._timeout_seconds = timeout_seconds
        self._steps = 0

    def push(self, payloads: Sequence[Sequence[Tensor]], learning_rate: float) -> list[Tensor]:
        """Send every server its part of the gradient, in pieces; the new parameters of each, as bytes.

        Raises:
            ExchangeError: if a server is gone or does not answer.
        """
        return self._step(Kind.PUSH, payloads, learning_rate)

    def skip(self, payload_bytes: Sequence[int]) -> list[Tensor]:
        """Tell every server that this step's gradient is not finite; the parameters of each, as `push` gives them.

        Raises:
            ExchangeError: as `push` does.
        """
        return self._step(Kind.SKIP, _blank(payload_bytes), 0.0)

    def _step(self, kind: Kind, payloads: Sequence[Sequence[Tensor]], learning_rate: float) -> list[Tensor]:
        self._steps += 1
        return self._ask([Header(kind, self._steps, version, learning_rate) for version in self.versions], payloads)

    def pause(self, payload_bytes: Sequence[int]) -> None:
        """Nobody needs to wait for this worker until its next push; all servers know once this returns."""
        self._steps = 0
        self._ask([Header(Kind.PAUSE)] * len(payload_bytes), _blank(payload_bytes))

    def stop(self, payload_bytes: Sequence[int]) -> None:
        """The servers need not listen to this worker any more."""
        self._send([Header(Kind.STOP)] * len(payload_bytes), _blank(payload_bytes))

    def _ask(self, headers: Sequence[Header], payloads: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        others = [replica for replica in range(len(self._room)) if replica != self._requests.rank]
        arrivals = {replica: self._answers.receive(self._room[replica], replica) for replica in others}
        self._send(headers, payloads)
        for replica in others:
            self._wait(arrivals[replica], replica)
        self._room[self._requests.rank] = self._own_answer()
        self.versions = [read_header(answer).version for answer in self._room]
        return [answer[HEADER_BYTES:] for answer in self._room]

    def _wait(self, arrival: dist.Work, replica: int) -> None:
        """For an answer; others may keep it back because the server here has failed, which then is what to say."""
        try:
            self._answers.wait(arrival, replica, "pulling parameters")
        except ExchangeError:
            if not isinstance(self._own.failure, RuntimeError):  # of a broken link, who was waited for says more
                self._check_own()
            raise

    def _own_answer(self) -> Tensor:
        """The answer of the server beside this worker.

        Raises:
            ExchangeError: if the server has failed, or waits too long for the slowest replica.
        """
        self._check_own()
        try:
            answer = self._own.own_answers.get(timeout=self._timeout_seconds)
        except Empty:
            raise lost(self._own.slowest(), "waiting for the slowest replica") from None
        self._check_own()
        assert answer is not None
        return answer

    def _check_own(self) -> None:
        failure = self._own.failure
        if isinstance(failure, RuntimeError):  # what torch says of a link whose other end is gone
            raise lost(None, "taking the gradients of other replicas") from failure
        if failure is not None:
            raise ExchangeError(f"the parameter server of replica {self._requests.rank}: {failure}") from failure

    def _send(self, headers: Sequence[Header], payloads: Sequence[Sequence[Tensor]]) -> None:
        posted = []
        for replica, (header, payload) in enumerate(zip(headers, payloads, strict=True)):
            message = torch.cat([torch.empty(HEADER_BYTES, dtype=torch.uint8), *payload])
            write_header(message, header)
            if replica == self._requests.rank:
                self._own.handle(replica, message)
            else:
                posted.append((self._requests.send(message, replica), replica, message))
        for work, replica, _ in posted:
            self._requests.wait(work, replica, "pushing a gradient")


def _blank(sizes: Sequence[int]) -> list[list[Tensor]]:
    return [[torch.zeros(size, dtype=torch.uint8)] for size in sizes]
