"""`lab doctor`: what this host lacks, and how to fix it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lab.core.text import plural
from lab.host.cli.console import voice, wait_for
from lab.host.cli.ending import EXIT_WRONG
from lab.host.cli.parsing import add_loudness, command

if TYPE_CHECKING:
    from lab.host.machines.host_checks import Check


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    what = "show what is missing on this host, and how to fix it"
    parser = command(commands, "doctor", _doctor, what, "lab doctor --again")
    parser.add_argument("--clean", action="store_true", help="remove the machines that a killed lab left in Vagrant")
    add_loudness(parser)
    parser.add_argument("--again", action="store_true", help="repeat the test that boots a guest with KVM")


def _doctor(options: argparse.Namespace) -> int:
    from lab.host.machines.host_checks import check_host
    from lab.host.machines.vagrant import leftovers

    if options.clean:
        count = plural(leftovers.clean(voice(options)), "machine")
        print(f"removed {count} of labs that were killed, or that --keep-failed kept")
        return 0
    checks = wait_for(check_host(voice(options), options.again))
    print(report(checks))
    return 0 if all(check.ok for check in checks if check.required) else EXIT_WRONG


def report(checks: Sequence[Check]) -> str:
    """The checks as lines: what was seen, and below each that is not well its hint."""
    lines = []
    for check in checks:
        lines.append(f"{'ok  ' if check.ok else 'LACK' if check.required else 'note'}  {check.name}: {check.seen}")
        if not check.ok and check.hint:
            lines.append(f"      hint: {check.hint}")
    return "\n".join(lines)
