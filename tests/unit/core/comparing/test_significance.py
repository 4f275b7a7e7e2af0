"""The tests of small samples, against every arrangement counted one by one."""

from __future__ import annotations

import math
import statistics
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.core.comparing import significance
from lab.core.comparing.significance import (
    LEVEL,
    MOST_COUNTED,
    MOST_EXACT,
    fisher,
    holm,
    median,
    outcome_factor,
    outcomes_test,
    rank_test,
    shares_test,
    smallest_p,
)

SIZES = st.integers(0, 6)
VALUES = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=5)


# -- Fisher -----------------------------------------------------------------------------------------------------------


def fisher_by_enumeration(hits: int, size: int, other_hits: int, other_size: int) -> Fraction:
    """Every way to choose which of all the cells are in the first sample."""
    marks = [1] * (hits + other_hits) + [0] * (size + other_size - hits - other_hits)
    found: dict[int, int] = {}
    for chosen in combinations(range(len(marks)), size):
        count = sum(marks[index] for index in chosen)
        found[count] = found.get(count, 0) + 1
    return Fraction(sum(ways for ways in found.values() if ways <= found[hits]), sum(found.values()))


@settings(deadline=None)
@given(SIZES, SIZES, st.data())
def test_fisher_is_what_counting_gives(size: int, other_size: int, data: st.DataObject) -> None:
    hits, other_hits = data.draw(st.integers(0, size)), data.draw(st.integers(0, other_size))
    chance = fisher(hits, size, other_hits, other_size)
    assert chance == fisher_by_enumeration(hits, size, other_hits, other_size)
    assert chance == fisher(other_hits, other_size, hits, size)
    assert chance == fisher(size - hits, size, other_size - other_hits, other_size)
    assert smallest_p(size, other_size) <= chance <= 1


# Fisher's lady tasting tea, and the table of students in Wikipedia's "Fisher's exact test"
@pytest.mark.parametrize(("table", "chance"), [((3, 4, 1, 4), 0.4857), ((1, 12, 9, 12), 0.002759)])
def test_fisher_is_what_books_give(table: tuple[int, int, int, int], chance: float) -> None:
    assert float(fisher(*table)) == pytest.approx(chance, rel=1e-3)


def test_fisher_of_thousands_is_near_to_the_normal_approximation() -> None:
    size, share = 10_000, (5000 + 5200) / 20_000
    distance = (200 - 1) / math.sqrt(2 * size * share * (1 - share))
    assert float(fisher(5000, size, 5200, size)) == pytest.approx(math.erfc(distance / math.sqrt(2)), rel=1e-2)


@given(st.integers(1, 7), st.integers(1, 7))
def test_the_smallest_chance_is_reached_and_not_undercut(size: int, other_size: int) -> None:
    tables = [(hits, size, other, other_size) for hits in range(size + 1) for other in range(other_size + 1)]
    assert min(fisher(*table) for table in tables) == smallest_p(size, other_size)


def test_nothing_at_all_is_never_different() -> None:
    assert fisher(0, 0, 0, 0) == smallest_p(0, 5) == outcomes_test({}, {}) == 1
    assert rank_test([], [1.0]) == rank_test([], []) == 1


COUNTS = st.dictionaries(st.sampled_from(["tracked", "untracked", "table-full"]), st.integers(0, 6), max_size=3)


@given(COUNTS, COUNTS)
def test_outcomes_are_each_against_all_others(counts: dict[str, int], other: dict[str, int]) -> None:
    chance = outcomes_test(counts, other)
    assert chance == outcomes_test(other, counts)
    assert 0 < chance <= 1
    assert outcomes_test(counts, counts) == 1
    names = {name for name in (*counts, *other) if counts.get(name) or other.get(name)}
    sizes = sum(counts.values()), sum(other.values())
    if len(names) == 2:
        name = names.pop()
        assert chance == fisher(counts.get(name, 0), sizes[0], other.get(name, 0), sizes[1])
    assert smallest_p(*sizes) <= chance


def test_a_third_outcome_makes_a_difference_less_certain() -> None:
    two = outcomes_test({"tracked": 5}, {"untracked": 5})
    three = outcomes_test({"tracked": 3, "evicted": 2}, {"untracked": 5})
    assert (two, three) == (Fraction(2, 252), Fraction(3 * 2, 252))
    assert [outcome_factor(number) for number in range(5)] == [1, 1, 1, 3, 4]


# -- ranks ------------------------------------------------------------------------------------------------------------


def doubled_ranks_by_counting(values: list[float]) -> list[int]:
    return [2 * sum(one < value for one in values) + sum(one == value for one in values) + 1 for value in values]


