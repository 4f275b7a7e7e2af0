"""`lab judge`: a stored run judged again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab.host.cli.parsing import RESULT_FORMATS, add_ci_files, command
from lab.host.cli.results import ci_files, formatted, stored_run


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab judge results/latest"
    parser = command(commands, "judge", _judge, "judge a run again from its stored evidence", example)
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument("--format", choices=RESULT_FORMATS, default="human")
    add_ci_files(parser)


def _judge(options: argparse.Namespace) -> int:
    from lab.core.result import exit_status
    from lab.host.results.judging import judge_run

    files = ci_files(options)
    files.check()
    cells = judge_run(stored_run(options.directory))
    print(formatted(cells, options.format, Path(options.directory)))
    files.write(cells, Path(options.directory))
    return exit_status(cells)
