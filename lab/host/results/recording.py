"""What is recorded of a cell while it runs, before it becomes files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Recording:
    """What has been recorded so far, in the guest's own words."""

    machine: Mapping[str, Any] | None = None
    skipped: str | None = None  # why this machine cannot have the scenario
    topology: Mapping[str, Any] | None = None
    steps: list[Mapping[str, Any]] = field(default_factory=list)
    reached: bool | None = None
    settings: Mapping[str, Any] | None = None
    before: dict[str, Mapping[str, Any]] | None = None
    after: dict[str, Mapping[str, Any]] | None = None
    ends: dict[str, dict[str, Mapping[str, Any]]] = field(default_factory=dict)  # by role, after the load
    samples: list[str] = field(default_factory=list)
    load: Mapping[str, Any] | None = None
    kernel_log: str | None = None
    kernel_log_holes: Mapping[str, Any] | None = None
    peer: Mapping[str, Any] | None = None  # which connections with other hosts worked
    console: str = ""
    logs: Mapping[str, str] = field(default_factory=dict)  # what the programs that made the machine printed
    lost: str | None = None
    stages_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the block's time to the stage `name`."""
        started = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - started
            self.stages_seconds[name] = round(self.stages_seconds.get(name, 0.0) + spent, 3)
