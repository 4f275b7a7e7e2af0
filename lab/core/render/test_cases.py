"""What CI systems read of a run: its results as test cases, each with what became of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from lab.core.text import printable

if TYPE_CHECKING:  # every command prints by way of here, and few of them read results
    from lab.core.manifest import Manifest
    from lab.core.result import CellResult

# what a mark is for a test runner; all other marks have passed
OUTCOMES: Mapping[str, str] = {"DIFFERS": "failure", "unclear": "error", "skipped": "skipped"}
PASSED = "passed"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", re.ASCII)


@dataclass(frozen=True)
class RunFacts:
    """What is said of the run as a whole. `folder` is where its evidence lies, as it was named."""

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


def run_facts(manifest: Manifest, folder: str) -> RunFacts:
    """What a manifest tells of its run; what is not in it is left out, and a damaged part is no more than that."""
    started = manifest.started_at
    files = manifest.scenario_files or {}
    return RunFacts(
        folder,
        started if started and _TIME.fullmatch(started) else None,
        {name: printable(str(value)) for name, value in _properties(manifest).items() if value not in (None, "")},
        {name: printable(file.path) for name, file in files.items() if file.path},
    )


def case(cell: CellResult, folder: str = "") -> Case:
    """A result as a test case; `folder` is the run's."""
    instead = f" instead of {cell.expected}" if cell.expected and cell.as_expected is False else ""
    return Case(
        scenario=printable(cell.scenario),
        target=printable(cell.target),
        name=printable(f"{cell.variant}{f'-r{cell.repeat}' if cell.repeat != 1 else ''}"),
        outcome=OUTCOMES.get(cell.mark, PASSED),
        finding=printable(cell.finding),
        headline=printable(f"{cell.finding}{instead}"),
        reason=tuple(map(printable, cell.reason.splitlines())) or ("",),
        seconds=cell.seconds,
        evidence=printable(str(PurePath(folder, "cells", cell.cell))),
    )


def by_target(cells: Sequence[CellResult], folder: str = "") -> dict[str, list[Case]]:
    """The cases of each target, in the order of the cells."""
    groups: dict[str, list[Case]] = {}
    for cell in cells:
        made = case(cell, folder)
        groups.setdefault(made.target, []).append(made)
    return groups


def _properties(manifest: Manifest) -> dict[str, object]:
    return {
        "lab.version": manifest.tool_version,
        "lab.provisioner": manifest.provisioner.name,
        "lab.accelerator": manifest.provisioner.accelerator,
        "lab.qemu_version": manifest.provisioner.qemu_version,
        "lab.host_kernel": manifest.host.kernel_release,
        "lab.connections": manifest.overrides.connections,
        "lab.max": manifest.overrides.max,
    }