def rank_test_by_enumeration(values: list[float], other: list[float]) -> Fraction:
    """Every way to choose which of all the values are in the first sample."""
    ranks, size = doubled_ranks_by_counting([*values, *other]), len(values)
    mean = size * (len(ranks) + 1)
    seen = abs(sum(ranks[:size]) - mean)
    far = [abs(sum(chosen) - mean) >= seen for chosen in combinations(ranks, size)]
    return Fraction(sum(far), len(far))


@settings(deadline=None)
@given(VALUES, VALUES)
def test_the_rank_test_is_what_counting_gives(values: list[float], other: list[float]) -> None:
    chance = rank_test(values, other)
    assert chance == pytest.approx(float(rank_test_by_enumeration(values, other)), abs=1e-12)
    assert chance == rank_test(other, values)
    assert chance == rank_test(values[::-1], other[::-1])
    assert float(smallest_p(len(values), len(other))) <= chance <= 1


@given(VALUES, VALUES)
def test_only_the_order_counts(values: list[float], other: list[float]) -> None:
    assert rank_test(values, other) == rank_test([value**3 + 7 for value in values], [value**3 + 7 for value in other])
    # one that falls as the other rises
    assert rank_test(values, other) == rank_test([-value for value in values], [-value for value in other])


@pytest.mark.parametrize(("size", "other_size"), [(1, 1), (1, 4), (3, 3), (4, 4), (2, 6)])
def test_samples_that_lie_apart_have_twice_the_chance_of_one_arrangement(size: int, other_size: int) -> None:
    low, high = list(map(float, range(size))), [100.0 + value for value in range(other_size)]
    assert rank_test(low, high) == pytest.approx(2 / math.comb(size + other_size, size))


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=3), st.lists(st.floats(0, 1e9), min_size=1, max_size=3))
def test_three_values_each_are_never_different(values: list[float], other: list[float]) -> None:
    assert rank_test(values, other) > LEVEL or smallest_p(len(values), len(other)) <= LEVEL


def test_two_single_values_are_never_different() -> None:
    assert rank_test([0.0], [10.0**9]) == 1
    assert smallest_p(1, 1) == 1


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(40)), st.integers(0, 30))
def test_the_approximation_is_near_to_what_counting_gives(order: list[int], shift: int) -> None:
    values, other = [float(value + shift) for value in order[:20]], list(map(float, order[20:]))
    counted = rank_test(values, other)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(significance, "MOST_COUNTED", 0)
        assert rank_test(values, other) == pytest.approx(counted, abs=0.01)


def test_large_samples_are_approximated() -> None:
    many = list(map(float, range(MOST_COUNTED)))
    assert rank_test(many, many) == 1
    assert rank_test([1.0] * 40, [1.0] * 40) == 1
    assert rank_test(many, [value + 100 for value in many]) < 1e-10


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_the_median(values: list[float]) -> None:
    assert median(values) == statistics.median(values)


def test_nothing_has_no_median() -> None:
    assert median([]) is None


# -- many tests -------------------------------------------------------------------------------------------------------


def rejected_by_steps(chances: list[float], level: float) -> set[int]:
    """Holm's procedure as he wrote it: from the smallest up, until the first that is not small enough."""
    rejected = set()
    for place, index in enumerate(sorted(range(len(chances)), key=lambda index: chances[index])):
        if min(1.0, (len(chances) - place) * chances[index]) > level:
            break
        rejected.add(index)
    return rejected


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0, 0.99))
def test_holm_calls_different_what_his_steps_do(chances: list[float], level: float) -> None:
    corrected = holm(chances)
    assert {index for index, chance in enumerate(corrected) if chance <= level} == rejected_by_steps(chances, level)
    for chance, after in zip(chances, corrected, strict=True):
        assert chance <= after <= 1


def test_holm_in_numbers() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.02]) == [0.02]


# -- shares of samples of any size ------------------------------------------------------------------------------------


def test_shares_of_small_samples_are_compared_exactly() -> None:
    assert shares_test(900, 1000, 850, 1000) == float(fisher(900, 1000, 850, 1000))
    assert shares_test(0, 0, 3, 3) == shares_test(3, 3, 0, 0) == 1.0


@pytest.mark.parametrize(("hits", "other"), [(500, 500), (500, 540), (500, 560), (20, 40), (0, 6)])
def test_beyond_them_the_approximation_is_close(hits: int, other: int) -> None:
    size = MOST_EXACT // 2 + 1
    assert shares_test(hits, size, other, size) == pytest.approx(float(fisher(hits, size, other, size)), abs=0.02)


def test_shares_of_large_samples() -> None:
    assert shares_test(19_900, 20_000, 19_910, 20_000) > LEVEL
    assert shares_test(19_900, 20_000, 19_000, 20_000) < 1e-9
    assert shares_test(0, 20_000, 0, 20_000) == shares_test(20_000, 20_000, 20_000, 20_000) == 1.0
    assert shares_test(0, 10**6, 1, 10**6) > LEVEL
