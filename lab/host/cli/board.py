"""What is under way, as a value: the cells that run, those that ended, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import median

from lab.host.run.recording import Progress

# stages after the load: what was last known of the load still holds
_AFTER_LOAD = ("collect", "destroy")


@dataclass(frozen=True)
class Running:
    """A cell that is under way: where it is, what was last known of its load, and when it began."""

    stage: Progress
    load: Progress
    began_seconds: float


@dataclass(frozen=True)
class Board:
    """A run as it stands. Times are of one monotonic clock; `expected` is what cells took in an earlier run."""

    total: int
    began_seconds: float
    expected: Mapping[str, float] = field(default_factory=dict, hash=False)
    running: Mapping[str, Running] = field(default_factory=dict, hash=False)
    ended_seconds: Mapping[str, float] = field(default_factory=dict, hash=False)

    def seen(self, cell: str, progress: Progress, now: float) -> Board:
        """The board after a cell told where it is."""
        before = self.running.get(cell)
        keeps = before is not None and progress.held is None and progress.stage in _AFTER_LOAD
        load = before.load if before is not None and keeps else progress
        began = now if before is None else before.began_seconds
        return replace(self, running={**self.running, cell: Running(progress, load, began)})

    def ended(self, cell: str, now: float) -> Board:
        """The board after a cell has ended."""
        before = self.running.get(cell)
        seconds = 0.0 if before is None else now - before.began_seconds
        running = {name: cell_seen for name, cell_seen in self.running.items() if name != cell}
        return replace(self, running=running, ended_seconds={**self.ended_seconds, cell: seconds})

    def left_seconds(self, cell: str, now: float) -> float | None:
        """How long a running cell may still take; None where nothing tells, also when it took longer than expected."""
        expected = self._expected_seconds(cell)
        if expected is None:
            return None
        left = expected - (now - self.running[cell].began_seconds)
        return left if left > 0 else None

    def all_left_seconds(self, now: float) -> float | None:
        """How long the whole run may still take; None where nothing tells.

        It is taken that as many cells run at once as do now. A cell that is late is taken to end at any moment.
        """
        running = [self._expected_seconds(cell) for cell in self.running]
        waiting = self.total - len(self.running) - len(self.ended_seconds)
        known = [self.expected[cell] for cell in self.expected if not self._has_begun(cell)][: max(0, waiting)]
        rest = [self._usual_seconds()] * (waiting - len(known))
        if None in running or None in rest:
            return None
        left = [max(0.0, self.left_seconds(cell, now) or 0.0) for cell in self.running]
        every = sum(left) + sum(known) + sum(seconds for seconds in rest if seconds is not None)
        return max([every / max(1, len(self.running)), *left])

    def _has_begun(self, cell: str) -> bool:
        return cell in self.running or cell in self.ended_seconds

    def _expected_seconds(self, cell: str) -> float | None:
        """What a cell takes: as in the earlier run, else as the cells of this one did."""
        return self.expected.get(cell, self._usual_seconds())

    def _usual_seconds(self) -> float | None:
        """The median of the cells that ended, else of those of the earlier run; None where there are none."""
        known = self.ended_seconds or self.expected
        return median(known.values()) if known else None


def clock(seconds: float) -> str:
    """A span of time as `m:ss`, from an hour on as `h:mm:ss`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def overall(board: Board, now: float) -> str:
    """The run in a line: `2 of 8 cells ended, 1:23 elapsed, about 3:10 left`."""
    left = board.all_left_seconds(now)
    remaining = "time left unknown" if left is None else f"about {clock(left)} left"
    ended = f"{len(board.ended_seconds)} of {board.total} cells ended"
    return f"{ended}, {clock(now - board.began_seconds)} elapsed, {remaining}"
