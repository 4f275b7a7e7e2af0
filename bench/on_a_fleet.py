"""bench/fleet: what a fleet costs, and whether it keeps every result while its programs are killed.

    bench/fleet                       an hour under emulation
    bench/fleet --only overhead       ten minutes
    bench/fleet --only faults --cells 300
    bench/fleet --quick               ten cells, one pair: too few for a figure

All of it is on this host, with TLS on loopback and real guests. `overhead`: runs with -j 2, and on a fleet of two
workers with one slot each, in turn. `faults`: three workers, of which one is killed with SIGKILL every 20 s, and the
scheduler once; the run is taken up again, and must have found the same as a plain run of the same cells (made before,
unless --plain RUN names it).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.common import Metric, Table, number, pairs, progress, ratio_of_each, report, summary
from bench.fleet_faults import KILL_SECONDS, Outlived, lab, outlive
from bench.guests import TARGET, Run, lab_run, main_of
from bench.local_fleet import LocalFleet
from bench.many_cells import differences

# ten variants of one machine kind, with both kinds of findings and a state that is refused
SCENARIOS = ("pristine", "module-only", "nat-present", "nat-flushed", "nat-notrack", "modules-blocked")
VARIANTS = 10
CONNECTIONS = 2000  # of a cell under faults: it is the lab that is tested, not the load
PARTS = ("overhead", "faults")
OVERHEAD = 1.05


@dataclass(frozen=True)
class Sizes:
    """How much is run."""

    cells: int  # under faults
    cells_of_a_run: int  # of the overhead
    pairs: int
    warm_up: int


FULL = Sizes(cells=300, cells_of_a_run=20, pairs=5, warm_up=1)
QUICK = Sizes(cells=10, cells_of_a_run=10, pairs=1, warm_up=1)


@dataclass
class Measured:
    """What the parts found, for the report."""

    metrics: list[Metric] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for; returns the exit status."""
    options = _options(argv)
    sizes, measured = QUICK if options.quick else FULL, Measured()
    with tempfile.TemporaryDirectory(prefix="lab-bench-fleet-") as folder:
        if options.only in (None, "overhead"):
            overhead(measured, Path(folder), sizes.cells_of_a_run, options.pairs or sizes.pairs, sizes.warm_up)
        if options.only in (None, "faults"):
            faults(measured, Path(folder), options.cells or sizes.cells, options.plain)
    return report("fleet", measured.metrics, measured.tables, details=measured.details)


