"""bench/matrix: how wall time and memory grow with the number of cells, and with how many run at once.

    bench/matrix                 half an hour under emulation
    bench/matrix --quick         three cells instead of a hundred, one round, under a minute; too few for a figure
    bench/matrix --only whole    every scenario on every kernel, some 25 minutes; only if asked for

Five parts. `linear`: runs of 1 and of 100 cells in turn, one at a time. `growth`: 1, 10, 50 and 100 cells with -j 1, 2
and 4. `memory`: of all QEMU processes and the lab, sampled during those runs; pages that N processes share count a Nth
for each. `findings`: 50 cells of five kinds with -j 1 and with -j 4 find the same, cell by cell. `whole`: all scenarios
of the lab on five kernels, from images that are built.

But for `whole`, times count from the moment when the first machine is restored: the boot, which all cells of a kind
share, is no part.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.common import Metric, Table, number, progress, report, summary
from bench.guests import SCENARIOS, TARGET, Run, children, lab_run, main_of, memory_mb

SCENARIO = SCENARIOS / "many-cells.toml"
GROWTH_CELL = "roomy"  # the value of the axis whose cells are counted
KINDS = 5  # values of the axis
PARTS = ("linear", "growth", "findings")
WHOLE = "whole"
WHOLE_TARGETS = ("debian11", "debian12", "debian13", "debian13-backports", "forky")
WHOLE_AT_ONCE = 3  # on two processors: cells wait for some of their time
WHOLE_CELLS, WHOLE_SECONDS = 310, 900.0  # a matrix of so many cells in so long
# for a host that is busy with other machines
WHOLE_TIMEOUTS = "boot=300,load=300,collect=120"
SAMPLE_SECONDS = 0.2

MEMORY_MB = 250.0  # of each further cell at once
LINEAR = 1.05  # 100 cells in 100 times one
FLAT = 1.05  # the memory of 100 cells in that of 10


@dataclass(frozen=True)
class Sizes:
    """How much is run."""

    many: int
    counts: tuple[int, ...]
    parallel: tuple[int, ...]
    repeats: int  # of each kind, for the findings
    pairs: int
    ones: int = 3  # runs of one cell for each run of many: one alone is too short to compare with


FULL = Sizes(many=100, counts=(1, 10, 50, 100), parallel=(1, 2, 4), repeats=10, pairs=5)
QUICK = Sizes(many=3, counts=(1, 3), parallel=(1, 2), repeats=1, pairs=1, ones=1)


@dataclass(frozen=True)
class Memory:
    """What a run's processes have at one moment."""

    seconds: float
    machines: int
    machines_mb: float  # their shares
    resident_mb: float  # of the machines, each counted as if it shared nothing
    lab_mb: float


