"""`lab scan`: the same cells on every kernel of a set, and where a finding changes."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from lab.host.cli.console import voice
from lab.host.cli.parsing import RESULT_FORMATS, add_loudness, command
from lab.host.cli.run import run_planned
from lab.host.options import add_options, read_options
from lab.host.publish import github

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.host.options import RunOptions
    from lab.host.run.planned import PlannedRun

SETS = "a folder of packages, a list, a glob of files, or apt:SUITE/GLOB"


# options of a run that mean nothing where each kernel has its machines
NOT_HERE = (
    *("mitigate", "kernel", "modules", "provisioner", "provider", "control", "disposable_host", "share_machine"),
    *("shard", "durations"),
)


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab scan nat-flushed --kernels 'apt:bookworm-backports/linux-image-*-cloud-amd64'"
    parser = command(commands, "scan", _scan, "run cells on every kernel of a set", example)
    groups = add_options(parser, without=(*NOT_HERE, "keep_failed"))
    groups["where"].add_argument("--kernels", action="append", required=True, metavar="SET", help=SETS)
    add_form(groups["output"])


def add_form(group: argparse._ArgumentGroup) -> None:
    """How what was found, and progress, are shown."""
    group.add_argument("--format", choices=RESULT_FORMATS, default="human")
    add_loudness(group, verbose="each stage and step of every cell, and what programs print")


def runner(options: argparse.Namespace) -> Callable[[PlannedRun, RunOptions], Path]:
    """What runs cells and gives their run's folder, with progress on stderr."""
    return lambda planned, asked: run_planned(planned, asked, options)[0]


def _scan(options: argparse.Namespace) -> int:
    from lab.core.bisecting.points import require_several
    from lab.core.bisecting.scan import scan_notes, scan_rows, scan_text
    from lab.core.render.markdown import table, words
    from lab.host.bisecting import search
    from lab.host.bisecting.kernel_sets import expand
    from lab.host.bisecting.looks import Looks

    say = voice(options)
    points = expand(options.kernels, say)
    require_several(points, f"--kernels {' --kernels '.join(options.kernels)}")
    asked = read_options(options, sys.argv)
    looks = Looks(points, asked, runner(options), say)
    found = search.scan(looks, asked.repeat)
    if options.format == "json":
        print(github.printed_json(json.dumps(found.to_json(), indent=1)))
    elif options.format == "md":
        header, *rows = [[words(text) for text in row] for row in scan_rows(found)]
        print(github.printed("\n".join([table(header, rows), "", *(f"- {words(line)}" for line in scan_notes(found))])))
    else:
        print(github.printed(scan_text(found)))
    return looks.exit_status()
