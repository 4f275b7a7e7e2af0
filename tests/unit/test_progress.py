"""Progress: live lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.core.plan import CellPlan
from lab.host import progress
from lab.host.progress import Reporter, describe
from lab.host.provision.replay import recorded_plan
from lab.host.recording import Progress

CELLS = Path(__file__).parents[1] / "golden" / "cells"
LOADING = Progress("load", held=12, connections=300, entries="99", table_max="100", drops=3)
RESULT: dict[str, Any] = {
    "cell": "pristine@debian12",
    "finding": "untracked",
    "as_expected": True,
    "reason": "nothing is there",
    "tries": [{}],
}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def plan() -> CellPlan:
    return recorded_plan(CELLS / "pristine@debian12")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    return clock


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Progress("restore"), "restore"),
        (Progress("load", connections=300), "load"),
        (LOADING, "load, 12 of 300 held, 99 of 100 entries, 3 drops"),
        (Progress("load", held=1, connections=2), "load, 1 of 2 held, no table, drops unknown"),
        (Progress("restore", mitigation=True), "mitigation, restore"),
        (replace(LOADING, mitigation=True), "mitigation, load, 12 of 300 held, 99 of 100 entries, 3 drops"),
        (Progress("load", held=1, connections=2, entries="0", table_max="9", drops=0), "0 of 9 entries, 0 drops"),
    ],
)
def test_a_stage_in_words(seen: Progress, words: str) -> None:
    assert describe(seen).endswith(words)


def test_plain_lines_for_what_is_no_terminal(plan: CellPlan, clock: Clock) -> None:
    stream = io.StringIO()
    reporter = Reporter(stream, total=2)
    reporter.progress(plan, Progress("restore"))
    for _ in range(30):  # three seconds of samples: one line at first, one after two seconds
        reporter.progress(plan, LOADING)
        clock.seconds += 0.1
    reporter.result(plan, RESULT)
    reporter.close()
    assert stream.getvalue().splitlines() == [
        "pristine@debian12: restore",
        "pristine@debian12: load, 12 of 300 held, 99 of 100 entries, 3 drops",
        "pristine@debian12: load, 12 of 300 held, 99 of 100 entries, 3 drops",
        "[1/2] pristine@debian12: untracked, ok: nothing is there (3.0 s)",
    ]


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_escape_sequence_where_it_is_not_wanted(
    plan: CellPlan, clock: Clock, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    stream = Terminal()
    reporter = Reporter(stream, total=1)
    reporter.progress(plan, LOADING)
    reporter.result(plan, RESULT)
    reporter.close()
    assert "\x1b" not in stream.getvalue()


def screen(text: str) -> list[str]:
    """What a terminal shows in the end: `ESC [ n F` goes up n lines, `ESC [ J` clears from there on."""
    lines: list[str] = []
    for number, part in enumerate(text.split("\x1b[")):
        if number and part.startswith("J"):
            part = part[1:]
        elif number:
            up, _, part = part.partition("F")
            del lines[len(lines) - int(up) :]
        lines += part.splitlines()
    return lines


def test_a_terminal_shows_one_live_line_for_each_cell(plan: CellPlan, clock: Clock) -> None:
    stream = Terminal()
    reporter = Reporter(stream, total=2)
    other = recorded_plan(CELLS / "pristine@forky")
    for held in range(5):
        reporter.progress(plan, Progress("load", held=held, connections=300))
        clock.seconds += 1
        reporter.progress(other, Progress("state"))
        clock.seconds += 1
    assert screen(stream.getvalue()) == [
        "  pristine@debian12: load, 4 of 300 held, no table, drops unknown",
        "  pristine@forky: state",
    ]
    reporter.say("a word")
    reporter.result(plan, RESULT)
    assert screen(stream.getvalue()) == ["a word", "[1/2] pristine@debian12: untracked, ok: nothing is there (10.0 s)"]
    reporter.progress(other, Progress("collect"))
    assert screen(stream.getvalue())[-1] == "  pristine@forky: collect"
    reporter.close()
    assert len(screen(stream.getvalue())) == 2


def test_a_terminal_is_not_redrawn_for_every_sample(plan: CellPlan, clock: Clock) -> None:
    stream = Terminal()
    reporter = Reporter(stream, total=1)
    for _ in range(100):
        reporter.progress(plan, LOADING)
    assert stream.getvalue().count("pristine") == 1


def test_a_live_line_never_wraps(plan: CellPlan, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    Reporter(stream, total=1).progress(plan, LOADING)
    assert [len(line) for line in stream.getvalue().splitlines()] == [39]
