"""Whether two small samples differ by more than chance: exact tests in whole numbers, a correction for many tests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import accumulate, groupby

LEVEL = 0.05
# up to so many values together the rank test counts every arrangement; beyond, it takes the normal approximation
MOST_COUNTED = 50
# up to so many values together Fisher's test takes milliseconds
MOST_EXACT = 2000


def fisher(hits: int, size: int, other_hits: int, other_size: int) -> Fraction:
    """Fisher's exact test, two-sided: `hits` of `size` against `other_hits` of `other_size`.

    The chance, where nothing but chance divides the hits, of a division that is at most as likely as the one seen.
    """
    total, both = hits + other_hits, size + other_size
    least, most = max(0, total - other_size), min(size, total)
    ways = [math.comb(size, least) * math.comb(other_size, total - least)]
    for count in range(least, most):  # from one division to the next, for large samples
        ways.append(ways[-1] * (size - count) * (total - count) // ((count + 1) * (other_size - total + count + 1)))
    seen = ways[hits - least]
    return Fraction(sum(way for way in ways if way <= seen), math.comb(both, total))


def shares_test(hits: int, size: int, other_hits: int, other_size: int) -> float:
    """Fisher's test for samples of any size: beyond MOST_EXACT values together the normal approximation of the
    difference of two shares, with the correction for continuity. 1 where a sample is empty.
    """
    if not (size and other_size):
        return 1.0
    if size + other_size <= MOST_EXACT:
        return float(fisher(hits, size, other_hits, other_size))
    share = (hits + other_hits) / (size + other_size)
    deviation = math.sqrt(share * (1 - share) * (1 / size + 1 / other_size))
    if not deviation:
        return 1.0
    distance = abs(hits / size - other_hits / other_size) - (1 / size + 1 / other_size) / 2
    return math.erfc(max(0.0, distance) / deviation / math.sqrt(2))


def smallest_p(size: int, other_size: int) -> Fraction:
    """The least that Fisher's test and the rank test can give for samples of these sizes, whatever is in them."""
    if not (size and other_size):
        return Fraction(1)
    # one arrangement is the most extreme; between samples of one size its mirror image is just as extreme
    extreme = 2 if size == other_size else 1
    return Fraction(extreme, math.comb(size + other_size, size))


def outcomes_test(counts: Mapping[str, int], other: Mapping[str, int]) -> Fraction:
    """Whether outcomes came as often in one sample as in the other.

    Each outcome against all others, by Fisher's test. Of more than two outcomes the smallest p counts, times their
    number (Bonferroni), for each had its chance to be the one that differs.
    """
    names = {name for sample in (counts, other) for name, count in sample.items() if count}
    size, other_size = sum(counts.values()), sum(other.values())
    tests = [fisher(counts.get(name, 0), size, other.get(name, 0), other_size) for name in names]
    return min(Fraction(1), min(tests, default=Fraction(1)) * outcome_factor(len(names)))


def outcome_factor(outcomes: int) -> int:
    """By what `outcomes_test` multiplies: two outcomes are one question, as are none and one."""
    return outcomes if outcomes > 2 else 1


def rank_test(values: Sequence[float], other: Sequence[float]) -> float:
    """The Mann-Whitney U test, two-sided: the chance of ranks that lie at least as far apart as those seen.

    Equal values share their middle rank. Exact for up to MOST_COUNTED values together, ties included; beyond, the
    normal approximation with the corrections for ties and continuity. 1 where a sample is empty.
    """
    if not (values and other):
        return 1.0
    ranks = _doubled_ranks([*values, *other])
    seen = abs(sum(ranks[: len(values)]) - _mean(len(values), len(other)))
    test = _counted if len(ranks) <= MOST_COUNTED else _approximated
    return test(ranks, len(values), seen)


def median(values: Sequence[float]) -> float | None:
    """The middle of the values, or between the two in the middle; None where there are none."""
    if not values:
        return None
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def holm(chances: Sequence[float]) -> list[float]:
    """The chances, corrected by Holm's step-down method for being so many, in their own order.

    Called different are those that are then at most LEVEL: of all such calls of one list any is wrong with at most
    that chance.
    """
    order = sorted(range(len(chances)), key=lambda index: chances[index])
    scaled = (min(1.0, (len(chances) - place) * chances[index]) for place, index in enumerate(order))
    corrected = dict(zip(order, accumulate(scaled, max), strict=True))
    return [corrected[index] for index in range(len(chances))]


def _doubled_ranks(values: Sequence[float]) -> list[int]:
    """Twice each value's rank, which is whole even where equal values share a middle rank."""
    ranks = [0] * len(values)
    before = 0
    for _, group in groupby(sorted(range(len(values)), key=lambda index: values[index]), key=values.__getitem__):
        same = list(group)
        for index in same:
            ranks[index] = 2 * before + len(same) + 1
        before += len(same)
    return ranks


def _mean(size: int, other_size: int) -> int:
    """What the doubled ranks of a sample sum up to in the mean."""
    return size * (size + other_size + 1)


def _counted(ranks: Sequence[int], size: int, seen: int) -> float:
    """The share of all ways to choose `size` of the ranks whose sum is at least as far from the mean.

    `ways[n]` holds, in fields of one whole number, how many choices of n ranks have each sum: adding a rank to all of
    them is one shift. A field is wide enough for all choices together.
    """
    every = math.comb(len(ranks), size)
    width = every.bit_length()
    ways = [1, *[0] * size]
    for rank in ranks:
        for count in range(size, 0, -1):
            ways[count] += ways[count - 1] << rank * width
    mean, field = _mean(size, len(ranks) - size), (1 << width) - 1
    found = ((ways[size] >> total * width) & field for total in range(sum(ranks) + 1) if abs(total - mean) >= seen)
    return float(Fraction(sum(found), every))


def _approximated(ranks: Sequence[int], size: int, seen: int) -> float:
    count, other_size = len(ranks), len(ranks) - size
    ties = sum(same**3 - same for same in Counter(ranks).values())
    variance = size * other_size / 12 * ((count + 1) - ties / (count * (count - 1)))
    if variance <= 0:
        return 1.0
    # the ranks were doubled, so `seen` is twice the distance of U from its mean
    distance = max(0.0, seen / 2 - 0.5)
    return math.erfc(distance / math.sqrt(2 * variance))
