"""`lab report`: a run as a page, or as Markdown."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab.host.cli.parsing import command
from lab.host.cli.results import stored_run
from lab.host.publish import github


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab report results/latest"
    parser = command(commands, "report", _report, "make an HTML page of a run, with plots", example)
    parser.add_argument("directory", metavar="DIR", help="the run's folder")
    parser.add_argument("--output", metavar="FILE", help="where to write it (DIR/report.html; Markdown: stdout)")
    parser.add_argument("--format", choices=("html", "md"), default="html")


def _report(options: argparse.Namespace) -> int:
    from lab.host.report import PAGE, report_markdown, write_report

    run = stored_run(options.directory)
    if options.format == "md" and not options.output:
        print(github.printed(report_markdown(run)), end="")
        return 0
    page = Path(options.output) if options.output else run / PAGE
    write_report(run, page, options.format)
    print(page)
    return 0
