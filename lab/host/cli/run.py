"""`lab run`: cells in throwaway machines, and what each found."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.host.cli.console import loudness, say, wait_for
from lab.host.cli.options import add_load, add_machines, add_scenarios, run_options
from lab.host.cli.parsing import RESULT_FORMATS, add_ci_files, add_loudness, command, positive
from lab.host.cli.results import ci_files, show_results
from lab.host.publish import github

if TYPE_CHECKING:
    from lab.host.run.commands import PlannedRun, RunOptions


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab run nat-flushed --target 'debian1?' --repeat 3 --junit out.xml"
    parser = command(commands, "run", _run, "run cells and say what each found", example)
    what = add_scenarios(parser)
    what.add_argument("--repeat", type=int, default=1, metavar="N", help="every cell N times")
    what.add_argument("--mitigate", action="store_true", help="then try to remove what holds conntrack")
    what.add_argument("--dry-run", action="store_true", help="print every step, run nothing; -v: QEMU's lines too")
    where = add_machines(parser)
    where.add_argument("-j", dest="parallel", type=positive, metavar="N", help="cells at once")
    where.add_argument("--share-machine", action="store_true", help="one box machine for all cells, reset each time")
    where.add_argument("--keep-failed", action="store_true", help="keep the machine of a cell that is not as expected")
    add_load(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--output", default="results", metavar="DIR", help="where the run's folder is made (results)")
    add_ci_files(output)
    output.add_argument("--format", choices=RESULT_FORMATS, default="human")
    add_loudness(output, verbose="each stage and step of every cell, and what programs print")


def _run(options: argparse.Namespace) -> int:
    from lab.core.result import exit_status
    from lab.host.run.commands import plan_run

    asked = run_options(options)
    planned = plan_run(asked)
    if options.dry_run:
        for line in planned.describe(asked.accelerator, asked.mitigate, asked.provider, options.verbose):
            print(github.printed(line))
        return 0
    files = ci_files(options)
    files.check()
    run, cells = run_planned(planned, asked, options)
    show_results(cells, run, options.format, files)
    return exit_status(cells)


def run_planned(
    planned: PlannedRun, asked: RunOptions, options: argparse.Namespace
) -> tuple[Path, list[dict[str, Any]]]:
    """Run cells with progress on stderr; the run's folder and the results."""
    from dataclasses import replace

    from lab.host.cli.progress import Reporter
    from lab.host.results.store import stored_seconds
    from lab.host.run.commands import Services, run_cells, too_small
    from lab.host.run.runner import KEPT_MACHINE

    for line in too_small(planned):
        say(line)
    expected = stored_seconds(asked.output / "latest", [plan.cell for plan in planned.plans])
    reporter = Reporter(github.stream(sys.stderr), len(planned.plans), loudness=loudness(options), expected=expected)
    asked = replace(asked, detail=reporter.detail)
    services = Services(say=reporter.say, on_progress=reporter.progress, on_result=reporter.result)
    try:
        run, cells = wait_for(run_cells(planned, asked, services))
    finally:
        reporter.close()
    reporter.say(f"results: {run}")
    for kept in sorted(run.glob(f"cells/*/{KEPT_MACHINE}")):
        reporter.say(f"kept: lab shell --kept '{kept.parent}'")
    return run, cells
