"""A run under way: its folder and its manifest, from the first cell to the last, whoever runs the cells."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lab.core.manifest import Manifest
from lab.core.result import CellResult
from lab.host.machines.machine import Prepared
from lab.host.options import RunOptions
from lab.host.results.store import RunFolder, create_run, now, resume_run, unless_failed
from lab.host.run.manifest import manifest_of
from lab.host.run.planned import PlannedRun


@dataclass(frozen=True)
class BegunRun:
    """A run that has some of its cells: its folder, its manifest as it is to be from now on, and its results."""

    folder: Path
    manifest: Manifest
    results: tuple[CellResult, ...]


@dataclass
class Recorded:
    """A run's folder that is locked, what its manifest is to say at the end, and the results so far."""

    folder: RunFolder
    manifest: Manifest
    results: list[CellResult]


@contextlib.contextmanager
def recorded(
    planned: PlannedRun,
    options: RunOptions,
    provisioner: Mapping[str, Any],
    targets: Mapping[str, Prepared],
    begun: BegunRun | None,
) -> Iterator[Recorded]:
    """The folder of a new run, or of one that was begun; when the block ends, its manifest says when, and whether the
    run is complete.
    """
    with contextlib.ExitStack() as stack:
        if begun is None:
            folder = stack.enter_context(create_run(options.output))
            run = Recorded(folder, manifest_of(planned, options, provisioner, targets), [])
        else:
            folder = stack.enter_context(resume_run(begun.folder))
            run = Recorded(folder, begun.manifest, list(begun.results))
        folder.write_manifest(run.manifest)
        try:
            yield run
        finally:
            complete = len(run.results) == len(run.manifest.cells or ())
            with unless_failed():
                folder.write_manifest(replace(run.manifest, ended_at=now(), complete=complete))
