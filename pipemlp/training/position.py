"""Where a training stands between two steps: all that a checkpoint keeps of it beside weights and optimizer."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from pipemlp.config.errors import ModelFileError


@dataclass(frozen=True)
class Followed:
    """What is known of a metric that somebody follows: which it is, its best value, evaluations since then."""

    metric: str | None = None
    best: float | None = None
    num_since: int = 0


@dataclass(frozen=True)
class Position:
    """After `step` optimizer steps.

    Args:
        step: optimizer steps done.
        best_step: the step whose weights are the best so far; 0 if none are kept.
        best, stopping: of the metrics that `checkpoint.best` and `training.early_stopping` follow.
        evaluations: the last loss and metrics of each split that was evaluated.
        num_samples, training_seconds: so far, evaluations left out.
        has_stopped: whether the training has ended early.
    """

    step: int = 0
    best_step: int = 0
    best: Followed = Followed()
    stopping: Followed = Followed()
    evaluations: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    num_samples: int = 0
    training_seconds: float = 0.0
    has_stopped: bool = False

    def to_text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"


def position_from_text(text: str, where: str) -> Position:
    """What `to_text` wrote.

    Raises:
        ModelFileError: if it is something else.
    """
    try:
        value = json.loads(text)
        return Position(**value | {name: Followed(**value[name]) for name in ("best", "stopping")})
    except (ValueError, TypeError, KeyError) as error:
        raise ModelFileError(f"{where}: damaged: {error}") from error
