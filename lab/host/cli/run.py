"""`lab run`: cells in throwaway machines, and what each found."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.core.errors import LabError, ScenarioError
from lab.host.cli.console import loudness, say, voice, wait_for
from lab.host.cli.ending import EXIT_UNCLEAR, complain
from lab.host.cli.parsing import PROVISIONERS, add_output, command
from lab.host.cli.results import ci_files, show_results, stored_run
from lab.host.options import RunOptions, add_options, differing, read_options
from lab.host.publish import github

if TYPE_CHECKING:
    from lab.core.result import CellResult
    from lab.host.run.begun import BegunRun
    from lab.host.run.planned import PlannedRun
    from lab.host.run.resuming import Resumed


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab run nat-flushed --target 'debian1?' --repeat 3 --junit out.xml"
    parser = command(commands, "run", _run, "run cells and say what each found", example)
    groups = add_options(parser, scenarios={"nargs": "*"}, provisioner={"choices": PROVISIONERS})
    help_of_resume = "instead of SCENARIO: run what this run lacks, in its own folder"
    groups["what to run"].add_argument("--resume", metavar="RUN", help=help_of_resume)
    help_of_dry_run = "print every step, run nothing; -v: QEMU's lines too"
    groups["what to run"].add_argument("--dry-run", action="store_true", help=help_of_dry_run)
    help_of_bisect = "exit as `git bisect run` reads it: 0 good, 1 bad, 125 cannot tell, 128 and above stop"
    groups["what to run"].add_argument("--bisect", action="store_true", help=help_of_bisect)
    add_output(groups["output"])


def _run(options: argparse.Namespace) -> int:
    from lab.core.result import exit_status
    from lab.host.run.planned import plan_run

    asked = read_options(options, sys.argv)
    begun = None
    if options.resume is not None:
        resumed = _resumed(options, asked)
        planned, asked, begun = resumed.planned, resumed.options, resumed.begun
    elif asked.scenarios:
        planned = plan_run(asked)
    else:
        raise LabError("lab run: names no scenario", hint="lab run nat-present; lab list shows what there is")
    if options.dry_run:
        for line in planned.describe(asked, options.verbose):
            print(github.printed(line))
        return 0
    files = ci_files(options)
    files.check()
    if options.bisect and not _can_boot(planned, asked):
        return EXIT_UNCLEAR
    run, cells = run_planned(planned, asked, options, begun)
    show_results(cells, run, options.format, files)
    if options.bisect and all(cell.expected is None for cell in cells):
        hint = "add [[expect]] to the scenario, or use lab bisect, which compares with the findings at the ends"
        raise ScenarioError("nothing is expected of these cells, so no kernel is good or bad", hint=hint)
    return exit_status(cells)


def _resumed(options: argparse.Namespace, asked: RunOptions) -> Resumed:
    """What the run that is named lacks. Raises LabError for options that are the run's own."""
    from lab.host.run import resuming

    own = differing(asked, but=("parallel", "mirror", "accelerator", "disposable_host", "fleet", "keys"))
    if own:
        raise LabError(f"--resume {options.resume}: {own[0]} is as the run began", hint=f"leave {own[0]} out")
    resumed = resuming.prepare(stored_run(options.resume), asked, voice(options))
    for change in resumed.changes:
        say(f"changed: {change}")
    return resumed


def _can_boot(planned: PlannedRun, asked: RunOptions) -> bool:
    """Whether guests can boot the kernels that were named; it is said why not."""
    from lab.host.bisecting.kernel import prepare_all
    from lab.host.cache import Cancelled

    try:
        prepare_all(planned, asked, say)
    except Cancelled:
        raise
    except LabError as error:
        complain(error, say)
        return False
    return True


def run_planned(
    planned: PlannedRun, asked: RunOptions, options: argparse.Namespace, begun: BegunRun | None = None
) -> tuple[Path, list[CellResult]]:
    """Run cells with progress on stderr; the run's folder and all of its results."""
    from lab.host.cli.progress import Reporter
    from lab.host.results import apart
    from lab.host.results.layout import KEPT_MACHINE
    from lab.host.results.stored_run import StoredRun
    from lab.host.run.commands import Services, run_cells
    from lab.host.run.planned import too_small

    apart.start_ahead()
    for line in too_small(planned):
        say(line)
    expected = StoredRun(asked.output / "latest").seconds([plan.cell for plan in planned.plans])
    reporter = Reporter(github.stream(sys.stderr), len(planned.plans), loudness=loudness(options), expected=expected)
    services = Services(reporter.say, reporter.progress, reporter.result, reporter.detail)
    try:
        run, cells = wait_for(run_cells(planned, asked, services, begun))
    finally:
        reporter.close()
    reporter.say(f"results: {run}")
    for kept in sorted(run.glob(f"cells/*/{KEPT_MACHINE}")):
        reporter.say(f"kept: lab shell --kept '{kept.parent}'")
    return run, cells
