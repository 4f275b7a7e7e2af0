"""`lab verify`: whether a stored run is as it was written."""

from __future__ import annotations

import argparse
from typing import Any

from lab.core.text import printable
from lab.host.cli.parsing import command
from lab.host.cli.results import stored_run
from lab.host.publish import github


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab verify results/latest"
    parser = command(commands, "verify", _verify, "check that a stored run has not changed", example)
    parser.add_argument("directory", metavar="DIR", help="the run's folder, or one with its results alone")


def _verify(options: argparse.Namespace) -> int:
    from collections import Counter

    from lab.host.results import verify
    from lab.host.results.checked import OK

    states: Counter[str] = Counter()
    files = 0
    for checked in verify.verify_run(stored_run(options.directory)):
        states[checked.state] += 1
        files += checked.files
        if checked.state != OK:
            print(github.printed(printable(f"{checked.state:8} {checked.where}: {checked.what}")), flush=True)
    print(verify.verdict(states, files))
    return verify.exit_status(states)
