"""`lab inspect`: is a host tracking, by what, how full is its table, and what to do about it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.core.errors import ScenarioError
from lab.host.cli.parsing import RESULT_FORMATS, command
from lab.host.publish import github

if TYPE_CHECKING:
    from lab.core.inspecting.inspection import Inspection
    from lab.core.inspecting.model import Record

_WATCH_SECONDS = 1.0
_MOST_SECONDS = 3600.0


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "sudo lab inspect --watch 10, or lab inspect --from host.tar.gz"
    summary = "inspect this host, or a record of another, without changing it"
    parser = command(commands, "inspect", _inspect, summary, example)
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--from",
        dest="source",
        metavar="RECORD",
        help="a record, a sosreport (folder or archive), a folder of pasted texts, one text, or - for stdin",
    )
    source.add_argument(
        "--recorder",
        metavar="FILE",
        help="write the recorder for hosts without the lab: a zipapp, or a shell script where FILE ends with .sh",
    )
    parser.add_argument(
        "--watch",
        type=_seconds,
        metavar="SECONDS",
        help="between two looks at the counters (1); 0: one look",
    )
    parser.add_argument("--entries", action="store_true", help="also read the table's rows, a bounded number of them")
    parser.add_argument("--addresses", action="store_true", help="the same with the sources' addresses")
    parser.add_argument("--save", metavar="FILE", help="also write what was read as a record")
    parser.add_argument("--format", choices=RESULT_FORMATS, default="human")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"is {text!r}, must be 0 to {_MOST_SECONDS:g} seconds")
    return seconds


def _inspect(options: argparse.Namespace) -> int:
    from lab.core.inspecting.inspection import inspect
    from lab.host.inspecting.recorder import write_recorder

    if options.recorder:
        write_recorder(Path(options.recorder))
        print(options.recorder)
        return 0
    _check_options(options)
    inspection = inspect(_record(options))
    print(_formatted(inspection, options.format))
    return inspection.status


def _check_options(options: argparse.Namespace) -> None:
    """Raise ScenarioError for what is of this host alone."""
    for name in ("watch", "entries", "addresses", "save"):
        given = getattr(options, name)
        if options.source and given is not None and given is not False:
            raise ScenarioError(
                f"--{name} is of a look at this host, and --from reads what was recorded",
                hint=f"leave --{name} away, or give it to the recorder",
            )


def _record(options: argparse.Namespace) -> Record:
    from lab.host.inspecting.reading import read_record
    from lab.host.inspecting.this_host import read_this_host

    if options.source:
        return read_record(options.source)
    save = Path(options.save) if options.save else None
    return read_this_host(
        _WATCH_SECONDS if options.watch is None else options.watch, options.entries, options.addresses, save
    )


def _formatted(inspection: Inspection, form: str) -> str:
    from lab.core.inspecting.document import document
    from lab.core.render.inspection import human, markdown

    if form == "json":
        return github.printed_json(json.dumps(document(inspection), indent=1))
    return github.printed(markdown(inspection) if form == "md" else human(inspection))
