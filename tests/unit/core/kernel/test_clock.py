"""A guest's clock beside the host's: what is certain, and what recorded consoles say of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.core.kernel.clock import Reading, rates, tsc_lines, wrong_clock
from tests.recordings import GOLDEN

# as 6.1 printed it under QEMU on a host with other work, and on one without
BUSY = """[    0.000000] clocksource: hpet: mask: 0xffffffff max_cycles: 0xffffffff, max_idle_ns: 19112604467 ns
[    0.028000] tsc: Unable to calibrate against PIT
[    0.032000] tsc: using HPET reference calibration
[    0.036000] tsc: Detected 2596.131 MHz processor
[    0.000819] clocksource: tsc-early: mask: 0xffffffffffffffff max_cycles: 0x256bf512d64, max_idle_ns: 440795218697 ns
[    3.496379] clocksource: Switched to clocksource tsc-early
[    6.377353] tsc: Refined TSC clocksource calibration: 2596.126 MHz
[    6.409463] clocksource: Switched to clocksource tsc
"""
FAST_LINES = ("tsc: Fast TSC calibration using PIT", "tsc: Detected 2596.120 MHz processor")


def test_a_console_tells_how_the_tsc_was_measured() -> None:
    assert tsc_lines(BUSY) == (
        "tsc: Unable to calibrate against PIT",
        "tsc: using HPET reference calibration",
        "tsc: Detected 2596.131 MHz processor",
        "tsc: Refined TSC clocksource calibration: 2596.126 MHz",
    )
    assert tsc_lines("[    0.000000] Linux version 6.1\nlab agent: ready\n") == ()


@pytest.mark.parametrize("target", ["debian11", "debian12", "forky"])
def test_recorded_consoles_have_the_frequency(target: str) -> None:
    console = (GOLDEN / "cells" / f"pristine@{target}" / "console.log").read_text()
    lines = tsc_lines(console)
    assert any(line.endswith(" MHz") or line.endswith(" MHz processor") for line in lines), lines


@pytest.mark.parametrize(
    ("guest_seconds", "words"),
    [
        (2.0, None),
        (2.05, None),
        (1.95, None),
        (2.2, "at least 1.09 times as fast as the host's (tsc: Unable"),
        (1.0, "at most 0.50 times as fast as the host's (tsc: Unable"),
        (0.0, "at most 0.00 times"),
    ],
)
def test_a_clock_beyond_a_few_percent_is_wrong(guest_seconds: float, words: str | None) -> None:
    first, last = Reading(10.0, 3.0, 10.005), Reading(12.005, 3.0 + guest_seconds, 12.01)
    wrong = wrong_clock(first, last, BUSY)
    assert (wrong is None) == (words is None)
    assert words is None or words in str(wrong)
    assert "processor; tsc: Refined" in str(wrong) or words is None
    assert (wrong_clock(first, last, "") or "").endswith("the host's") or words is None


def test_slow_answers_say_nothing() -> None:
    first, last = Reading(10.0, 3.0, 13.0), Reading(11.0, 3.9, 20.0)
    slowest, fastest = rates(first, last)
    assert 0.089 < slowest < 0.091 and fastest == float("inf")
    assert wrong_clock(first, last, BUSY) is None


seconds = st.floats(0, 1000, allow_nan=False)


@given(seconds, seconds, seconds, seconds, seconds, st.floats(0.98, 1.02))
def test_a_right_clock_is_never_called_wrong(a: float, b: float, c: float, d: float, pause: float, rate: float) -> None:
    """However late the questions arrive and the answers come."""
    read_first = 100 + a
    read_last = read_first + b + pause + 0.001 + c
    first = Reading(100, rate * read_first, read_first + b)
    last = Reading(read_first + b + pause + 0.001, rate * read_last, read_last + d)
    assert wrong_clock(first, last, "") is None
