"""Parsers take a time that grows with the text, whatever a guest prints: bench/parse measures it, these stop a hang."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from bench.shapes import SHAPES, Shape

# A linear parser needs a tenth of a second for this; where pattern or loop is quadratic, minutes
BYTES = 120_000
HANG_SECONDS = 30
# Lines of Python are counted at both sizes
FEW_BYTES, TIMES = 4_000, 4


@contextmanager
def stopped_when_it_hangs(name: str) -> Iterator[None]:
    def stop(*_: object) -> None:
        pytest.fail(f"{name}: still not read after {HANG_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def lines_run(read: Callable[[str], None], text: str) -> int:
    """How many lines of Python run; the turns of a loop in one line are counted, too."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        read(text)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("name", SHAPES)
def test_no_text_makes_it_hang(name: str) -> None:
    shape = SHAPES[name]
    with stopped_when_it_hangs(name):
        shape.read(shape.make(BYTES))


@pytest.mark.parametrize("name", SHAPES)
def test_the_work_grows_with_the_text(name: str) -> None:
    shape = SHAPES[name]
    shape.read(shape.make(FEW_BYTES))  # what is made once
    few, many = (shape.make(size) for size in (FEW_BYTES, FEW_BYTES * TIMES))
    growth = len(many) / len(few)
    assert lines_run(shape.read, many) <= 1.5 * growth * lines_run(shape.read, few) + 100


def test_a_quadratic_reader_would_be_seen() -> None:
    shape = Shape(lambda size: "x" * size, lambda text: [text for _ in text for _ in text])
    few, many = (lines_run(shape.read, shape.make(size)) for size in (50, 200))
    assert many > 1.5 * 4 * few
