"""What is told of a training while it goes, and to whom."""

from typing import Protocol


class Watcher(Protocol):
    """Whoever wants to know how the run goes; rank 0 shows and writes it, the others do nothing."""

    def begin(self, step: int) -> None:
        """The training begins, after `step` steps that were done before."""

    def step(self, step: int, loss: float, learning_rate: float, samples_per_second: float) -> None:
        """An optimizer step is done whose loss is to be known."""

    def evaluation(self, split: str, step: int, values: dict[str, float]) -> None:
        """A split was evaluated after `step` steps."""

    def note(self, text: str) -> None:
        """Something worth a line."""
