"""What the parsers of several commands share; nothing here takes time to import."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from lab.host.machines.kinds import KINDS

PROVISIONERS = tuple(KINDS)
RESULT_FORMATS = ("human", "json", "md")

Handler = Callable[[argparse.Namespace], int]


def command(commands: Any, name: str, handler: Handler, summary: str, example: str) -> argparse.ArgumentParser:
    """A command's parser. Its namespace has the handler, and the whole name (`image build`) as `command`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary.capitalize() + ".", epilog=f"example: {example}"
    )
    parser.set_defaults(command=parser.prog.partition(" ")[2], handler=handler)
    return parser


def add_loudness(parser: argparse._ActionsContainer, verbose: str | None = None) -> None:
    """--quiet, and, where there is more to tell, --verbose."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("-q", "--quiet", action="store_true", help="results and errors, no progress")
    if verbose:
        choice.add_argument("-v", "--verbose", action="store_true", help=verbose)


def add_output(group: argparse._ArgumentGroup) -> None:
    """How a run's results and its progress are shown, and the files for CI systems."""
    add_ci_files(group)
    group.add_argument("--format", choices=RESULT_FORMATS, default="human")
    add_loudness(group, verbose="each stage and step of every cell, and what programs print")


def add_ci_files(parser: argparse._ActionsContainer) -> None:
    """The files that CI systems read (lab/host/publish/ci.py)."""
    parser.add_argument("--junit", metavar="FILE", help="also write JUnit XML")
    parser.add_argument("--ktap", metavar="FILE", help="also write KTAP, the format of the kernel's own tests")
