"""Where a finding changed that does not come every time."""

from __future__ import annotations

import math

import pytest

from lab.core.bisecting.statistics import Tally, expected_entropies, most_informative, places


def tallies(*shown: str) -> list[Tally]:
    """A tally for each text of looks: `.` is the good finding, `x` another."""
    return [Tally(len(text), text.count("x")) for text in shown]


def test_without_a_look_every_place_is_as_likely_as_was_expected() -> None:
    known = places(tallies("", "", "", ""), [1.0, 1.0, 2.0, 4.0])
    assert known.chances == pytest.approx((0, 1 / 8, 2 / 8, 4 / 8))
    assert known.none == pytest.approx(1 / 8)


def test_clear_looks_leave_one_place() -> None:
    known = places(tallies("." * 8, "." * 8, "x" * 8, "x" * 8), [1.0] * 4)
    assert max(range(4), key=known.chances.__getitem__) == 2
    assert known.chances[2] > 0.99
    assert math.fsum((*known.chances, known.none)) == pytest.approx(1)


def test_the_same_mixture_everywhere_is_no_change() -> None:
    known = places(tallies(*[".x" * 10] * 4), [1.0] * 4)
    assert known.none > 0.6


def test_the_next_look_halves_what_is_left() -> None:
    """With ends that never failed to show theirs, the middle is worth most."""
    seen = tallies("." * 20, *[""] * 7, "x" * 20)
    known = places(seen, [1.0] * 9)
    entropies = expected_entropies(seen, known.chances)
    assert most_informative(seen, known, 1) == (min(range(9), key=entropies.__getitem__),)
    assert most_informative(seen, known, 1)[0] in (3, 4)


def test_several_looks_at_once_are_spread() -> None:
    seen = tallies("." * 20, *[""] * 14, "x" * 20)
    chosen = most_informative(seen, places(seen, [1.0] * 16), 3)
    assert len(set(chosen)) == 3
    assert chosen[0] < 6 < chosen[1] < 10 < chosen[2]
    # there are no more than there are
    assert most_informative(tallies("..", "xx"), places(tallies("..", "xx"), [1.0, 1.0]), 5) == (0, 1)


def test_the_posterior_is_that_of_git_bayesect() -> None:
    """What git_bayesect 1.2 gives for the same looks, which knows no chance that nothing changes."""
    seen = [Tally(3, 1), Tally(0, 0), Tally(1, 0), Tally(1, 0), Tally(1, 1), Tally(1, 1), Tally(0, 0), Tally(3, 2)]
    known = places(seen, [1.0] * 8)
    changed = [chance / (1 - known.none) for chance in known.chances]
    expected = (0.0, 0.080645, 0.080645, 0.141129, 0.395161, 0.141129, 0.080645, 0.080645)
    assert changed == pytest.approx(expected, abs=1e-6)
    entropies = expected_entropies(seen, changed)
    assert min(range(8), key=entropies.__getitem__) == 3
    assert max(entropies) <= 2.498367 + 1e-6  # that of the posterior: a look never adds to it
