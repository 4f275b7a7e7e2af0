"""The pace of a load, by a clock that the test turns: the rate is kept, and what was missed is no burst."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.guest.pace import TURN_SECONDS, Pace


def test_no_rate_is_no_limit_but_the_batch_and_the_room() -> None:
    pace = Pace(0.0, 512)
    assert [pace.take(0.0, room) for room in (1000, 100, 0, -3)] == [512, 100, 0, 0]
    assert pace.turn_seconds == 0


@pytest.mark.parametrize("rate", [1.0, 7.5, 100.0, 5000.0, 80_000.0])
def test_a_rate_is_kept(rate: float) -> None:
    pace = Pace(rate, 512)
    turns = int(10 / pace.turn_seconds)
    taken = sum(pace.take(5000.0 + turn * pace.turn_seconds, 10**6) for turn in range(turns + 1))
    assert abs(taken - 10 * rate) <= rate * pace.turn_seconds + 2
    assert pace.turn_seconds <= TURN_SECONDS


def test_the_first_is_due_at_once() -> None:
    pace = Pace(0.5, 512)
    assert [pace.take(now, 10) for now in (100.0, 101.0, 102.0, 103.0, 104.0)] == [1, 0, 1, 0, 1]


def test_what_was_missed_is_not_caught_up_with() -> None:
    pace = Pace(1000.0, 50)
    assert pace.take(0.0, 1000) == 1
    assert pace.take(60.0, 1000) == 50
    assert pace.take(60.0, 1000) <= 50  # at most one batch is remembered
    assert pace.take(60.0, 1000) == 0
    assert pace.take(60.02, 1000) == 20


def test_what_found_no_room_waits_for_it() -> None:
    pace = Pace(100.0, 50)
    assert pace.take(0.0, 0) == 0
    assert pace.take(0.1, 4) == 4
    assert pace.take(0.1, 50) == 7


@given(
    rate=st.floats(0.1, 1e6),
    batch=st.integers(1, 1000),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(-5, 2000)), max_size=50),
)
def test_never_more_than_the_rate_the_batch_and_the_room(
    rate: float, batch: int, steps: list[tuple[float, int]]
) -> None:
    pace = Pace(rate, batch)
    now, total = 0.0, 0
    for step, room in steps:
        now += step
        taken = pace.take(now, room)
        assert 0 <= taken <= min(batch, max(0, room))
        total += taken
        assert total <= 1 + now * rate * (1 + 1e-9) + 1e-6
