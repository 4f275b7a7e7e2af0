"""`lab scenario`: a scenario that brings a machine into a recorded host's state."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab.host.cli.console import say
from lab.host.cli.parsing import command


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab scenario --from host.tar.gz --output mine.toml && lab run ./mine.toml --mitigate"
    summary = "write a scenario that brings a machine into a recorded host's state"
    parser = command(commands, "scenario", _scenario, summary, example)
    parser.add_argument(
        "--from",
        dest="source",
        metavar="RECORD",
        required=True,
        help="a record, a sosreport (folder or archive), a folder of pasted texts, one text, or - for stdin",
    )
    parser.add_argument(
        "--output",
        metavar="FILE.toml",
        default="recorded.toml",
        help="the scenario (recorded.toml); its files are put beside it, into FILE.files",
    )
    parser.add_argument(
        "--fill",
        action="store_true",
        help="a table that the load fills, also where the record shows a host with room and without a drop",
    )


def _scenario(options: argparse.Namespace) -> int:
    from lab.core.inspecting.inspection import inspect
    from lab.host.inspecting.reading import read_record
    from lab.host.inspecting.scenario_file import write_scenario

    carried = write_scenario(inspect(read_record(options.source)), Path(options.output), options.fill)
    for one in carried.missing:
        say(f"not carried over: {one}")
    say(f"the table is {carried.size}")
    print(options.output)
    return 0
