"""bench/cell: what one cell costs, stage by stage, against virtme-ng and against a cold boot of the same machine.

    bench/cell              about ten minutes under emulation
    bench/cell --quick      one round of each, under a minute; too few for a figure
    bench/cell --only cells

Three parts. `starts`: a restored machine's first answer, a cold boot's, and virtme-ng running `true`, with one kernel.
`cells`: whole `lab run` commands of nat-present, both backends in turn. `apart`: the same cells in this process, with a
clock on every request, and with the processor time that QEMU spent on it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from bench.common import BenchError, Metric, Summary, Table, progress, ratio_of_each, report, rounds, summary
from bench.guests import (
    TARGET,
    Apart,
    Run,
    Spent,
    boot_seconds,
    lab_run,
    main_of,
    plan_of,
    ready,
    restore_seconds,
    take_apart,
)
from bench.virtme import Virtme, kernel_package, virtme

SCENARIO = "nat-present"
BACKENDS = ("legacy", "nft")
CONNECTIONS = 20_000
STAGES = ("restore", "state", "load", "collect", "destroy")
RESTORED, BOOTED, PEER = "restored by the lab", "booted by the lab", "virtme-ng -- true"
PARTS = ("starts", "cells", "apart")
LEAST_SHOWN_SECONDS = 0.03  # of an item of an observation

RESTORE_SECONDS = 0.2
RESTORE_TO_VIRTME = 0.1
OVERHEAD_SECONDS = 1.2
CELL_SECONDS = 3.5


class Measured:
    """What the parts found, for the report."""

    def __init__(self) -> None:
        self.metrics: list[Metric] = []
        self.tables: list[Table] = []
        self.details: dict[str, Any] = {}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for; returns the exit status."""
    options = _options(argv)
    count = 1 if options.quick else options.rounds
    measured = Measured()
    parts: Mapping[str, Callable[[Measured, int, bool], None]] = {"starts": starts, "cells": whole, "apart": apart}
    for name in PARTS:
        if options.only in (None, name):
            parts[name](measured, count, options.quick)
    return report("cell", measured.metrics, measured.tables, details=measured.details)


def starts(measured: Measured, count: int, quick: bool) -> None:
    """Restore, cold boot and virtme-ng in turn, with the same kernel."""
    try:
        package = kernel_package()
    except BenchError as error:
        measured.metrics.append(
            Metric("restore-to-virtme", None, "ratio", RESTORE_TO_VIRTME, "lower", note=f"no kernel for both: {error}")
        )
        return
    plan = plan_of("pristine", connections=None, target=f"{TARGET}+kernel:{package}")
    made = asyncio.run(ready(plan))
    peer: Virtme | None = None
    obstacle = ""
    try:
        peer = virtme(package, made.target.image.busybox, plan.machine.memory_mb, plan.machine.vcpus)
        if not quick:
            progress("virtme-ng: seeing it run `true`")
            peer.seconds(proved=True)
    except BenchError as error:
        peer, obstacle = None, str(error)
        progress(f"not compared with virtme-ng: {error}")

    def told(name: str, run: Callable[[], float]) -> float:
        seconds = run()
        progress(f"{name}: {seconds:.2f} s (load average {os.getloadavg()[0]:.1f})")
        return seconds

    variants: dict[str, Callable[[], float]] = {
        RESTORED: partial(told, "restore", partial(restore_seconds, made)),
        BOOTED: partial(told, "boot", partial(boot_seconds, made)),
    }
    if quick:  # a cold boot takes a quarter of the minute
        del variants[BOOTED]
    if peer is not None:
        variants[PEER] = partial(told, "virtme-ng", partial(peer.seconds, proved=quick))
        measured.details["virtme"] = {"version": peer.version, "command": peer.command()}
    told_of = obstacle if peer is None else f"virtme-ng {peer.version}"
    machine = f"{plan.machine.vcpus} vCPUs, {plan.machine.memory_mb} MB"
    report_starts(measured, rounds(variants, count), f"{package.stem}, {machine}, emulated; {told_of}")


def report_starts(measured: Measured, values: Mapping[str, Sequence[float]], note: str) -> None:
    """The starts in turn; of a peer that could not be measured `?`, and the note says why."""
    restores = values[RESTORED]
    measured.metrics.append(Metric.of("restore", summary(restores), "s", RESTORE_SECONDS, "lower"))
    if PEER in values:
        to_peer = summary(ratio_of_each(list(zip(restores, values[PEER], strict=True)), float))
        measured.metrics.append(Metric.of("restore-to-virtme", to_peer, "ratio", RESTORE_TO_VIRTME, "lower"))
    else:
        measured.metrics.append(Metric("restore-to-virtme", None, "ratio", RESTORE_TO_VIRTME, "lower", note=note))
    if BOOTED in values:
        to_boot = summary(ratio_of_each(list(zip(restores, values[BOOTED], strict=True)), float))
        measured.metrics.append(Metric.of("restore-to-boot", to_boot, "ratio", better="lower"))
    rows = [(name, summary(seconds).text(2), _ratio_text(restores, seconds)) for name, seconds in values.items()]
    if PEER not in values:
        rows.append((PEER, "?", "?"))
    columns = ("start", "seconds: median (range)", "restored in it")
    measured.tables.append(Table("Until a fresh machine answers", columns, rows, note))
    measured.details["starts_seconds"] = {name: list(seconds) for name, seconds in values.items()}


