"""Remember the best value of a validation metric, and how long ago it was."""

import math
from dataclasses import dataclass


@dataclass
class Improvement:
    """Follows one metric.

    Args:
        larger_is_better: the direction of improvement.
        min_delta: the least change that counts.
    """

    larger_is_better: bool
    min_delta: float = 0.0
    best: float | None = None
    num_since: int = 0

    def update(self, value: float) -> bool:
        """Whether `value` is the best so far; a value that is not a number never is."""
        gain = math.inf if self.best is None else (value - self.best) * (1 if self.larger_is_better else -1)
        improved = not math.isnan(value) and gain > (0 if self.best is None else self.min_delta)
        self.num_since = 0 if improved else self.num_since + 1
        if improved:
            self.best = value
        return improved
