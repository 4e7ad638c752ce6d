"""What becomes of the gradients of a step: one interface, an implementation for each way to update."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn

from pipemlp.engine.gradient_sums import GradientSums
from pipemlp.engine.share import Named, Share
from pipemlp.engine.votes import Votes
from pipemlp.gradients.bucket import Bucket, BucketExchange
from pipemlp.gradients.compression.sender import load_tensors
from pipemlp.gradients.meter import Meter
from pipemlp.gradients.staleness import Staleness
from pipemlp.planning.sums import BUCKET_BYTES

ExchangeOf = Callable[[Sequence[Bucket]], BucketExchange]


class Update(ABC):
    """Makes new parameters of gradients, with the other replicas of the stage.

    Args:
        votes: of those that step together, on whether a step is taken.
    """

    def __init__(self, votes: Votes) -> None:
        self.votes = votes
        self.meter = Meter()
        self.staleness: Staleness | None = None
        """Of an asynchronous update, as this rank's server saw it."""
        self.bucket_bytes = BUCKET_BYTES
        """Of what is exchanged at once."""
        self.exchange_of: ExchangeOf | None = None
        """Who sums the gradients up over the replicas; None where each replica uses its own."""

    @abstractmethod
    def step(self, sums: GradientSums, learning_rate: float) -> None:
        """The backward is over: take the step, unless a gradient is not finite; `votes` know."""

    def judged(self) -> AbstractContextManager[None]:
        """While it lasts, the parameters are those that an evaluation judges, the same on all replicas."""
        return nullcontext()

    def warnings(self) -> list[str]:
        """What the user should know of the time since the last call; every rank must ask."""
        return []

    def shares(self, named: Mapping[nn.Parameter, Named], replica: int) -> tuple[list[Share], bool] | None:
        """What this rank keeps the truth of, and whether all replicas have the same; None where DeepSpeed does.

        Args:
            named: the place of every parameter of the stage.
            replica: this one.
        """
        return None

    def state(self) -> dict[str, Tensor]:
        """What this rank must keep beside its shares to go on exactly, in this very grid: live tensors."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a state of the same model, grid and section `gradients`.

        Raises:
            ModelFileError: if it is another's.
        """
        load_tensors(self.state(), state)

    def begin_anew(self) -> None:  # noqa: B027 - most keep nothing that depends on the weights
        """Weights were loaded that another grid has saved: what was kept of earlier ones is void."""

    def end(self) -> None:  # noqa: B027 - most have nothing to do
        """The training is over: the parameters become those that are kept, the same on all replicas."""
