"""`lab shell`: a shell in a guest, at a scenario's state."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lab.core.errors import LabError
from lab.host.cli.console import detail, voice, wait_for
from lab.host.cli.parsing import PROVISIONERS, add_loudness, command
from lab.host.options import add_options, read_options

# a shell has one machine, and stores nothing
_OF_A_RUN = (
    *("repeat", "mitigate", "parallel", "share_machine", "keep_failed", "output"),
    *("shard", "durations", "fleet", "keys"),
)


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab shell nat-flushed --set iptables=nft --target debian13"
    parser = command(commands, "shell", _shell, "open a shell in the guest, at the scenario's state", example)
    groups = add_options(parser, without=_OF_A_RUN, scenarios={"nargs": "?"}, provisioner={"choices": PROVISIONERS})
    help_of_kept = "the folder of a cell that was run with --keep-failed"
    groups["what to run"].add_argument("--kept", metavar="CELL", help=help_of_kept)
    add_loudness(parser, verbose="each stage and step, and what programs print")


def _shell(options: argparse.Namespace) -> int:
    from lab.host.run.commands import Services, open_kept, open_shell
    from lab.host.run.planned import plan_run

    asked = read_options(options, sys.argv)
    services = Services(voice(options), detail=detail(options))
    if options.kept:
        kept: int = wait_for(open_kept(Path(options.kept), asked, services))
        return kept
    if not asked.scenarios:
        raise LabError("lab shell: names no scenario", hint="lab shell nat-present, or lab shell --kept CELL")
    status: int = wait_for(open_shell(plan_run(asked), asked, services))
    return status
