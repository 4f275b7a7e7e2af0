"""`lab replay`: a stored run's cells once more, and the comparison of both."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.core.errors import LabError
from lab.host.cli.console import say, voice
from lab.host.cli.parsing import RESULT_FORMATS, add_ci_files, add_loudness, command, positive
from lab.host.cli.results import ci_files, show_results, stored_run
from lab.host.cli.run import run_planned
from lab.host.publish import github

if TYPE_CHECKING:
    from lab.host.run.commands import RunOptions


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab replay results/latest --junit out.xml"
    parser = command(commands, "replay", _replay, "run a stored run's cells again, and compare", example)
    parser.add_argument("directory", metavar="DIR", help="the run's folder, or one with its results alone")
    parser.add_argument("--anyway", action="store_true", help="go on where something of the run is no longer available")
    parser.add_argument("--dry-run", action="store_true", help="list what has changed, and the cells; run nothing")
    parser.add_argument("-j", dest="parallel", type=positive, metavar="N", help="cells at once (as then)")
    parser.add_argument("--output", default="results", metavar="DIR", help="where the run's folder is made (results)")
    parser.add_argument("--accelerator", choices=("auto", "kvm", "tcg"), default="auto", help="auto: as then")
    parser.add_argument("--mirror", metavar="URL", help="the Debian mirror for images that are missing")
    parser.add_argument("--disposable-host", action="store_true", help="this machine may be changed for good (host)")
    parser.add_argument("--format", choices=RESULT_FORMATS, default="human")
    add_ci_files(parser)
    add_loudness(parser, verbose="each stage and step of every cell, and what programs print")


def _replay(options: argparse.Namespace) -> int:
    from lab.core.render import comparison as compare_output
    from lab.core.result import exit_status
    from lab.host.results.comparison import compare_runs
    from lab.host.run import replay

    files = ci_files(options)
    files.check()
    again = replay.prepare(stored_run(options.directory), _replay_wish(options), voice(options))
    for change in again.changes:
        say(f"{'unavailable' if change.needed else 'changed'}: {change.what}")
    again.check(options.anyway)
    if options.dry_run:
        for plan in again.planned.plans:
            print(github.printed(plan.cell))
        return 0
    run, cells = run_planned(again.planned, again.options, options)
    show_results(cells, run, options.format, files)
    try:
        comparison = compare_runs(again.run, run)
    except LabError as error:
        say(f"not compared with {again.run}: {error}")
        return exit_status(cells)
    if options.format != "json":
        print(f"\n{github.printed(compare_output.FORMATS[options.format](comparison))}")
    github.append_summary(partial(compare_output.summary, comparison), say)
    return comparison.exit_status


def _replay_wish(options: argparse.Namespace) -> RunOptions:
    """What a replay is told; the run that it repeats tells the rest."""
    from lab.host.machines.machine import Deadlines
    from lab.host.run.commands import RunOptions

    return RunOptions(
        scenarios=(),
        targets=(),
        kernel=None,
        modules=None,
        mirror=options.mirror,
        accelerator=options.accelerator,
        connections=None,
        max=None,
        chosen=(),
        repeat=1,
        parallel=options.parallel,
        output=Path(options.output),
        deadlines=Deadlines(),
        keep_failed=False,
        mitigate=False,
        command=tuple(sys.argv),
        disposable_host=options.disposable_host,
    )
