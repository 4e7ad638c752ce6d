"""Stale synchronous parallel: how far replicas may run ahead of the slowest, and how old what they use really was.

    replica 0   . . . . . . .|         with max_staleness 2 it waits here
    replica 1   . . . . . .            begins its seventh
    replica 2   . . . .                until this one has done its fifth step

Source: Ho et al. 2013, More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server.
"""

from collections import Counter


class Clocks:
    """The steps that each replica has done, and whose turn it is to wait.

    Args:
        num_replicas: of the stage.
        max_staleness: steps that a replica may be ahead of the slowest one that still runs; None for any number.
    """

    def __init__(self, num_replicas: int, max_staleness: int | None) -> None:
        self._steps: dict[int, int] = dict.fromkeys(range(num_replicas), 0)
        self._max = max_staleness
        self._num_replicas = num_replicas

    def stepped(self, replica: int, steps: int) -> None:
        """A replica has done so many steps."""
        self._steps[replica] = steps

    def pause(self, replica: int) -> None:
        """Nobody waits for this one any more; once all have paused, all start anew from 0."""
        del self._steps[replica]
        if not self._steps:
            self._steps = dict.fromkeys(range(self._num_replicas), 0)

    def lead(self, replica: int) -> int:
        """Steps by which a running replica is ahead of the slowest."""
        return self._steps[replica] - min(self._steps.values())

    def slowest(self) -> int:
        """The running replica with the fewest steps; of several the first."""
        return min(self._steps, key=self._steps.__getitem__)

    def may_go_on(self, replica: int) -> bool:
        """Whether its next step would be within the bound."""
        return self._max is None or self.lead(replica) <= self._max


class Staleness:
    """For every update, how many others came since its worker pulled, and how far ahead that worker was."""

    def __init__(self) -> None:
        self.behind: Counter[int] = Counter()
        self.most_ahead = 0

    def note(self, behind: int, ahead: int) -> None:
        """One update."""
        self.behind[behind] += 1
        self.most_ahead = max(self.most_ahead, ahead)
