"""The published JSON Schemas: of what the lab reads and of all that it writes. They ship with the package."""

from __future__ import annotations

from importlib import resources

# name -> what it describes
SCHEMAS = {
    "scenario": "a scenario's TOML file",
    "plan": "plan.json of a cell",
    "results": "results.json; result.json of a cell is its #/$defs/cell",
    "manifest": "manifest.json of a run",
    "compare": "what lab compare --format json prints",
    "inspect": "what lab inspect --format json prints",
}


def schema_text(name: str) -> str:
    """A schema as it is in its file; `name` is one of SCHEMAS."""
    return resources.files("lab").joinpath("schemas", f"{name}.schema.json").read_text(encoding="utf-8")
