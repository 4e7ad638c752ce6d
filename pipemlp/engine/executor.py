"""Runs a program of actions on this rank: forwards, backwards, sends and receives, by a table.

What waits between two actions lies in dictionaries keyed by (virtual stage, micro-batch) and leaves them with the
action that needs it: posted receives, results for another virtual stage of this rank, results to be sent, and what
the forwards left for the backwards.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pipemlp.engine.clock import Clock
from pipemlp.engine.transport import Arrival, Transport
from pipemlp.engine.virtual_stage import Labels, MicroBatchPass, VirtualStage
from pipemlp.model.dropout import DropoutKey
from pipemlp.model.weight_gradients import GradientSums
from pipemlp.schedule.action import Action, Kind

Place = tuple[int, int]
"""A virtual stage and a micro-batch."""


@dataclass(frozen=True)
class Wiring:
    """Who holds which virtual stage, and what crosses the cuts.

    Args:
        ranks: the global rank of each virtual stage, in this replica.
        widths: values per row that enter each virtual stage.
        dtype: of the tensors that cross.
        whole: the virtual stage and micro-batch of every backward that is not split.
    """

    ranks: tuple[int, ...]
    widths: tuple[int, ...]
    dtype: torch.dtype
    whole: frozenset[Place] = frozenset()

    @property
    def last(self) -> int:
        """The virtual stage that computes the loss."""
        return len(self.ranks) - 1


@dataclass
class Batch:
    """One batch of this replica, as far as this rank reads it.

    Args:
        inputs: (numeric, categorical) of each micro-batch, where virtual stage 0 is.
        labels: (target, weight) of each micro-batch, where the last virtual stage is.
        rows: of each micro-batch.
        keys: of dropout, for each micro-batch.
        seed_gradient: of each micro-batch's loss; None to predict.
    """

    inputs: Sequence[Any]
    labels: Sequence[Labels | None]
    rows: Sequence[int]
    keys: Sequence[DropoutKey] = ()
    seed_gradient: Tensor | None = None


@dataclass
class Executor:
    """Runs programs on the virtual stages of one rank.

    Args:
        stages: those of this rank, by global index.
        wiring: where the others are.
        transport: the links.
        sums: of the gradients.
        device: of all tensors.
        clock: told when each action begins and ends, while it is listening.
    """

    stages: Mapping[int, VirtualStage]
    wiring: Wiring
    transport: Transport
    sums: GradientSums
    device: torch.device
    clock: Clock
    at: Action | None = field(default=None, init=False)
    """What it does, or did last."""
    _timed: bool = field(default=False, init=False)
    _results: dict[int, Tensor] = field(default_factory=dict, init=False)
    _posted: dict[tuple[str, int, int], Arrival] = field(default_factory=dict, init=False)
    _local: dict[tuple[str, int, int], Tensor] = field(default_factory=dict, init=False)
    _outgoing: dict[tuple[str, int, int], Tensor] = field(default_factory=dict, init=False)
    _passes: dict[Place, MicroBatchPass] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._table: dict[str, Callable[[int, int], None]] = {
            "F": self._forward,
            "B": self._backward,
            "I": self._input_gradient,
            "W": self._weight_gradient,
            "SEND_F": self._send_activation,
            "RECV_F": self._receive_activation,
            "SEND_B": self._send_gradient,
            "RECV_B": self._receive_gradient,
        }

    @contextmanager
    def summing(self, sums: GradientSums) -> Iterator[None]:
        """While it lasts, gradients go there."""
        usual, self.sums = self.sums, sums
        try:
            yield
        finally:
            self.sums = usual

    def run(self, program: Sequence[Action], batch: Batch) -> dict[int, Tensor]:
        """Do every action in order; the loss, or the outputs, of each micro-batch, where the last virtual stage is.

        Raises:
            PeerLostError: naming the action that was waited for, and the rank that should have done it.
        """
        self._batch = batch
        table, clock, let_go = self._table, self.clock, self.transport.let_go
        self._timed = clock.listens  # asked once: between two small actions every call counts
        for action in program:
            virtual_stage, kind, micro_batch = self.at = action
            if self._timed:
                clock.begin(action)
            table[kind](virtual_stage, micro_batch)
            if self._timed:
                clock.end(action)
            if len(kind) == 1:
                let_go()
        self.transport.finish()
        results, self._results = self._results, {}
        return results

    def _forward(self, virtual_stage: int, micro_batch: int) -> None:
        batch, last = self._batch, virtual_stage == self.wiring.last
        x = batch.inputs[micro_batch] if virtual_stage == 0 else self._take("F", virtual_stage, micro_batch)
        if batch.seed_gradient is None:
            output = self.stages[virtual_stage].predict(x)
        else:
            labels = batch.labels[micro_batch] if last else None
            output, kept = self.stages[virtual_stage].forward(x, batch.keys[micro_batch], labels, self.sums)
            self._passes[virtual_stage, micro_batch] = kept
        if last:
            self._results[micro_batch] = output
        else:
            self._hand_on("F", virtual_stage, virtual_stage + 1, micro_batch, output)

    def _backward(self, virtual_stage: int, micro_batch: int) -> None:
        self._gradients(virtual_stage, micro_batch, self._passes.pop((virtual_stage, micro_batch)), defer=False)

    def _input_gradient(self, virtual_stage: int, micro_batch: int) -> None:
        self._gradients(virtual_stage, micro_batch, self._passes[virtual_stage, micro_batch], defer=True)

    def _weight_gradient(self, virtual_stage: int, micro_batch: int) -> None:
        self._passes.pop((virtual_stage, micro_batch)).finish()

    def _gradients(self, virtual_stage: int, micro_batch: int, kept: MicroBatchPass, *, defer: bool) -> None:
        if virtual_stage == self.wiring.last:
            assert self._batch.seed_gradient is not None
            gradient = self._batch.seed_gradient
        else:
            gradient = self._take("B", virtual_stage, micro_batch)
        upstream = kept.backward(gradient, defer=defer)
        if virtual_stage > 0:
            assert upstream is not None
            self._hand_on("B", virtual_stage, virtual_stage - 1, micro_batch, upstream)

    def _take(self, what: str, virtual_stage: int, micro_batch: int) -> Tensor:
        """What another virtual stage has made for this one."""
        here = (what, virtual_stage, micro_batch)
        if here in self._local:
            return self._local.pop(here)
        arrival = self._posted.pop(here)
        if not self._timed:
            return arrival.wait()
        tensor: Tensor = self.clock.waited(arrival.wait)
        self.clock.end(Action(virtual_stage, "RECV_F" if what == "F" else "RECV_B", micro_batch))
        return tensor

    def _hand_on(self, what: str, source: int, target: int, micro_batch: int, tensor: Tensor) -> None:
        """Keep a result for another virtual stage of this rank, or for its send, which follows."""
        ranks = self.wiring.ranks
        if ranks[source] == ranks[target]:
            self._local[what, target, micro_batch] = tensor
        else:
            self._outgoing[what, source, micro_batch] = tensor

    def _send_activation(self, virtual_stage: int, micro_batch: int) -> None:
        self._send("F", virtual_stage, virtual_stage + 1, micro_batch)

    def _send_gradient(self, virtual_stage: int, micro_batch: int) -> None:
        self._send("B", virtual_stage, virtual_stage - 1, micro_batch)

    def _send(self, what: str, source: int, target: int, micro_batch: int) -> None:
        tensor = self._outgoing.pop((what, source, micro_batch)).contiguous()
        awaited = Action(target, "RECV_F" if what == "F" else "RECV_B", micro_batch)
        done = None
        if self._timed:
            own = Action(source, "SEND_F" if what == "F" else "SEND_B", micro_batch)
            done = partial(self.clock.end, own)
        self.transport.send(tensor, self.wiring.ranks[target], awaited, done)

    def _receive_activation(self, virtual_stage: int, micro_batch: int) -> None:
        self._receive("F", virtual_stage, virtual_stage - 1, micro_batch, self.wiring.widths[virtual_stage])

    def _receive_gradient(self, virtual_stage: int, micro_batch: int) -> None:
        self._receive("B", virtual_stage, virtual_stage + 1, micro_batch, self.wiring.widths[virtual_stage + 1])

    def _receive(self, what: str, virtual_stage: int, source: int, micro_batch: int, width: int) -> None:
        buffer = torch.empty(self._batch.rows[micro_batch], width, dtype=self.wiring.dtype, device=self.device)
        gradient: Kind = "B" if (source, micro_batch) in self.wiring.whole else "I"
        awaited = Action(source, "F" if what == "F" else gradient, micro_batch)
        arrival = self.transport.receive(buffer, self.wiring.ranks[source], awaited)
        self._posted[what, virtual_stage, micro_batch] = arrival