@dataclass
class Watch:
    """Samples a run's memory until the run has ended."""

    samples: list[Memory] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def start(self, process: subprocess.Popen[str]) -> None:
        """Sample in a thread of its own."""
        self._thread = threading.Thread(target=self._watch, args=(process,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Wait for the last sample."""
        if self._thread is not None:
            self._thread.join()

    def _watch(self, process: subprocess.Popen[str]) -> None:
        started = time.monotonic()
        while process.poll() is None:
            sizes = [size for pid in children(process.pid) if (size := memory_mb(pid)) != (0.0, 0.0)]
            share, resident = (sum(column) for column in zip(*sizes, strict=True)) if sizes else (0.0, 0.0)
            lab_mb, _ = memory_mb(process.pid)
            self.samples.append(Memory(time.monotonic() - started, len(sizes), share, resident, lab_mb))
            time.sleep(SAMPLE_SECONDS)


@dataclass(frozen=True)
class Grown:
    """One run: how many cells, how many at once, how long, and its memory."""

    cells: int
    parallel: int
    seconds: float
    machines_mb: float  # the shares of all QEMU processes, at the peak
    resident_mb: float  # as if they shared nothing, at the peak
    lab_mb: float  # the lab's own process, at the peak
    retried: int
    load_average: float

    @property
    def peak_mb(self) -> float:
        """The lab and its machines."""
        return self.machines_mb + self.lab_mb


class Measured:
    """What the parts found, for the report."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.metrics: list[Metric] = []
        self.tables: list[Table] = []
        self.runs: list[Grown] = []
        self.details: dict[str, Any] = {}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for; returns the exit status."""
    options = _options(argv)
    sizes = QUICK if options.quick else FULL
    measured = Measured(replace(sizes, pairs=options.pairs or sizes.pairs))
    if options.only == WHOLE:
        whole(measured, options.keep)
    else:
        lab_run([str(SCENARIO), "--set", "table=none"])  # boots the machine where there is no saved state
        parts = {"linear": linear, "growth": growth, "findings": findings}
        for name in PARTS:
            if options.only in (None, name):
                parts[name](measured)
    measured.details["runs"] = list(map(asdict, measured.runs))
    return report("matrix", measured.metrics, measured.tables, details=measured.details)


def linear(measured: Measured) -> None:
    """One cell and many in turn."""
    sizes = measured.sizes
    ratios: list[float] = []
    rows: list[tuple[str, str, str, str]] = []
    for turn in range(sizes.pairs):
        one = summary([_grown(measured, 1, 1).seconds for _ in range(sizes.ones)]).median
        many = _grown(measured, sizes.many, 1).seconds
        ratios.append(many / sizes.many / one)
        rows.append((str(turn + 1), f"{one:.2f}", f"{many / sizes.many:.2f}", f"{ratios[-1]:.3f}"))
    columns = ("pair", "1 cell", f"each of {sizes.many}", "ratio")
    measured.tables.append(Table("One cell and many, one at a time, seconds", columns, rows))
    measured.metrics.append(Metric.of(f"linear-{sizes.many}", summary(ratios), "ratio", LINEAR, "lower"))


def growth(measured: Measured) -> None:
    """Every number of cells with every number at once, and what that says of time and memory."""
    sizes = measured.sizes
    runs = {(count, at_once): _grown(measured, count, at_once) for at_once in sizes.parallel for count in sizes.counts}
    measured.tables += growth_tables(runs, sizes)
    measured.metrics += memory_metrics(runs, sizes)


def growth_tables(runs: Mapping[tuple[int, int], Grown], sizes: Sizes) -> list[Table]:
    """Seconds, and memory, of each number of cells by how many ran at once."""
    columns = ("cells", *(f"-j {at_once}" for at_once in sizes.parallel))
    seconds, memory = [], []
    for count in sizes.counts:
        those = [runs[count, at_once] for at_once in sizes.parallel]
        seconds.append((str(count), *(f"{run.seconds:.1f} ({run.seconds / count:.2f})" for run in those)))
        memory.append(
            (str(count), *(f"{run.machines_mb:.0f} ({run.resident_mb:.0f}) + {run.lab_mb:.0f}" for run in those))
        )
    return [
        Table("Seconds (for each cell), after the boot", columns, seconds),
        Table("Memory at the peak, MB: machines (if they shared nothing) + the lab itself", columns, memory),
    ]


def memory_metrics(runs: Mapping[tuple[int, int], Grown], sizes: Sizes) -> list[Metric]:
    """What each further cell at once takes, and what each further cell in turn leaves behind."""
    most, few, at_once = sizes.counts[-1], sizes.counts[-2], sizes.parallel[-1]
    further = [
        (runs[count, at_once].peak_mb - runs[count, 1].peak_mb) / (at_once - 1)
        for count in sizes.counts
        if count >= at_once
    ]
    few = 10 if 10 in sizes.counts else few
    flat = [runs[most, width].peak_mb / runs[few, width].peak_mb for width in sizes.parallel if width <= few]
    return [
        Metric.of("memory-of-a-further-cell", summary(further), "MB", MEMORY_MB, "lower"),
        Metric.of(f"memory-{most}-to-{few}", summary(flat), "ratio", FLAT, "lower"),
    ]


def findings(measured: Measured) -> None:
    """The same cells one at a time and many at once."""
    sizes = measured.sizes
    at_once = sizes.parallel[-1]
    words = [str(SCENARIO), "--repeat", str(sizes.repeats)]
    runs = [_run([*words, "-j", str(width)])[0] for width in (1, at_once)]
    different = differences(*runs)
    count = len(runs[0].cells)
    rows = [(name, *found) for name, *found in _tally(runs)]
    measured.tables.append(
        Table(f"Findings of {count} cells", ("finding", "-j 1", f"-j {at_once}"), rows, "; ".join(different))
    )
    note = "; ".join(different)
    measured.metrics.append(
        Metric(f"findings-that-differ-at-j{at_once}", float(len(different)), "cells", 0.0, "lower", note=note)
    )
    measured.metrics.append(
        Metric("findings-as-expected", float(sum(_expected(run) for run in runs)), "cells", 2.0 * count)
    )


def whole(measured: Measured, keep: Path | None) -> None:
    """Everything, as a user would run it."""
    targets = [word for target in WHOLE_TARGETS for word in ("--target", target)]
    words = ["*", *targets, "-j", str(WHOLE_AT_ONCE), "--timeouts", WHOLE_TIMEOUTS]
    run = lab_run(words, strict=False, keep=keep)
    cells = len(run.cells)
    stages = sorted({name for cell in run.cells for name in cell["stages_seconds"]})
    spent = {name: sum(cell["stages_seconds"].get(name, 0.0) for cell in run.cells) for name in stages}
    rows = [(name, f"{seconds:.0f}", f"{seconds / sum(spent.values()):.0%}") for name, seconds in spent.items()]
    title = f"{cells} cells with -j {WHOLE_AT_ONCE} in {run.seconds:.0f} s: what their stages took together"
    measured.tables.append(Table(title, ("stage", "seconds", "share"), rows))
    worth = run.seconds * WHOLE_CELLS / cells
    measured.metrics.append(Metric(f"whole-{WHOLE_CELLS}-cells", worth, "s", WHOLE_SECONDS, "lower"))
    measured.metrics.append(Metric("findings-as-expected", float(_expected(run)), "cells", float(cells)))


def differences(first: Run, second: Run) -> list[str]:
    """A line for each cell that has not the same finding and expectation in both runs, or is in one of them only."""
    found = [{cell["cell"]: (cell["finding"], cell["as_expected"]) for cell in run.cells} for run in (first, second)]
    names = list(dict.fromkeys([*found[0], *found[1]]))
    return [
        f"{name}: {_words(found[0].get(name))}, then {_words(found[1].get(name))}"
        for name in names
        if found[0].get(name) != found[1].get(name)
    ]


def _words(found: tuple[str, bool | None] | None) -> str:
    return "missing" if found is None else f"{found[0]}{'' if found[1] else ' (not as expected)'}"


def _expected(run: Run) -> int:
    return sum(cell["as_expected"] is True for cell in run.cells)


def _tally(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    names = dict.fromkeys(cell["finding"] for run in runs for cell in run.cells)
    return [(name, *(str(sum(cell["finding"] == name for cell in run.cells)) for run in runs)) for name in names]


def _grown(measured: Measured, count: int, at_once: int) -> Grown:
    words = [str(SCENARIO), "--set", f"table={GROWTH_CELL}", "--repeat", str(count), "-j", str(at_once)]
    run, watch = _run(words)
    grown = grown_from(run, watch.samples, at_once)
    text = f"{count} cells, -j {at_once}: {grown.seconds:.1f} s, {number(grown.peak_mb)} MB"
    progress(f"{text} (load average {grown.load_average:.1f})")
    measured.runs.append(grown)
    return grown


def grown_from(run: Run, samples: Sequence[Memory], at_once: int) -> Grown:
    """What a run's results and memory say."""
    return Grown(
        cells=len(run.cells),
        parallel=at_once,
        seconds=run.ended_at[-1],
        machines_mb=max((sample.machines_mb for sample in samples), default=0.0),
        resident_mb=max((sample.resident_mb for sample in samples), default=0.0),
        lab_mb=max((sample.lab_mb for sample in samples), default=0.0),
        retried=sum(len(cell["tries"]) > 1 for cell in run.cells),
        load_average=os.getloadavg()[0],
    )


def _run(words: Sequence[str]) -> tuple[Run, Watch]:
    watch = Watch()
    run = lab_run([*words, "--target", TARGET], watch.start, strict=False)
    watch.end()
    return run, watch


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/matrix",
        description="How wall time and memory grow with the number of cells, and with how many run at once.",
        epilog="example: bench/matrix --only findings",
    )
    parser.add_argument("--quick", action="store_true", help="three cells, one round, in under a minute: no figure")
    parser.add_argument("--pairs", type=int, metavar="N", help=f"of `linear` ({FULL.pairs})")
    parser.add_argument("--only", choices=(*PARTS, WHOLE), help="one part")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of `whole`: keep its results there")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main_of(main))
