"""Samples as the guest sends them: what is missing stays missing, what is no sample is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.core.evidence import Sample, parse_sample, parse_samples
from lab.core.judging.rises import total

STAT = "entries  searched drop early_drop\n00000007 00000000 00000002 00000001\n00000007 00000000 0000000a 00000000\n"
RAW: dict[str, Any] = {
    "seconds": 0.25,
    "count": "7\n",
    "max": "100\n",
    "stat": STAT,
    "attempted": 9,
    "held": 5,
    "failed": 1,
    "lost": 2,
    "accepted": 6,
}


def test_a_sample_is_read_from_the_kernels_own_text() -> None:
    sample = parse_sample(RAW)
    assert (sample.seconds, sample.entries, sample.table_max) == (0.25, 7, 100)
    assert (sample.counter("drop"), sample.counter("early_drop"), sample.counter("insert_failed")) == (12, 1, None)
    assert (sample.attempted, sample.held, sample.failed, sample.lost, sample.accepted) == (9, 5, 1, 2, 6)


def test_what_could_not_be_read_is_none() -> None:
    sample = parse_sample({"seconds": 1, "count": None, "max": None, "stat": None})
    assert sample == Sample(1.0, None, None, None)
    assert sample.counter("drop") is None


@pytest.mark.parametrize(
    ("entries", "table_max", "full"),
    [(100, 100, True), (101, 100, True), (99, 100, False), (None, 100, False), (100, None, False), (100, 0, False)],
)
def test_when_a_table_is_full(entries: int | None, table_max: int | None, full: bool) -> None:
    assert Sample(0, entries, table_max, None).full is full


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": None},
        {"seconds": "1"},
        {"seconds": True},
        {"seconds": -1},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"seconds": 10**400},
        {"held": -1},
        {"held": 1.5},
        {"held": True},
        {"held": None},
        {"count": 7},
        {"count": "seven"},
        {"count": ""},
        {"max": ["100"]},
        {"stat": ""},
        {"stat": "entries drop\n"},
        {"stat": "entries drop\nzz 00\n"},
        {"stat": 0},
    ],
)
def test_what_is_no_sample_is_refused_with_its_line(wrong: dict[str, Any]) -> None:
    lines = [json.dumps(RAW), json.dumps({**RAW, **wrong})]
    with pytest.raises(ValueError, match=r"^sample 2: "):
        parse_samples(lines)


@pytest.mark.parametrize("line", ["", "[]", "7", "null", '{"seconds": 1', "\x00"])
def test_a_line_that_is_no_sample_at_all(line: str) -> None:
    with pytest.raises(ValueError, match=r"^sample 1: "):
        parse_samples([line])


def test_samples_come_in_the_order_of_time_and_of_progress() -> None:
    lines = [json.dumps({**RAW, "seconds": seconds, "attempted": n}) for seconds, n in ((2, 9), (1, 5), (1, 4), (0, 9))]
    assert [(one.seconds, one.attempted) for one in parse_samples(lines)] == [(0, 9), (1, 4), (1, 5), (2, 9)]


def test_an_unknown_comes_before_a_zero_of_the_same_time() -> None:
    unknown, zero = {**RAW, "count": None}, {**RAW, "count": "0"}
    for order in ((unknown, zero), (zero, unknown)):
        assert [one.entries for one in parse_samples(map(json.dumps, order))] == [None, 0]


def counted(*drops: int | None) -> list[Sample]:
    return [Sample(n, 0, 100, None if drop is None else {"drop": drop}) for n, drop in enumerate(drops)]


@pytest.mark.parametrize(
    ("drops", "rise"),
    [
        ((5, 7, 9), 4),
        ((5,), 0),
        ((), None),
        ((None, 9), None),
        ((5, None), None),
        ((5, None, 6), 1),
        ((2**32 - 2, 3), 5),
        ((9, 0), 0),  # a module that was loaded again counts from 0: what came before that is not known, and is said
        ((9, 2, 5), 5),
    ],
)
def test_how_far_a_counter_rose(drops: tuple[int | None, ...], rise: int | None) -> None:
    assert total(counted(*drops), "drop") == rise
    assert total(counted(*drops), "insert_failed") is None
