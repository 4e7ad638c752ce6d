"""Selections of cases in which every pair of values meets."""

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from random import Random

Choice = dict[str, object]


def pairs_of(factors: Mapping[str, Sequence[object]]) -> set[tuple]:
    """All pairs of values of two different factors."""
    return {
        ((a, i), (b, j))
        for a, b in combinations(factors, 2)
        for i, j in product(range(len(factors[a])), range(len(factors[b])))
    }


def pairwise(factors: Mapping[str, Sequence[object]], seed: int = 0) -> list[Choice]:
    """A short list of choices in which every pair of values meets; greedy, and the same at every call."""
    random = Random(seed)
    missing = pairs_of(factors)
    chosen = []
    while missing:
        best: dict[str, int] = {}
        best_pairs: set[tuple] = set()
        for _ in range(200):
            (a, i), (b, j) = random.choice(sorted(missing))
            candidate = {name: random.randrange(len(values)) for name, values in factors.items()} | {a: i, b: j}
            met = {((c, candidate[c]), (d, candidate[d])) for c, d in combinations(factors, 2)} & missing
            if len(met) > len(best_pairs):
                best, best_pairs = candidate, met
        missing -= best_pairs
        chosen.append({name: factors[name][index] for name, index in best.items()})
    return chosen