def words_of(cells: int) -> list[str]:
    """What means so many cells, or a few more, for `lab run`."""
    return [*SCENARIOS, "--target", TARGET, "--repeat", str(-(-cells // VARIANTS))]


def overhead(measured: Measured, folder: Path, cells: int, count: int, warm_up: int) -> None:
    """The same cells with -j 2 and on two workers, in turn."""
    with LocalFleet(folder / "two", "ab") as fleet:

        def plain() -> Run:
            return told("-j 2", lab_run([*words_of(cells), "-j", "2"]))

        def on_fleet() -> Run:
            return told("fleet", lab_run([*words_of(cells), *fleet.options]))

        turns = pairs(on_fleet, plain, count, warm_up)
    report_overhead(measured, turns)


def report_overhead(measured: Measured, turns: Sequence[tuple[Run, Run]]) -> None:
    """How long both took; each turn is a run on the fleet and one with -j 2."""
    ratios = ratio_of_each(turns, lambda run: run.seconds)
    measured.metrics.append(Metric.of("fleet-overhead", summary(ratios), "ratio", OVERHEAD, "lower"))
    rows = [
        (str(number + 1), f"{fleet.seconds:.1f}", f"{plain.seconds:.1f}", f"{ratio:.3f}")
        for number, ((fleet, plain), ratio) in enumerate(zip(turns, ratios, strict=True))
    ]
    count_of_cells = len(turns[0][0].cells)
    title = f"{count_of_cells} cells, two at once, seconds of the whole command"
    measured.tables.append(Table(title, ("turn", "fleet", "-j 2", "ratio"), rows))
    measured.details["overhead_seconds"] = [[fleet.seconds, plain.seconds] for fleet, plain in turns]


def told(name: str, run: Run) -> Run:
    """A run, which is said."""
    progress(f"{name}: {len(run.cells)} cells in {run.seconds:.1f} s")
    return run


def faults(measured: Measured, folder: Path, cells: int, plain: Path | None) -> None:
    """A plain run, the run on a fleet that is killed, and both compared."""
    words = [*words_of(cells), "--connections", str(CONNECTIONS)]
    if plain is None:
        plain = folder / "plain" / "latest"
        progress(f"a plain run of the same cells: lab run {' '.join(words)} -j 2")
        lab("run", *words, "-j", "2", "--output", str(plain.parent))
    reference = Run(0.0, tuple(json.loads((plain / "results.json").read_text())["cells"]), ())
    progress(f"on a fleet, of which a worker is killed every {KILL_SECONDS:g} s")
    outlived = outlive(folder / "faults", words, len(reference.cells))
    report_faults(measured, reference, outlived, lab("compare", str(plain), str(outlived.folder)))


def report_faults(measured: Measured, reference: Run, outlived: Outlived, compared: int) -> None:
    """What came of it; `compared` is the exit status of `lab compare` with the plain run."""
    total, differing = len(reference.cells), differences(reference, outlived.run)
    measured.metrics += [
        Metric("faults-results", len(outlived.run.cells), "cells", total),
        Metric("faults-differing", len(differing), "cells", 0, "lower", note="; ".join(differing[:5])),
        Metric("faults-guests-left", outlived.guests_left, "guests", 0, "lower"),
        Metric("faults-fetches", max(outlived.fetches.values()), "fetches", 1, "lower"),
        Metric("faults-verify", outlived.read["verify"], "status", 0, "lower"),
        Metric("faults-compare", compared, "status", 0, "lower"),
    ]
    kills = ", ".join(f"{name} {count}" for name, count in sorted(outlived.kills.items()))
    retried = sum(len(cell["tries"]) > 1 for cell in outlived.run.cells)
    rows = [
        ("results", f"{len(outlived.run.cells)} of {total}"),
        ("as expected", str(sum(cell["as_expected"] is True for cell in outlived.run.cells))),
        ("other findings than the plain run", str(len(differing))),
        ("lab compare, lab verify: exit status", f"{compared}, {outlived.read['verify']}"),
        ("lab run, lab run --resume: exit status", ", ".join(map(str, outlived.statuses))),
        ("killed", kills),
        ("results before the scheduler was killed", str(outlived.cells_before)),
        ("cells that lost a guest and were tried again", str(retried)),
        ("fetches of the image, by worker", ", ".join(f"{name} {n}" for name, n in outlived.fetches.items())),
        ("QEMUs left", str(outlived.guests_left)),
        ("seconds", number(outlived.run.seconds)),
    ]
    measured.tables.append(Table("A fleet that is killed", ("what", "is"), rows))
    measured.details["faults"] = {"kills": dict(outlived.kills), "differing": differing, "rows": rows}


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/fleet",
        description="What a fleet costs, and whether it keeps every result while its programs are killed.",
        epilog="example: bench/fleet --only faults --cells 300",
    )
    parser.add_argument("--quick", action="store_true", help="ten cells, one pair: no figure")
    parser.add_argument("--pairs", type=int, metavar="N", help=f"of the overhead ({FULL.pairs})")
    parser.add_argument("--cells", type=int, metavar="N", help=f"under faults ({FULL.cells})")
    parser.add_argument("--plain", type=Path, metavar="RUN", help="the same cells, run before")
    parser.add_argument("--only", choices=PARTS, help="one part")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main_of(main))
