"""Kernels without guests: prepared at once, and run by writing the folder that a run leaves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.core.bisecting.points import Point
from lab.core.errors import ScenarioError
from lab.core.plan import Cell
from lab.core.scenario import scenario_digest
from lab.host.bisecting import looks as module
from lab.host.bisecting.looks import Looks
from lab.host.images import Image
from lab.host.kernels.bundle import KernelBundle
from lab.host.machines.agent_package import agent_zipapp
from lab.host.options import RunOptions
from lab.host.results.records import to_json
from lab.host.run.planned import PlannedRun
from tests.unit.runs import cell as stored_cell
from tests.unit.runs import manifest

NOWHERE = Path("/nonexistent")
IMAGE = Image("debian12", "0" * 64, NOWHERE, "6.1.0", {"root.ext4": "1" * 64}, "2026-01-01T00:00:00+00:00")
Shows = Callable[[str], str]


class Interrupted(Exception):
    """Ctrl-C, in the middle of a run."""


@dataclass
class Guests:
    """Runs planned cells: a folder for each run, with a cell of what `shows` gives for the kernel's name.

    `ran` are the kernels that cells were run on, in order; after `stop_after` of them the run is broken off.
    """

    output: Path
    shows: Shows
    broken: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    booted: set[str] = field(default_factory=set)
    stop_after: int | None = None
    runs: int = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prepare kernels here, too."""
        monkeypatch.setattr(module, "image_of", lambda target, options, say: IMAGE)
        monkeypatch.setattr(module, "prepare", self.prepare)

    def prepare(self, source: str, *others: object) -> KernelBundle:
        if source in self.broken:
            raise ScenarioError(self.broken[source], hint="take another")
        digest = self.digests.get(source) or hashlib.sha256(source.encode()).hexdigest()
        return KernelBundle(source, NOWHERE, NOWHERE, None, None, digest, NOWHERE, {}, {})

    def __call__(self, planned: PlannedRun, options: RunOptions) -> Path:
        self.runs += 1
        run = self.output / f"20260101T{self.runs:06}Z-{len(list(self.output.glob('*'))):06}"
        (run / "cells").mkdir(parents=True)
        content = manifest([spec.name for spec in planned.targets])
        content["agent_sha256"] = hashlib.sha256(agent_zipapp()).hexdigest()
        content["overrides"] = {"connections": options.connections, "max": options.max}
        for spec in planned.targets:
            digest = planned.pinned[spec.name].kernel.digest
            content["targets"][spec.name] |= {"kernel_digest": digest, "image_sha256s": dict(IMAGE.sha256s)}
        (run / "manifest.json").write_text(json.dumps(content))
        (self.output / "latest").unlink(missing_ok=True)
        (self.output / "latest").symlink_to(run.name)
        for cell in planned.cells:
            self._run(cell, run)
        return run

    def _run(self, cell: Cell, run: Path) -> None:
        if self.stop_after is not None and len(self.ran) >= self.stop_after:
            raise Interrupted
        kernel = cell.target.partition("+")[2]
        self.ran.append(kernel)
        stages = {"load": 1.0} if kernel in self.booted else {"boot": 5.0, "load": 1.0}
        self.booted.add(kernel)
        finding = self.shows(kernel)
        result = stored_cell(
            finding,
            variant=cell.variant.name,
            target=cell.target,
            repeat=cell.repeat,
            scenario_digest=scenario_digest(cell.variant.scenario),
            tries=[{"number": 1, "lost": None, "stages_seconds": stages}],
        )
        folder = run / "cells" / cell.name
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(to_json(result)))


def points(count: int) -> list[Point]:
    return [Point(f"6.{number}", f"/kernels/6.{number}") for number in range(count)]


def looking(guests: Guests, count: int, lines: list[str] | None = None, **options: object) -> Looks:
    """What looks at so many kernels with one shipped scenario."""
    asked = RunOptions(scenarios=("max-zero",), output=guests.output, **options)  # type: ignore[arg-type]
    return Looks(points(count), asked, guests, (lines if lines is not None else []).append)