def _ratio_text(ours: Sequence[float], theirs: Sequence[float]) -> str:
    if ours is theirs:
        return "1"
    return summary(ratio_of_each(list(zip(ours, theirs, strict=True)), float)).text(3)


def whole(measured: Measured, count: int, quick: bool) -> None:
    """Whole commands of both backends in turn."""

    def once(backend: str) -> Run:
        words = [SCENARIO, "--set", f"iptables={backend}", "--connections", str(CONNECTIONS), "-j", "1"]
        run = lab_run(words)
        finding = run.cells[0]["finding"]
        if finding != "table-full":
            raise BenchError(f"{SCENARIO}, {backend}: found {finding}: {run.cells[0]['reason']}")
        seconds = sum(run.stages()[0].values())
        progress(f"{SCENARIO}, {backend}: {seconds:.2f} s (load average {os.getloadavg()[0]:.1f})")
        return run

    # one more, thrown away: it boots the machine where there is no saved state
    runs = rounds({backend: partial(once, backend) for backend in BACKENDS}, count, warm_up=0 if quick else 1)
    report_whole(measured, runs)


def report_whole(measured: Measured, runs: Mapping[str, Sequence[Run]]) -> None:
    """The stages of each backend's cells, and their metrics."""
    columns: list[list[str]] = []
    for backend, made in runs.items():
        stages = [run.stages()[0] for run in made]
        cell = summary([sum(stage.values()) for stage in stages])
        overhead = summary([sum(stage.values()) - stage.get("load", 0.0) for stage in stages])
        # with the boot, if this command had to wait for one
        around = summary([run.seconds - sum(run.cells[0]["stages_seconds"].values()) for run in made])
        each = [summary([stage.get(name, 0.0) for stage in stages]) for name in STAGES]
        columns.append([one.text(2) for one in (*each, overhead, cell, around)])
        measured.metrics += [
            Metric.of(f"overhead-{backend}", overhead, "s", OVERHEAD_SECONDS, "lower"),
            Metric.of(f"cell-{backend}", cell, "s", CELL_SECONDS, "lower"),
        ]
        measured.details[f"cells_{backend}"] = [dict(stage) for stage in stages]
    names = (*STAGES, "all but the load", "the whole cell", "the command around it")
    rows = [(name, *cells) for name, *cells in zip(names, *columns, strict=True)]
    title = f"{SCENARIO}, {CONNECTIONS:,} connections, seconds: median (range)"
    measured.tables.append(Table(title, ("stage", *runs), rows))


def apart(measured: Measured, count: int, quick: bool) -> None:
    """Both backends' cells with a clock on each request."""

    def once(backend: str) -> Apart:
        plan = plan_of(SCENARIO, connections=CONNECTIONS, chosen=[f"iptables={backend}"])
        done = asyncio.run(take_apart(plan))
        progress(f"{SCENARIO}, {backend}, taken apart (load average {os.getloadavg()[0]:.1f})")
        return done

    taken = rounds({backend: partial(once, backend) for backend in BACKENDS}, count)
    for backend, cells in taken.items():
        measured.tables.append(requests_table(backend, cells))
    measured.details["apart"] = {
        backend: [
            {"requests": list(map(asdict, cell.requests)), "items": list(map(asdict, cell.items))} for cell in cells
        ]
        for backend, cells in taken.items()
    }


def requests_table(backend: str, cells: Sequence[Apart]) -> Table:
    """Each request of a cell, with the larger items of the observations below theirs."""
    rows = [_row("restore", [Spent("", cell.restore_seconds, cell.restore_cpu_seconds) for cell in cells])]
    for name in _names(cells[0].requests):
        rows.append(_row(name, [_total(cell.requests, name) for cell in cells]))
        items = [item for item in _names(cells[0].items) if item.partition(": ")[0] == name]
        for item in items:
            spent = [_total(cell.items, item) for cell in cells]
            if statistics.median(one.seconds for one in spent) >= LEAST_SHOWN_SECONDS:
                rows.append(_row(f"  {item.partition(': ')[2]}", spent))
    rows.append(_row("destroy", [Spent("", cell.destroy_seconds, 0.0) for cell in cells]))
    note = "an observation's programs run at once: the first of them has the time of all"
    columns = ("request", "seconds: median (range)", "processor seconds of QEMU")
    return Table(f"{SCENARIO}, iptables={backend}, taken apart", columns, rows, note)


def _names(spent: Sequence[Spent]) -> list[str]:
    return list(dict.fromkeys(one.what for one in spent))


def _total(spent: Sequence[Spent], name: str) -> Spent:
    those = [one for one in spent if one.what == name]
    return Spent(name, sum(one.seconds for one in those), sum(one.cpu_seconds for one in those))


def _row(name: str, spent: Sequence[Spent]) -> tuple[str, str, str]:
    seconds: Summary = summary([one.seconds for one in spent])
    cpu: Summary = summary([one.cpu_seconds for one in spent])
    return name, seconds.text(3), cpu.text(2)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/cell", description="What one cell costs, stage by stage.", epilog="example: bench/cell --quick"
    )
    parser.add_argument("--quick", action="store_true", help="one round of each, in under a minute: no figure to quote")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="of each part (7)")
    parser.add_argument("--only", choices=PARTS, help="one part")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main_of(main))
