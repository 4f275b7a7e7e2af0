"""The command line: a file for each command, its parser beside its handler, and the table of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import lab
from lab.host.cli import (
    bisect,
    compare,
    completion,
    doctor,
    ending,
    fleet,
    image,
    inspect,
    judge,
    kernel,
    merge,
    replay,
    report,
    run,
    scan,
    scenario,
    schema,
    shell,
    verify,
)
from lab.host.cli import list as list_command
from lab.host.cli.console import say

# in the order of `lab --help`; each adds its command's parser, which names the handler
COMMANDS: tuple[Callable[[Any], None], ...] = (
    list_command.add_parser,
    run.add_parser,
    shell.add_parser,
    judge.add_parser,
    merge.add_parser,
    compare.add_parser,
    report.add_parser,
    verify.add_parser,
    replay.add_parser,
    scan.add_parser,
    bisect.add_parser,
    schema.add_parser,
    image.add_parser,
    kernel.add_parser,
    fleet.add_parser,
    completion.add_parser,
    doctor.add_parser,
    inspect.add_parser,
    scenario.add_parser,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status (lab/host/cli/ending.py)."""
    parser = command_line()
    if completion.asked():
        completion.answer(parser)
    words = sys.argv[1:] if argv is None else argv
    # also where the words cannot be parsed
    ended = ending.status_for_git if "--bisect" in words else ending.status_of
    return ended(lambda: _run_command(parser, argv), say)


def command_line() -> argparse.ArgumentParser:
    """The parser of `lab`. What it makes of a command line has the command's handler; without a command, None."""
    parser = argparse.ArgumentParser(
        prog="lab",
        description="In this state, on this kernel, are connections tracked, and what happens when the table fills?",
        epilog="example: lab run 'nat-*' --target debian12 --target debian13",
    )
    parser.add_argument("--version", action="version", version=f"conntrack-lab {lab.__version__}")
    parser.set_defaults(command=None, handler=None)
    commands = parser.add_subparsers(metavar="COMMAND")
    for add_parser in COMMANDS:
        add_parser(commands)
    return parser


def _run_command(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    options = parser.parse_args(argv)
    if options.handler is None:
        parser.print_help()
        return 0
    status: int = options.handler(options)
    return status
