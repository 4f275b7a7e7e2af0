# ruff: noqa: T201
"""What every benchmark does alike: interleaved runs, statistics, targets, a table, JSON, and one line per metric.

    values = pairs(measure_ours, measure_floor, 5)                  # A B A B ...
    ratio = summary(ratio_of_each(values, lambda run: run.rate))    # of each pair, then the median
    metrics = [Metric.of("hold-20000", ratio, "ratio", target=0.9)]
    return report("load", metrics, [Table("hold", ("count", "ratio"), [("20,000", ratio.text(2))])])

A benchmark's exit status is what `report` returns: 0 every target met, 1 one was missed or not measured. 2 is left for
what stops a benchmark before it measured anything (`BenchError`).
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"  # git-ignored
SCHEMA_VERSION = 1
MIN_PAIRS = 5

A = TypeVar("A")
B = TypeVar("B")
Better = Literal["higher", "lower"]


class BenchError(Exception):
    """Nothing could be measured; the text says why, and the hint."""


@dataclass(frozen=True)
class Summary:
    """Values of the same thing, measured again and again."""

    count: int
    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """How far the values lie apart, as a share of the median: what a smaller difference cannot be told from."""
        return (self.high - self.low) / self.median if self.median else 0.0

    def text(self, digits: int = 0) -> str:
        """`median (low..high)`."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}..{self.high:,.{digits}f})"


@dataclass(frozen=True)
class Metric:
    """A measured number against its target. A median of None was not measured, which `note` explains."""

    name: str  # one word
    median: float | None
    unit: str  # one word
    target: float | None = None  # None: there is none
    better: Better = "higher"
    summary: Summary | None = None
    note: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        measured: Summary | None,
        unit: str,
        target: float | None = None,
        better: Better = "higher",
        note: str = "",
    ) -> Metric:
        """The metric of a summary; of None where nothing could be measured."""
        return cls(name, None if measured is None else measured.median, unit, target, better, measured, note)

    @property
    def verdict(self) -> Literal["ok", "short", "unmeasured", "-"]:
        """Whether the target is met; "-" where there is none."""
        if self.median is None:
            return "unmeasured"
        if self.target is None:
            return "-"
        met = self.median >= self.target if self.better == "higher" else self.median <= self.target
        return "ok" if met else "short"

    def line(self) -> str:
        """`METRIC MEDIAN UNIT target TARGET ok|short`, six words; what is not there is `-`."""
        sign = ">=" if self.better == "higher" else "<="
        target = "-" if self.target is None else f"{sign}{number(self.target)}"
        return f"{self.name} {number(self.median)} {self.unit} target {target} {self.verdict}"

    def to_json(self) -> dict[str, Any]:
        """As written into a benchmark's JSON."""
        return {**asdict(self), "verdict": self.verdict}


@dataclass(frozen=True)
class Table:
    """Rows for people; the first column is aligned left, the others right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def lines(self) -> list[str]:
        """The table as text, its title first and its note last."""
        every = [self.columns, *self.rows]
        widths = [max(len(row[place]) for row in every) for place in range(len(self.columns))]
        lines = [self.title]
        for row in every:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            lines.append("  " + "  ".join(cells).rstrip())
        return [*lines, f"  ({self.note})"] if self.note else lines


def pairs(a: Callable[[], A], b: Callable[[], B], count: int, warm_up: int = 0) -> list[tuple[A, B]]:
    """Run a and b in turn, A B A B, `count` times each; what the first `warm_up` turns return is thrown away."""
    return [(a(), b()) for _ in range(warm_up + count)][warm_up:]


def rounds(variants: Mapping[str, Callable[[], A]], count: int, warm_up: int = 0) -> dict[str, list[A]]:
    """The same for any number of variants, A B C A B C; what each returned, in the order of the rounds."""
    turns = [{name: run() for name, run in variants.items()} for _ in range(warm_up + count)][warm_up:]
    return {name: [turn[name] for turn in turns] for name in variants}


def ratio_of_each(values: Sequence[tuple[A, A]], value: Callable[[A], float]) -> list[float]:
    """A's value in B's, of each pair: what both of a pair met alike (a busy machine) cancels out."""
    return [value(first) / value(second) for first, second in values]


def summary(values: Sequence[float]) -> Summary:
    """Median and range; raises ValueError for no values."""
    if not values:
        raise ValueError("no values to sum up")
    return Summary(len(values), statistics.median(values), min(values), max(values))


def number(value: float | None) -> str:
    """Three significant digits, whole numbers from 100 on, no thousands separators; `-` for None."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was at that moment."""
    uname = os.uname()
    return {
        "kernel_release": uname.release,
        "architecture": uname.machine,
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": list(os.getloadavg()),
        "kvm": Path("/dev/kvm").exists(),
        "commit": _commit(),
    }


def report(
    name: str,
    metrics: Sequence[Metric],
    tables: Sequence[Table],
    path: Path | None = None,
    details: Mapping[str, Any] | None = None,
) -> int:
    """Print the tables, write the JSON, print the metric lines last; returns the exit status.

    The JSON goes to `path`, or to bench/results/NAME-TIME.json; `details` are the benchmark's own, raw values best.
    """
    now = datetime.now(UTC)
    path = path or RESULTS / f"{name}-{now:%Y%m%dT%H%M%SZ}.json"
    for table in tables:
        print("\n".join(table.lines()), end="\n\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": name,
        "ended_at": now.isoformat(timespec="seconds"),
        "command": sys.argv,
        "machine": machine(),
        "metrics": [metric.to_json() for metric in metrics],
        "tables": [asdict(table) for table in tables],
        "details": dict(details or {}),
    }
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"written: {os.path.relpath(path)}")
    for metric in metrics:
        if metric.note:
            print(f"{metric.name}: {metric.note}")
    print("\n".join(metric.line() for metric in metrics), flush=True)
    return int(any(metric.verdict in ("short", "unmeasured") for metric in metrics))


def progress(text: str) -> None:
    """Tell people what is being measured, on stderr."""
    print(text, file=sys.stderr, flush=True)


def _commit() -> str | None:
    """The commit of this clone, with `-dirty` where files differ; None outside of one."""
    try:
        argv = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
