"""A cell's plan as it is stored in plan.json, by a lab of any version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StoredMachine:
    """The machine of a plan."""

    boot_args: tuple[str, ...]
    memory_mb: int
    vcpus: int
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredLoad:
    """The load of a plan."""

    connections: int
    kind: str = "hold"
    newcomers: int | None = None


@dataclass(frozen=True)
class StoredPlan:
    """What is read of plan.json. Every version has the fields that have no default."""

    cell: str
    scenario: str
    scenario_digest: str
    variant: str
    axes: Mapping[str, str | int] = field(hash=False)
    target: str
    repeat: int
    machine: StoredMachine
    load: StoredLoad
    max: int | None = None
    steps: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)  # as the guest is sent them
