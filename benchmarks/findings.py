"""What a measurement found, beside what was wanted; intervals of paired differences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, median, quantiles, stdev

STUDENT_95 = (math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Quantiles of Student's distribution for intervals of 95 %, by degrees of freedom."""


@dataclass(frozen=True)
class Finding:
    """One line of the result.

    Args:
        part: of the benchmark.
        what: was compared.
        link: `loopback`, or the rate.
        replicas: how many.
        found: the figure.
        low, high: the middle half of the rounds, or an interval of 95 % where `within` is set.
        wanted: at least; where `within` is set, at most so far from zero; None to report only.
        unit: of the figure.
        within: what `wanted` means.
        details: whatever else is worth keeping.
    """

    part: str
    what: str
    link: str
    replicas: int
    found: float
    low: float
    high: float
    wanted: float | None = None
    unit: str = "x"
    within: bool = False
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def reached(self) -> bool | None:
        """Whether it is as wanted; None where nothing is."""
        if self.wanted is None:
            return None
        return abs(self.found) <= self.wanted if self.within else self.found >= self.wanted

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return asdict(self) | {"reached": self.reached}


def ratio_of(slower: Sequence[float], faster: Sequence[float]) -> tuple[float, float, float]:
    """The ratio of the medians, and the middle half of the rounds' own ratios."""
    low, high = middle_half([a / b for a, b in zip(slower, faster, strict=True)])
    return median(slower) / median(faster), low, high


def middle_half(values: Sequence[float]) -> tuple[float, float]:
    """Lower and upper quartile."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def mean_interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Mean of paired differences, and the ends of its 95 % interval; of ten at most."""
    mean = fmean(differences)
    if len(differences) == 1:
        return mean, -math.inf, math.inf
    half = STUDENT_95[len(differences) - 1] * stdev(differences) / math.sqrt(len(differences))
    return mean, mean - half, mean + half
