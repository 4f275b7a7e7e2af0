"""Progress on stderr: a block of live lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any, TextIO

from lab.core.plan import CellPlan
from lab.host.output import one_line
from lab.host.recording import Progress

_REDRAW_SECONDS = 0.1
_PLAIN_SECONDS = 2.0


class Reporter:
    """Tells what happens; how depends on the stream only."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._total = total
        self._ended = 0
        self._live = stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")
        self._active: dict[str, Progress] = {}
        self._started: dict[str, float] = {}
        self._told_at: dict[str, float] = {}
        self._drawn_lines = 0
        self._drawn_at = 0.0

    def say(self, text: str) -> None:
        """A line that stays."""
        self._erase()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def progress(self, plan: CellPlan, seen: Progress) -> None:
        """Where a cell is now."""
        before = self._active.get(plan.cell)
        self._active[plan.cell] = seen
        self._started.setdefault(plan.cell, time.monotonic())
        if self._live:
            self._draw()
            return
        told_at = self._told_at.get(plan.cell, 0.0)
        if before is None or before.stage != seen.stage or time.monotonic() - told_at > _PLAIN_SECONDS:
            self._told_at[plan.cell] = time.monotonic()
            self.say(f"{plan.cell}: {describe(seen)}")

    def result(self, plan: CellPlan, result: dict[str, Any]) -> None:
        """A cell has ended."""
        self._ended += 1
        self._active.pop(plan.cell, None)
        seconds = time.monotonic() - self._started.pop(plan.cell, time.monotonic())
        self.say(f"[{self._ended}/{self._total}] {one_line(result)} ({seconds:.1f} s)")

    def close(self) -> None:
        """Take the live lines away."""
        self._erase()
        self._stream.flush()

    def _draw(self) -> None:
        if time.monotonic() - self._drawn_at < _REDRAW_SECONDS:
            return
        self._erase()
        width = shutil.get_terminal_size().columns - 1
        lines = [f"  {cell}: {describe(seen)}"[:width] for cell, seen in self._active.items()]
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()
        self._drawn_lines, self._drawn_at = len(lines), time.monotonic()

    def _erase(self) -> None:
        if self._drawn_lines:
            self._stream.write(f"\x1b[{self._drawn_lines}F\x1b[J")  # up to the block's first line, clear from there
            self._drawn_lines = 0


def describe(seen: Progress) -> str:
    """A cell's stage in words, with what is known of the load."""
    stage = f"mitigation, {seen.stage}" if seen.mitigation else seen.stage
    if seen.stage != "load" or seen.held is None:
        return stage
    parts = [f"{stage}, {seen.held} of {seen.connections} held"]
    parts.append("no table" if seen.entries is None else f"{seen.entries} of {seen.table_max} entries")
    parts.append("drops unknown" if seen.drops is None else f"{seen.drops} drops")
    return ", ".join(parts)
