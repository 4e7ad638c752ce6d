"""ZB-V: each stage holds one virtual stage of the way in and one of the way back, so that all hold equally much.

Three stages with two virtual stages each, four micro-batches, F, I and W equally long (time runs to the right):

    stage 0   0F0 0F1 0F2 0F3 ... 5F0 5I0 5W0 5F1 5I1 5W1 5F2 5I2 5W2 0I0 0W0 5F3 5I3 5W3 0I1 0W1 ... 0I2 0W2 0I3 0W3
    stage 1       1F0 1F1 1F2 4F0 1F3 4F1 4I0 4W0 4F2 4I1 4W1 1I0 1W0 4F3 4I2 4W2 1I1 1W1 4I3 4W3 1I2 ... 1I3 1W2 1W3
    stage 2           2F0 3F0 2F1 3F1 2F2 3F2 3I0 3W0 2F3 2I0 2W0 3F3 3I1 3W1 2I1 2W1 3I2 3W2 2I2 3I3 2I3 2W2 3W3 2W3

Stage s of p goes through five phases; a is its virtual stage on the way in, b the one on the way back:

    1   2 (p - s) - 1 times   Fa
    2   s times               Fb Fa
    3   p - s times           Fb Ib          a W instead of what does not exist
    4   while there are Fb    Fa Ia Fb Ib
    5                         Ia Ib, in the end Ia alone with a W behind each

With m >= (3 p - 1) / 2 micro-batches a W follows each I of phases 3 and 4. This is the paper's order; below 2 p - 1 it
is laid out for 2 p - 1, and what does not exist is left out. With still fewer there is memory left, and the first
2 p - 1 - m input gradients travel on without waiting for a W. All other W come last.

Bubble: (p - 1) / (6 m + p - 1) for p equal stages and m >= p micro-batches; with fewer a step takes
2 m + 3 p / 2 - 1/2 or m + 2 p - 1/2, the longer of them, in units of a stage's F. In flight: p on every stage, at
most m, each from its F to its W.
Source: Zero Bubble, arXiv 2401.10241, section 6, for m >= 2 p - 1; the order for m < (3 p - 1) / 2 is ours.
"""

from collections import deque
from typing import Literal

from pipemlp.schedule.action import Action
from pipemlp.schedule.alternating import check_sizes
from pipemlp.schedule.schedule import Schedule

Slot = Literal["Fa", "Fb", "Ia", "Ib"]
_PHASE_1: tuple[Slot, ...] = ("Fa",)
_PHASE_2: tuple[Slot, ...] = ("Fb", "Fa")
_PHASE_3: tuple[Slot, ...] = ("Fb", "Ib")
_PHASE_4: tuple[Slot, ...] = ("Fa", "Ia", "Fb", "Ib")
_PHASE_5: tuple[Slot, ...] = ("Ia", "Ib")
_LAST: tuple[Slot, ...] = ("Ia",)


def zb_v(num_stages: int, num_micro_batches: int) -> Schedule:
    """Two virtual stages per stage, placed as a V.

    Raises:
        ValueError: if a size is below 1.
    """
    check_sizes(num_stages, num_micro_batches)
    is_short = 2 * num_micro_batches < 3 * num_stages - 1
    num_laid_out = num_micro_batches if is_short else max(num_micro_batches, 2 * num_stages - 1)
    rows = (_Row(stage, num_stages, num_laid_out).write() for stage in range(num_stages))
    actions = tuple(tuple(action for action in row if action.micro_batch < num_micro_batches) for row in rows)
    return Schedule("zb-v", num_stages, 2, num_micro_batches, "v", actions)


class _Row:
    """The actions of one stage while they are written down."""

    def __init__(self, stage: int, num_stages: int, num_micro_batches: int) -> None:
        self._stage, self._num_stages, self._num_micro_batches = stage, num_stages, num_micro_batches
        self._num_spare = max(0, 2 * num_stages - 1 - num_micro_batches)
        self._next: dict[Slot, int] = {"Fa": 0, "Fb": 0, "Ia": 0, "Ib": 0}
        self._waiting: dict[str, deque[Action]] = {"a": deque(), "b": deque()}  # the W that could run
        self._held = 0  # in virtual stages
        self._row: list[Action] = []

    def write(self) -> tuple[Action, ...]:
        """Phase by phase."""
        stage, num_from_here = self._stage, self._num_stages - self._stage
        num_rounds = max(self._num_micro_batches, 2 * self._num_stages - 1) - self._num_stages
        for slot in (*_PHASE_1 * (2 * num_from_here - 1), *_PHASE_2 * stage):
            self._add(slot)
        for slot in _PHASE_3 * num_from_here:
            if not self._add(slot):
                self._add_weight("b")
        for slot in (*_PHASE_4 * num_rounds, *_PHASE_5 * stage, *_LAST * num_from_here):
            self._add(slot)
        return (*self._row, *self._waiting["b"], *self._waiting["a"])

    def _add(self, slot: Slot) -> bool:
        """Write the next action of a slot, with a W before or behind it where there should be one; False if none."""
        micro_batch = self._next[slot]
        if micro_batch == self._num_micro_batches:
            return False
        self._next[slot] += 1
        letter = slot[1]
        virtual_stage = self._stage if letter == "a" else 2 * self._num_stages - 1 - self._stage
        if slot[0] == "F":
            if self._held == 2 * self._num_stages:
                self._add_weight(letter)
            self._held += 1
            self._row.append(Action(virtual_stage, "F", micro_batch))
        else:
            follows_forward = self._row[-1].kind == "F"
            self._row.append(Action(virtual_stage, "I", micro_batch))
            self._waiting[letter].append(Action(virtual_stage, "W", micro_batch))
            if self._has_weight_behind(slot, follows_forward):
                self._add_weight(letter)
        return True

    def _has_weight_behind(self, slot: Slot, follows_forward: bool) -> bool:
        done, num = self._next, self._num_micro_batches
        if slot == "Ia" and done["Ib"] == num:
            return True
        is_paired = done["Fb"] < num or (follows_forward and self._num_spare == 0)
        return is_paired and done["Ia"] + done["Ib"] > self._num_spare

    def _add_weight(self, letter: str) -> None:
        """Write the oldest W of a virtual stage, or else of the other, if there is any."""
        waiting = self._waiting[letter] or self._waiting["ab".replace(letter, "")]
        if waiting:
            self._row.append(waiting.popleft())
            self._held -= 1
