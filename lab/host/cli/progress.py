"""Progress on stderr: live rows on a terminal, plain lines elsewhere, nothing but errors where that is asked for."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Protocol, TextIO

from lab.core.plan import CellPlan, describe_load
from lab.core.render.tables import one_line
from lab.core.result import CellResult
from lab.core.text import printable
from lab.host.cli.board import Board
from lab.host.run.recording import Progress

_PLAIN_SECONDS = 2.0
_STYLES = {"DIFFERS": "red", "unclear": "yellow"}


class Loudness(Enum):
    """How much is said: results and errors only, what happens, or every stage and step of it too."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


class Rows(Protocol):
    """The live part of a terminal, below the lines that stay (lab/host/cli/live.py)."""

    def show(self) -> None:
        """Show the rows from now on, redrawn several times a second."""

    def refresh(self) -> None:
        """Draw the rows now."""

    def line(self, text: str, style: str) -> None:
        """A line that stays, above the rows."""

    def close(self) -> None:
        """Take the rows away."""


class Reporter:
    """Tells what happens; how depends on the stream only, how much on what was asked for.

    `total` is the number of cells, `expected` what those of them took that an earlier run had, in seconds.
    """

    def __init__(
        self,
        stream: TextIO,
        total: int,
        *,
        loudness: Loudness = Loudness.NORMAL,
        expected: Mapping[str, float] | None = None,
    ) -> None:
        self._stream = stream
        self._loudness = loudness
        self._board = Board(total, time.monotonic(), expected or {})
        self._told_at: dict[str, float] = {}
        self._rows = None if loudness is Loudness.QUIET else _rows(stream, self)

    @property
    def board(self) -> Board:
        """What is under way now."""
        return self._board

    def say(self, text: str, style: str = "") -> None:
        """A line that stays. Whatever it holds, it is only words: nothing of it begins a line or steers a terminal."""
        if self._loudness is Loudness.QUIET:
            return
        if self._rows is not None:
            self._rows.line(printable(text), style)
        else:
            self._stream.write(f"{printable(text)}\n")
        self._stream.flush()

    def detail(self, text: str) -> None:
        """A line that only --verbose shows."""
        if self._loudness is Loudness.VERBOSE:
            self.say(text)

    def progress(self, plan: CellPlan, seen: Progress) -> None:
        """Where a cell is now."""
        now = time.monotonic()
        before = self._board.running.get(plan.cell)
        self._board = self._board.seen(plan.cell, seen, now)
        entered = before is None or _place(before.stage) != _place(seen)
        if self._rows is not None:
            self._rows.show()
        if seen.step is not None:
            self.detail(f"{plan.cell}: {seen.step}")
        elif entered and self._loudness is Loudness.VERBOSE:
            began = self._board.running[plan.cell].began_seconds
            self.say(f"{plan.cell}: {_in_full(plan, seen)} ({now - began:.1f} s)")
        elif self._rows is None and (entered or now - self._told_at.get(plan.cell, 0.0) > _PLAIN_SECONDS):
            self.say(f"{plan.cell}: {describe(seen)}")
        else:
            return
        self._told_at[plan.cell] = now

    def result(self, plan: CellPlan, result: CellResult) -> None:
        """A cell has ended."""
        self._board = self._board.ended(plan.cell, time.monotonic())
        count, seconds = len(self._board.ended_seconds), self._board.ended_seconds[plan.cell]
        line = f"[{count}/{self._board.total}] {one_line(result)} ({seconds:.1f} s)"
        self.say(line, _STYLES.get(result.mark, ""))

    def refresh(self) -> None:
        """Draw the rows now, where there are any; they are drawn several times a second by themselves."""
        if self._rows is not None:
            self._rows.refresh()

    def close(self) -> None:
        """Take the rows away; what was said stays."""
        if self._rows is not None:
            self._rows.close()
        self._stream.flush()


def describe(seen: Progress) -> str:
    """A cell's stage in words, with what is known of the load."""
    stage = f"mitigation, {seen.stage}" if seen.mitigation else seen.stage
    if seen.stage != "load" or seen.held is None:
        return stage
    parts = [f"{stage}, {seen.held} of {seen.connections} held"]
    parts.append("no table" if seen.entries is None else f"{seen.entries} of {seen.table_max} entries")
    parts.append("drops unknown" if seen.drops is None else f"{seen.drops} drops")
    return ", ".join(parts)


def wants_rows(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether live rows fit the stream: a terminal that can move its cursor, and nobody who wants it plain."""
    moves = environment.get("TERM", "") not in ("", "dumb", "unknown")
    return stream.isatty() and moves and not environment.get("NO_COLOR")


def _rows(stream: TextIO, reporter: Reporter) -> Rows | None:
    if not wants_rows(stream, os.environ):
        return None
    try:
        from lab.host.cli.live import LiveRows
    except ImportError:  # rich comes with the extra `report`; without it there are plain lines
        return None
    return LiveRows(stream, lambda: reporter.board, time.monotonic)


def _place(seen: Progress) -> tuple[str, bool]:
    return seen.stage, seen.mitigation


def _in_full(plan: CellPlan, seen: Progress) -> str:
    """A stage that begins, with what is known of it beforehand."""
    stage = describe(replace(seen, held=None))
    if seen.stage != "load":
        return stage
    table = "the kernel's own max" if plan.conntrack.max is None else f"max {plan.conntrack.max}"
    return f"{stage}: {describe_load(plan.load)}, {table}"
