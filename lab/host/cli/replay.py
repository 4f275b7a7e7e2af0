"""`lab replay`: a stored run's cells once more, and the comparison of both."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any

from lab.core.errors import LabError
from lab.host.cli.console import say, voice
from lab.host.cli.parsing import add_output, command
from lab.host.cli.results import ci_files, show_results, stored_run
from lab.host.cli.run import run_planned
from lab.host.options import add_options, read_options
from lab.host.publish import github


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab replay results/latest --junit out.xml"
    parser = command(commands, "replay", _replay, "run a stored run's cells again, and compare", example)
    parser.add_argument("directory", metavar="DIR", help="the run's folder, or one with its results alone")
    parser.add_argument("--anyway", action="store_true", help="go on where something of the run is no longer available")
    parser.add_argument("--dry-run", action="store_true", help="list what has changed, and the cells; run nothing")
    groups = add_options(
        parser,
        only=("parallel", "output", "accelerator", "mirror", "disposable_host"),
        parallel={"help": "cells at once (as then)"},
        accelerator={"help": "auto: as then"},
        disposable_host={"help": "this machine may be changed for good (host)"},
    )
    add_output(groups["output"])


def _replay(options: argparse.Namespace) -> int:
    from lab.core.render import comparison as compare_output
    from lab.core.result import exit_status
    from lab.host.results.comparison import compare_runs
    from lab.host.run import replay

    files = ci_files(options)
    files.check()
    again = replay.prepare(stored_run(options.directory), read_options(options, sys.argv), voice(options))
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
