"""What a cell's plots show: the table and the connections over time, as lines of points. Nothing is drawn here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lab.core.evidence import Sample
from lab.core.kernel import kmsg
from lab.core.result import CellResult, Connections

Point = tuple[float, float | None]  # seconds since the load's beginning, and a count; None is unknown

# No table and no load comes near; beyond it a number is no count, and a plot of it shows nothing.
MOST = 10**12
_MOST_SECONDS = 10**6
_ROOM = 1.25  # how much longer than its last movement a plot is
_SMALL = 0.05  # of a line's top

# What a load opens, and what `held` counts of it.
_OPENED: Mapping[str, tuple[str, str]] = {
    "hold": ("Connections", "held"),
    "churn": ("Connections", "opened and closed"),
    "half-open": ("SYNs", "sent"),
    "udp": ("Datagrams", "sent"),
}


@dataclass(frozen=True)
class Driven:
    """What is known of a load: its kind, and after how many seconds it had ended."""

    kind: str = "hold"
    seconds: int | float | None = None


@dataclass(frozen=True)
class Line:
    """One line of a plot; `kind` says how it looks, `label` what it is."""

    kind: str
    label: str
    points: tuple[Point, ...]

    @property
    def top(self) -> float:
        """The largest number in it; 0 where none is known."""
        return max((value for _, value in self.points if value is not None), default=0)


@dataclass(frozen=True)
class Panel:
    """One plot: its lines, what is marked in it, and the same as a sentence for who cannot see it."""

    title: str
    summary: str
    seconds: float
    lines: tuple[Line, ...]
    first_drop_seconds: float | None = None
    message_seconds: tuple[float, ...] = ()

    @property
    def top(self) -> float:
        """The largest number in any line, at least 1."""
        return max([1, *(line.top for line in self.lines)])


def panels(
    samples: Sequence[Sample], result: CellResult, load: Driven, message_seconds: Sequence[float]
) -> tuple[Panel, ...]:
    """A cell's plots: of the table, where it has one, and of the connections. None where too little was sampled.

    Raises ValueError for numbers that are no counts.
    """
    if len(samples) < 2 or samples[-1].seconds <= 0:
        return ()
    end = max(samples[-1].seconds, _seconds_of(load.seconds, _MOST_SECONDS) or 0)
    drop = _seconds_of(result.first_drop_seconds, end)
    shown = tuple(moment for moment in message_seconds if moment <= end)
    table = _table(samples, end, drop, shown)
    connections = _connections(samples, end, load, result.connections)
    found = (connections,) if table is None else (table, connections)
    if not all(panel.top <= MOST for panel in found):
        raise ValueError(f"a sample has a number above {MOST:,}")
    busy = max(_last_change(found), drop or 0, *shown, 0)
    return tuple(_zoomed(panel, busy * _ROOM) for panel in found) if 0 < busy * _ROOM <= end / 2 else found


def _last_change(found: Iterable[Panel]) -> float:
    """When any line last moved; what the processes of the load tell at their end is no movement if it is small."""
    last = 0.0
    for line in (line for panel in found for line in panel.lines):
        for (_, before), (seconds, value) in zip(line.points, line.points[1:], strict=False):
            small = _SMALL * line.top if (seconds, value) == line.points[-1] else 0
            if abs((value or 0) - (before or 0)) > small:
                last = max(last, seconds)
    return last


def _zoomed(panel: Panel, seconds: float) -> Panel:
    """The part of a plot in which things happen; its lines go on as they are until the end."""
    lines = tuple(replace(line, points=_until(line.points, seconds)) for line in panel.lines)
    title = f"{panel.title}: {seconds:.1f} of {panel.seconds:.1f} s, then nothing moves"
    return replace(panel, title=title, seconds=seconds, lines=lines)


def _until(points: Sequence[Point], seconds: float) -> tuple[Point, ...]:
    kept = tuple(point for point in points if point[0] <= seconds)
    return (*kept, (seconds, kept[-1][1])) if kept else tuple(points[:1])


def message_seconds(log: Iterable[kmsg.Record], first_drop_seconds: float | None) -> tuple[float, ...]:
    """When the kernel said that the table is full, on the load's clock; empty where nothing ties the two clocks.

    The kernel stamps its log with a clock of its own. Its first such message and the first drop are one event, so the
    messages are placed from there on.
    """
    if first_drop_seconds is None:
        return ()
    times = [record.time_microseconds for record in log if record.from_kernel and kmsg.is_table_full(record.text)]
    return tuple(first_drop_seconds + (time - times[0]) / 10**6 for time in times)


def _table(samples: Sequence[Sample], seconds: float, drop: float | None, messages: tuple[float, ...]) -> Panel | None:
    entries = Line("entries", "entries", _points(samples, lambda sample: sample.entries))
    known = [value for _, value in entries.points if value is not None]
    if not known:
        return None
    # a max of 0 means no bound
    limit = Line("max", "max", _points(samples, lambda sample: sample.table_max or None))
    lines = (entries, limit) if limit.top else (entries,)
    said = [f"Entries in {seconds:.1f} s: {known[0]:,} at first, {known[-1]:,} at last, at most {max(known):,}"]
    said += [f"max {limit.top:,}"] if limit.top else ["no max"]
    said += [f"the first drop at {drop:.2f} s"] if drop is not None else []
    said += [f"{len(messages)} times the kernel's message"] if messages else []
    return Panel("Entries against max, over time", "; ".join(said) + ".", seconds, lines, drop, messages)


def _connections(samples: Sequence[Sample], seconds: float, load: Driven, at_last: Connections | None) -> Panel:
    """The processes of the load tell how far they are now and then, and what became of each connection at its end. So
    the last point is of that end.
    """
    last = samples[-1]
    what, done = _OPENED.get(load.kind, _OPENED["hold"])
    held, waiting, failed = last.held, _waiting(last), last.failed + last.lost
    if at_last is not None:
        held, waiting, failed = at_last.held, at_last.stalled, at_last.failed + at_last.lost
    lines = [
        Line("held", done, (*_points(samples, lambda sample: sample.held), (seconds, held))),
        Line("stalled", "stalled (no answer yet)", (*_points(samples, _waiting), (seconds, waiting))),
    ]
    more = [
        Line(
            "failed",
            "failed or lost",
            (*_points(samples, _gone), (seconds, failed)),
        ),
        Line("newcomers", "newcomers held", _points(samples, lambda sample: sample.newcomers_held)),
    ]
    # those that are held are open
    more += [Line("open", "open", _points(samples, lambda sample: sample.open))] if load.kind != "hold" else []
    lines += [line for line in more if line.top]
    said = f"{what} in {seconds:.1f} s: at last {held:,} {done}, {waiting:,} without an answer"
    said += f", {failed:,} failed or lost." if failed else "."
    title = f"{what} held and stalled, over time" if done == "held" else f"{what} over time"
    return Panel(title, said, seconds, tuple(lines))


def _gone(sample: Sample) -> int:
    return sample.failed + sample.lost


def _waiting(sample: Sample) -> int:
    return max(0, sample.attempted - sample.held - sample.failed - sample.lost)


def _points(samples: Iterable[Sample], value: Callable[[Sample], int | None]) -> tuple[Point, ...]:
    return tuple((sample.seconds, value(sample)) for sample in samples)


def _seconds_of(value: float | None, end: float) -> float | None:
    return float(value) if value is not None and 0 <= value <= end else None
