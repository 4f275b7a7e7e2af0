"""`lab merge`: the shards of a run made one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab.host.cli.console import say
from lab.host.cli.parsing import RESULT_FORMATS, add_ci_files, command
from lab.host.cli.results import ci_files, show_results, stored_run


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab merge shards/*/results/latest --output merged"
    parser = command(commands, "merge", _merge, "make one run of a run's shards", example)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the shards' folders")
    parser.add_argument("--output", default="results", metavar="DIR", help="where the run's folder is made (results)")
    parser.add_argument("--format", choices=RESULT_FORMATS, default="human")
    add_ci_files(parser)


def _merge(options: argparse.Namespace) -> int:
    from lab.core.result import exit_status
    from lab.host.results.merging import merge_runs

    files = ci_files(options)
    files.check()
    found = merge_runs([stored_run(run) for run in options.runs], Path(options.output))
    say(f"results: {found.folder}")
    show_results(found.results, found.folder, options.format, files)
    status = exit_status(found.results)
    if found.lacks is None:
        return status
    say(f"incomplete: {found.lacks}")
    return 1 if status == 1 else 3
