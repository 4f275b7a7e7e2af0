"""`lab schema`: the schemas of the lab's documents."""

from __future__ import annotations

import argparse
from typing import Any

from lab.host.cli.parsing import command
from lab.host.publish.schemas import SCHEMAS, schema_text


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    example = "lab schema scenario > scenario.schema.json"
    parser = command(commands, "schema", _schema, "print the schema of a document of the lab", example)
    parser.add_argument("name", choices=tuple(SCHEMAS), help="; ".join(f"{name}: {of}" for name, of in SCHEMAS.items()))


def _schema(options: argparse.Namespace) -> int:

    print(schema_text(options.name), end="")
    return 0
