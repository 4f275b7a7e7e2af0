"""`lab list`: the scenarios and targets that there are."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from lab.host.cli.console import columns
from lab.host.cli.parsing import command


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    parser = command(commands, "list", _list, "list scenarios and targets", "lab list targets")
    parser.add_argument("what", nargs="?", choices=("all", "scenarios", "targets"), default="all")
    parser.add_argument("--format", choices=("human", "json"), default="human")


def _list(options: argparse.Namespace) -> int:
    from lab.host.cli import listing
    from lab.host.scenario_files import all_scenarios, load_scenarios

    with_scenarios, with_targets = (options.what in (what, "all") for what in ("scenarios", "targets"))
    paths = all_scenarios() if with_scenarios else {}
    scenarios = listing.scenarios_of(load_scenarios([str(path) for path in paths.values()], ()))
    targets = listing.targets_of() if with_targets else ()
    if options.format == "json":
        document = listing.document(scenarios if with_scenarios else None, targets if with_targets else None)
        print(json.dumps(document, indent=1))
        return 0
    width = columns(sys.stdout)
    tables = [listing.scenario_table(scenarios, width)] if with_scenarios else []
    tables += [listing.target_table(targets, width)] if with_targets else []
    print("\n\n".join(tables))
    return 0
