"""bench/verdict: from the first drop in the kernel to the engine that knows it, and from there to the cell's end.

    bench/verdict           a few minutes under emulation
    bench/verdict --quick   two pairs, about half a minute; too few for a figure

When the first drop was is known twice. The kernel logs its message at the first packet that it drops, with the time; a
step of the scenario relates the log's clock to CLOCK_MONOTONIC. And in every other cell a watcher in the guest looks at
the counter about every millisecond, and logs the last look without a drop and the first with one; counted from the last
without, the engine can only look slower than it is. The cells without a watcher show what the watching itself costs.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from bench.common import BenchError, Metric, Table, pairs, progress, report, summary
from bench.guests import SCENARIOS, Apart, main_of, plan_of, take_apart
from lab.core.evidence import Sample, parse_samples
from lab.core.plan import CellPlan
from lab.core.result import Try
from lab.host.machines.machine import Event
from lab.host.results import store
from lab.host.results.judging import judge_folder

SCENARIO = SCENARIOS / "first-drop.toml"
DROP_TO_ENGINE_MS = 30.0
MESSAGE = "table full, dropping packet"
_OURS = re.compile(r"conntrack-lab-bench: (?P<word>clock|drop) (?P<numbers>[\d. ]+)")


@dataclass(frozen=True)
class Drop:
    """When the first drop was, in the guest's CLOCK_MONOTONIC."""

    by_message: float
    after: float | None = None  # the watcher's last look without a drop began then
    before: float | None = None  # its first look with one had ended then
    looks: int | None = None


