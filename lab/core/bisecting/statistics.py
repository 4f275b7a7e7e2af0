"""Where a finding changed that does not come every time: a posterior over the places, and which look is worth most.

Every kernel before the change shows something other than the good finding with one unknown probability, every kernel
from the change on with another. Both have Jeffreys' prior, Beta(1/2, 1/2), and are integrated out: the evidence for a
place is a product of two beta functions (Gelman et al., Bayesian Data Analysis, 2.4). The next kernel is the one after
which the least entropy is to be expected (MacKay, Information Theory, Inference, and Learning Algorithms, 28 and 35).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate

_PRIOR = 0.5


@dataclass(frozen=True)
class Tally:
    """How often a kernel was looked at, and how often it showed something other than the good finding."""

    looks: int
    others: int


@dataclass(frozen=True)
class Places:
    """What is known of the place of the change. `chances[i]` is that kernel i is the first one after it (0 for the
    first kernel, which is known to be before it); `none` is the chance that nothing changes. They sum up to 1.
    """

    chances: tuple[float, ...]
    none: float


@dataclass(frozen=True)
class _Side:
    looks: int
    others: int

    @property
    def log_evidence(self) -> float:
        goods = self.looks - self.others
        return _log_beta(_PRIOR + self.others, _PRIOR + goods) - _log_beta(_PRIOR, _PRIOR)

    @property
    def mean(self) -> float:
        return (_PRIOR + self.others) / (2 * _PRIOR + self.looks)


def places(tallies: Sequence[Tally], weights: Sequence[float]) -> Places:
    """The posterior. `weights[i]` is how much is to be expected beforehand that kernel i is the first changed one, any
    numbers above 0; `weights[0]` that none is.
    """
    sides = _sides(tallies)
    # a change at the first kernel leaves all looks on one side: that is no change
    logs = [
        math.log(weight) + before.log_evidence + after.log_evidence
        for weight, (before, after) in zip(weights, sides, strict=True)
    ]
    highest = max(logs)
    parts = [math.exp(log - highest) for log in logs]
    norm = math.fsum(parts)
    return Places((0.0, *(part / norm for part in parts[1:])), parts[0] / norm)


def most_informative(tallies: Sequence[Tally], known: Places, count: int) -> tuple[int, ...]:
    """The kernels to look at next, at most `count`: each the one of most information in its share of the posterior."""
    entropies = expected_entropies(tallies, known.chances)
    mass = [*accumulate(known.chances)]
    chosen: list[int] = []
    for share in range(count):
        low, high = share / count * mass[-1], (share + 1) / count * mass[-1]
        inside = [i for i in range(len(mass)) if low <= mass[i] - known.chances[i] / 2 <= high and i not in chosen]
        rest = inside or [i for i in range(len(mass)) if i not in chosen]
        if rest:
            chosen.append(_lowest(rest, entropies))
    return tuple(sorted(chosen))


def expected_entropies(tallies: Sequence[Tally], chances: Sequence[float]) -> tuple[float, ...]:
    """How much entropy of the place, in bits, is left on average after one more look at each kernel."""
    sides = _sides(tallies)
    entropies = [0.0] * len(tallies)
    for means in ([(a.mean, b.mean) for a, b in sides], [(1 - a.mean, 1 - b.mean) for a, b in sides]):
        before = [chance * mean for chance, (mean, _) in zip(chances, means, strict=True)]
        after = [chance * mean for chance, (_, mean) in zip(chances, means, strict=True)]
        wholes = _seen_at(before, after)
        logs = _seen_at([*map(_xlogx, before)], [*map(_xlogx, after)])
        entropies = [sum_ + _xlogx(whole) - log for sum_, whole, log in zip(entropies, wholes, logs, strict=True)]
    return tuple(entropies)


def _seen_at(before: Sequence[float], after: Sequence[float]) -> list[float]:
    """The sum over all places of the change, for a look at each kernel: it is after those up to it, before the rest."""
    whole = math.fsum(before)
    return [up_to + whole - passed for up_to, passed in zip(accumulate(after), accumulate(before), strict=True)]


def _sides(tallies: Sequence[Tally]) -> list[tuple[_Side, _Side]]:
    """For a change at each kernel the looks before it and those from it on."""
    looks = [*accumulate((tally.looks for tally in tallies), initial=0)]
    others = [*accumulate((tally.others for tally in tallies), initial=0)]
    return [
        (_Side(looks[i], others[i]), _Side(looks[-1] - looks[i], others[-1] - others[i])) for i in range(len(tallies))
    ]


def _lowest(places: Collection[int], values: Sequence[float]) -> int:
    """The place of the least value; of equal ones the one in the middle."""
    least = min(values[place] for place in places)
    equal = [place for place in places if values[place] <= least + 1e-9]
    return equal[len(equal) // 2]


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _xlogx(value: float) -> float:
    return value * math.log2(value) if value > 0 else 0.0
