"""What CI systems read of a run: its results as test cases, each with what became of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from lab.core.result import mark
from lab.core.text import printable

Json = Mapping[str, Any]

# what a mark is for a test runner; all other marks have passed
OUTCOMES: Mapping[str, str] = {"DIFFERS": "failure", "unclear": "error", "skipped": "skipped"}
PASSED = "passed"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", re.ASCII)


@dataclass(frozen=True)
class RunFacts:
    """What is told of the run as a whole. `folder` is where its evidence lies, as it was named."""

    folder: str = ""
    started_at: str | None = None  # ISO 8601
    properties: Mapping[str, str] = field(default_factory=dict, hash=False)
    scenario_files: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Case:
    """A cell as a test case. Every text is one printable line; `reason` may have several of them."""

    scenario: str
    target: str
    name: str  # the variant, from the second repeat on with -rN: no two cases of a target have the same
    outcome: str  # passed, or a value of OUTCOMES
    finding: str
    headline: str
    reason: tuple[str, ...]
    seconds: float
    evidence: str


def run_facts(manifest: Json, folder: str) -> RunFacts:
    """What a manifest tells of its run; what is not in it is left out, and a damaged part is no more than that."""
    started = manifest.get("started_at")
    return RunFacts(
        folder,
        started if isinstance(started, str) and _TIME.fullmatch(started) else None,
        {name: printable(str(value)) for name, value in _properties(manifest).items() if value not in (None, "")},
        {name: printable(path) for name, path in _scenario_files(manifest).items()},
    )


def case(cell: Json, folder: str = "") -> Case:
    """A result as a test case; `folder` is the run's."""
    repeat = cell.get("repeat", 1)
    wanted = f" instead of {cell['expected']}" if cell["expected"] and cell["as_expected"] is False else ""
    return Case(
        scenario=printable(str(cell.get("scenario", cell["variant"]))),
        target=printable(str(cell["target"])),
        name=printable(f"{cell['variant']}{f'-r{repeat}' if repeat != 1 else ''}"),
        outcome=OUTCOMES.get(mark(cell), PASSED),
        finding=printable(str(cell["finding"])),
        headline=printable(f"{cell['finding']}{wanted}"),
        reason=tuple(map(printable, str(cell["reason"]).splitlines())) or ("",),
        seconds=sum(sum(attempt["stages_seconds"].values()) for attempt in cell["tries"]),
        evidence=printable(str(PurePath(folder, "cells", str(cell["cell"])))),
    )


def by_target(cells: Sequence[Json], folder: str = "") -> dict[str, list[Case]]:
    """The cases of each target, in the order of the cells."""
    groups: dict[str, list[Case]] = {}
    for cell in cells:
        one = case(cell, folder)
        groups.setdefault(one.target, []).append(one)
    return groups


def _properties(manifest: Json) -> dict[str, object]:
    provisioner, host = (_table(manifest, name) for name in ("provisioner", "host"))
    overrides = _table(manifest, "overrides")
    return {
        "lab.version": manifest.get("tool_version"),
        "lab.provisioner": provisioner.get("name"),
        "lab.accelerator": provisioner.get("accelerator"),
        "lab.qemu_version": provisioner.get("qemu_version"),
        "lab.host_kernel": host.get("kernel_release"),
        "lab.connections": overrides.get("connections"),
        "lab.max": overrides.get("max"),
    }


def _scenario_files(manifest: Json) -> dict[str, str]:
    files = _table(manifest, "scenario_files")
    paths = {name: one.get("path") for name, one in files.items() if isinstance(one, Mapping)}
    return {name: path for name, path in paths.items() if isinstance(path, str) and path}


def _table(document: Json, name: str) -> Json:
    value = document.get(name)
    return value if isinstance(value, Mapping) else {}
