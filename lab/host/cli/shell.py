"""`lab shell`: a shell in a guest, at a scenario's state."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab.core.errors import LabError
from lab.host.cli.console import detail, voice, wait_for
from lab.host.cli.options import add_load, add_machines, add_scenarios, run_options
from lab.host.cli.parsing import add_loudness, command


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab shell nat-flushed --set iptables=nft --target debian13"
    parser = command(commands, "shell", _shell, "open a shell in the guest, at the scenario's state", example)
    what = add_scenarios(parser, count="?")
    what.add_argument("--kept", metavar="CELL", help="the folder of a cell that was run with --keep-failed")
    add_machines(parser)
    add_load(parser)
    add_loudness(parser, verbose="each stage and step, and what programs print")


def _shell(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from lab.host.run.commands import open_kept, open_shell, plan_run

    asked = replace(run_options(options), detail=detail(options))
    if options.kept:
        kept: int = wait_for(open_kept(Path(options.kept), asked, voice(options)))
        return kept
    if not asked.scenarios:
        raise LabError("lab shell: names no scenario", hint="lab shell nat-present, or lab shell --kept CELL")
    status: int = wait_for(open_shell(plan_run(asked), asked, voice(options)))
    return status
