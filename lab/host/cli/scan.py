"""`lab scan`: the same cells on every kernel of a set, and where a finding changes."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from lab.host.cli.console import voice
from lab.host.cli.options import add_load, add_scenarios, run_options
from lab.host.cli.parsing import DEFAULT_TARGET, RESULT_FORMATS, add_loudness, command, positive
from lab.host.cli.run import run_planned
from lab.host.publish import github

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.host.run.commands import PlannedRun, RunOptions

SETS = "a folder of packages, a list, a glob of files, or apt:SUITE/GLOB"


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab scan nat-flushed --kernels 'apt:bookworm-backports/linux-image-*-cloud-amd64'"
    parser = command(commands, "scan", _scan, "run cells on every kernel of a set", example)
    what = add_scenarios(parser)
    what.add_argument("--repeat", type=positive, default=1, metavar="N", help="every cell N times")
    where = add_kernel_machines(parser)
    where.add_argument("--kernels", action="append", required=True, metavar="SET", help=SETS)
    where.add_argument("-j", dest="parallel", type=positive, default=1, metavar="N", help="cells at once")
    add_load(parser)
    add_output(parser)


def add_kernel_machines(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The group of options that say where kernels are tested: machines of QEMU, under one userspace."""
    group = parser.add_argument_group("where")
    group.add_argument("--target", action="append", metavar="T", help=f"the userspace ({DEFAULT_TARGET})")
    group.add_argument("--mirror", metavar="URL", help="the Debian mirror for images that are missing")
    group.add_argument("--accelerator", choices=("auto", "kvm", "tcg"), default="auto")
    group.add_argument("--timeouts", metavar="STAGE=SECONDS,...", help="for example boot=60,build=3600")
    of_other_machines = {"provisioner": "qemu", "provider": "libvirt", "control": "auto", "disposable_host": False}
    parser.set_defaults(kernel=None, modules=None, **of_other_machines)
    return group


def add_output(parser: argparse.ArgumentParser) -> None:
    """The group of options about results."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output", default="results", metavar="DIR", help="where runs' folders are made, and looked for (results)"
    )
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
    looks = Looks(points, run_options(options), runner(options), say)
    found = search.scan(looks, options.repeat)
    if options.format == "json":
        print(github.printed_json(json.dumps(found.to_json(), indent=1)))
    elif options.format == "md":
        header, *rows = [[words(text) for text in row] for row in scan_rows(found)]
        print(github.printed("\n".join([table(header, rows), "", *(f"- {words(line)}" for line in scan_notes(found))])))
    else:
        print(github.printed(scan_text(found)))
    return looks.exit_status()
