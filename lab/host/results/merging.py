"""`lab merge`: several runs as one. Every file is checked against its digest, and every cell is judged again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lab.core.errors import ScenarioError
from lab.core.merging import Part, merged, missing_text
from lab.core.result import CellResult
from lab.core.sums import SUMS
from lab.host.results import layout
from lab.host.results.checked import DIFFERS
from lab.host.results.judging import judge_folder
from lab.host.results.plain_files import sha256_of
from lab.host.results.store import create_run, now
from lab.host.results.stored_cell import StoredCell
from lab.host.results.stored_run import StoredRun, opened
from lab.host.results.verify import verify_run


@dataclass(frozen=True)
class MergedRun:
    """The new run, its results in the plan's order, and what it lacks, in a line; None where it lacks nothing."""

    folder: Path
    results: list[CellResult]
    lacks: str | None


def merge_runs(folders: Sequence[Path], output: Path) -> MergedRun:
    """Make one run of several, below `output`.

    Raises ScenarioError where a file of one differs from its digest, where they do not belong together, and where one
    has no manifest. The runs themselves stay as they are.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ScenarioError("a run is named twice", hint="name each shard once")
    runs = [opened(folder.resolve()) for folder in folders]
    for run in runs:
        _check_digests(run.folder)
    parts = [_part(run) for run in runs]
    whole = merged(parts)
    cells = {cell.name: cell for run in runs for cell in run.cells}
    planned = whole.manifest.cells or ()
    order = [*(name for name in planned if name in cells), *sorted(cells.keys() - set(planned))]
    with create_run(output) as folder:
        folder.write_manifest(whole.manifest)
        results = []
        for name in order:
            with folder.cell(name) as place:
                _copy(cells[name], place)
                results.append(judge_folder(place, cells[name].tries(), whole.manifest.overrides.mitigate))
        folder.write_results(results)
        folder.write_manifest(replace(whole.manifest, ended_at=now()))
    return MergedRun(folder.path, results, missing_text(parts, whole.missing) if whole.missing else None)


def _check_digests(run: Path) -> None:
    for checked in verify_run(run, cache=False):
        if checked.state == DIFFERS:
            raise ScenarioError(
                f"{run.name}: {checked.where}: {checked.what}", hint="fetch the run again from where it was made"
            )


def _part(run: StoredRun) -> Part:
    if run.document(layout.MANIFEST) is None:
        raise ScenarioError(f"{run.folder}: has no {layout.MANIFEST}", hint="name a run's folder, as in results/latest")
    digest = sha256_of(run.folder / layout.MANIFEST)
    return Part(run.folder.name, run.manifest, digest, tuple(cell.name for cell in run.cells))


def _copy(cell: StoredCell, place: Path) -> None:
    """Everything of a cell but its list of digests, which is made again."""
    shutil.copytree(cell.folder, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SUMS))
