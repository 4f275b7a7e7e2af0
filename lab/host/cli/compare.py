"""`lab compare`: two runs, cell by cell."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from lab.host.cli.console import say
from lab.host.cli.parsing import RESULT_FORMATS, command
from lab.host.cli.results import stored_run
from lab.host.publish import github


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab compare results/reference results/latest --format md"
    parser = command(commands, "compare", _compare, "compare the findings and numbers of two runs", example)
    parser.add_argument("base", metavar="BASE", help="a run's folder, or its manifest.json and results.json alone")
    parser.add_argument("new", metavar="NEW", help="the run to compare with it")
    help_of_match = "compare only these targets with each other, for targets of different names"
    parser.add_argument("--match", action="append", metavar="TARGET=TARGET", help=help_of_match)
    parser.add_argument("--subset", action="store_true", help="NEW is meant to have fewer cells than BASE")
    parser.add_argument("--strict", action="store_true", help="exit with 1, not 3, where something is undecided")
    parser.add_argument("--junit", metavar="FILE", help="also write JUnit XML")
    parser.add_argument("--format", choices=RESULT_FORMATS, default="human")


def _compare(options: argparse.Namespace) -> int:
    from lab.core.render import comparison as compare_output
    from lab.core.render.compare_junit import comparison_junit
    from lab.host.publish.ci import CiFiles
    from lab.host.results.comparison import compare_runs

    file = CiFiles({"junit": Path(options.junit)} if options.junit else {})
    file.check()
    base, new = stored_run(options.base), stored_run(options.new)
    matches = tuple(options.match or ())
    comparison = compare_runs(base, new, matches, subset=options.subset, strict=options.strict)
    file.write_texts({"junit": partial(comparison_junit, comparison, "conntrack-lab compare")})
    if options.format == "json":
        print(github.printed_json(json.dumps(comparison.to_json(), indent=1)))
    else:
        print(github.printed(compare_output.FORMATS[options.format](comparison)))
    github.append_summary(partial(compare_output.summary, comparison), say)
    return comparison.exit_status