@dataclass(frozen=True)
class Lag:
    """How one cell went on after the first drop."""

    from_message_ms: float  # the kernel's message to the sample that shows the drop
    from_watcher_ms: float | None  # the watcher's last look without a drop to the same sample
    window_ms: float | None  # between the watcher's two looks
    sample_gap_ms: float  # between that sample and the one before
    load_seconds: float  # from the sample's arrival at the host to the load's end
    collect_seconds: float  # from there to the machine's end
    destroy_seconds: float
    judge_seconds: float  # to write everything, read it back, and judge it
    finding: str

    @property
    def end_seconds(self) -> float:
        """From the sample's arrival to the machine's end."""
        return self.load_seconds + self.collect_seconds + self.destroy_seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; returns the exit status."""
    options = _options(argv)
    once = _measured
    measured = pairs(partial(once, "yes"), partial(once, "no"), 2 if options.quick else options.pairs)
    watched, alone = [pair[0] for pair in measured], [pair[1] for pair in measured]
    by_watcher = [lag.from_watcher_ms for lag in watched if lag.from_watcher_ms is not None]
    metrics = [
        Metric.of("drop-to-engine", summary(by_watcher) if by_watcher else None, "ms", DROP_TO_ENGINE_MS, "lower"),
        Metric.of(
            "drop-to-engine-unwatched",
            summary([lag.from_message_ms for lag in alone]),
            "ms",
            DROP_TO_ENGINE_MS,
            "lower",
        ),
        Metric.of("engine-to-end", summary([lag.end_seconds for lag in alone]), "s", better="lower"),
    ]
    details = {"watched": list(map(asdict, watched)), "unwatched": list(map(asdict, alone))}
    return report("verdict", metrics, [_table(watched, alone)], details=details)


def _measured(watched: str) -> Lag:
    plan = plan_of(str(SCENARIO), connections=None, chosen=[f"watched={watched}"])
    arrived: list[float] = []
    first: list[str] = []

    def on_event(operation: str, event: Event) -> None:
        if operation == "load" and event.get("event") == "sample" and isinstance(event.get("stat"), str):
            first[:] = first or [drops_text(event["stat"])]
            if not arrived and drops_text(event["stat"]) != first[0]:
                arrived.append(time.monotonic())

    apart = asyncio.run(take_apart(plan, on_event))
    ended = time.monotonic()
    finding = _judged(plan, apart)
    judged = time.monotonic() - ended
    if finding != "table-full" or not arrived:
        raise BenchError(f"{plan.cell}: found {finding}, and a drop arrived {len(arrived)} times")
    lag = lag_of(apart, finding, apart.load_ended_at - arrived[0], judged)
    progress(f"{plan.cell}: {lag.from_message_ms:.0f} ms (load average {os.getloadavg()[0]:.1f})")
    return lag


def drops_text(stat: str) -> str:
    """The column `drop` of every processor, as text: whether it changed is all that is asked of it."""
    header, *rows = (line.split() for line in stat.splitlines())
    return " ".join(row[header.index("drop")] for row in rows)


def _judged(plan: CellPlan, apart: Apart) -> str:
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
        store.write_recording(Path(folder), apart.recording, plan, SCENARIO.read_text(encoding="utf-8"))
        return judge_folder(Path(folder), [Try(1, None, apart.recording.stages_seconds)]).finding


def lag_of(apart: Apart, finding: str, load_seconds: float, judge_seconds: float) -> Lag:
    """The lag of a cell that has ended. Raises BenchError where its evidence does not tell."""
    load = apart.recording.load or {}
    started = load.get("started_monotonic_seconds")
    if not isinstance(started, float):
        raise BenchError("the load does not tell when it began: load.json has no started_monotonic_seconds")
    drop = drop_of(apart.recording.kernel_log or "")
    before, seen = first_with_a_drop(parse_samples(apart.recording.samples))
    return Lag(
        from_message_ms=(started + seen.seconds - drop.by_message) * 1e3,
        from_watcher_ms=None if drop.after is None else (started + seen.seconds - drop.after) * 1e3,
        window_ms=None if drop.after is None or drop.before is None else (drop.before - drop.after) * 1e3,
        sample_gap_ms=(seen.seconds - before.seconds) * 1e3,
        load_seconds=load_seconds,
        collect_seconds=apart.ended_at - apart.load_ended_at,
        destroy_seconds=apart.destroy_seconds,
        judge_seconds=judge_seconds,
        finding=finding,
    )


def first_with_a_drop(samples: Sequence[Sample]) -> tuple[Sample, Sample]:
    """The first sample with more drops than the first of all, and the one before it. Raises BenchError."""
    for before, sample in itertools.pairwise(samples):
        if sample.counter("drop") != samples[0].counter("drop"):
            return before, sample
    raise BenchError("no sample shows a drop")


def drop_of(kernel_log: str) -> Drop:
    """When the first drop was, from the raw records of /dev/kmsg. Raises BenchError where they do not tell."""
    offsets: list[float] = []
    by_message: float | None = None
    watcher: list[float] = []
    for line in kernel_log.splitlines():
        prefix, _, text = line.partition(";")
        fields = prefix.split(",")
        if len(fields) < 3 or not fields[2].isdigit():
            continue
        logged = int(fields[2]) / 1e6
        if by_message is None and MESSAGE in text:
            by_message = logged
        ours = _OURS.search(text)
        if ours is not None and ours["word"] == "clock":
            offsets.append(logged - float(ours["numbers"]))
        elif ours is not None:
            watcher = list(map(float, ours["numbers"].split()))
    if not offsets or by_message is None:
        raise BenchError("the kernel's log has no clock, or no message of a full table")
    # the record is logged after the clock was read: the smallest difference is the nearest
    at = by_message - min(offsets)
    return Drop(at, watcher[0], watcher[1], int(watcher[2])) if len(watcher) == 3 else Drop(at)


def _table(watched: Sequence[Lag], alone: Sequence[Lag]) -> Table:
    def text(lags: Sequence[Lag], name: str, digits: int) -> str:
        values = [value for lag in lags if (value := getattr(lag, name)) is not None]
        return summary(values).text(digits) if values else "-"

    rows = [
        ("kernel's message to the sample, ms", "from_message_ms", 1),
        ("watcher's last look without it to the sample, ms", "from_watcher_ms", 1),
        ("between the watcher's two looks, ms", "window_ms", 1),
        ("that sample after the one before it, ms", "sample_gap_ms", 1),
        ("sample at the host to the load's end, s", "load_seconds", 2),
        ("load's end to the evidence's, s", "collect_seconds", 2),
        ("destroy, s", "destroy_seconds", 3),
        ("store, read back, judge, s", "judge_seconds", 3),
    ]
    told = [(title, text(watched, name, digits), text(alone, name, digits)) for title, name, digits in rows]
    return Table("After the first drop: median (range)", ("", "watched", "unwatched"), told)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/verdict",
        description="From the first drop in the kernel to the engine that knows it, and to the cell's end.",
        epilog="example: bench/verdict --pairs 9",
    )
    parser.add_argument("--quick", action="store_true", help="two pairs, about half a minute: no figure to quote")
    parser.add_argument("--pairs", type=int, default=9, metavar="N", help="of cells, watched and not (9)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main_of(main))
