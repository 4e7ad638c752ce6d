"""Costs of equal stages, as they are given by hand."""

from dataclasses import asdict, dataclass
from math import isfinite

from pipemlp.config.errors import ConfigError
from pipemlp.schedule.costs import Costs, uniform_costs

SMALLEST, LARGEST = 1e-12, 1e12
"""Beyond which sums of them lose what they are made of."""


@dataclass(frozen=True)
class StageCosts:
    """What a whole stage takes for one micro-batch; a virtual stage takes its fraction.

    Args:
        forward, input_gradient, weight_gradient: seconds, or any other unit of time.
        hop: time from one stage to the next.
    """

    forward: float = 1.0
    input_gradient: float = 1.0
    weight_gradient: float = 1.0
    hop: float = 0.0

    def check(self) -> None:
        """Raise ConfigError unless they are finite and above 0; the hop may be 0."""
        least = {name: "at least" if name == "hop" else "above" for name in asdict(self)}
        problems = [
            f"{name}: {value:g} is no cost; it must be finite and {least[name]} 0"
            for name, value in asdict(self).items()
            if not isfinite(value) or value < 0.0 or (value == 0.0 and name != "hop")
        ]
        problems += [
            f"{name}: {value:g} is too {'large' if value > LARGEST else 'small'}; between {SMALLEST:g} and {LARGEST:g}"
            for name, value in asdict(self).items()
            if isfinite(value) and (value > LARGEST or 0.0 < value < SMALLEST)
        ]
        if problems:
            raise ConfigError(problems)

    def of_all(self, num_stages: int, num_virtual_stages: int) -> Costs:
        """The costs of every virtual stage."""
        return uniform_costs(num_stages, num_virtual_stages, **asdict(self))
