"""Reads the runs that are compared: a run's folder, or one that holds its manifest.json and results.json only."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.core.comparing.compare import compare
from lab.core.comparing.model import Comparison, Run
from lab.core.errors import LabError, ScenarioError
from lab.core.scenario import scenario_digest, scenario_meaning
from lab.core.scenario.expectation import FINDING_EVIDENCE
from lab.host.results import layout
from lab.host.results.stored_cell import StoredCell
from lab.host.results.stored_run import opened


def compare_runs(
    base: Path, new: Path, matches: Sequence[str] = (), *, subset: bool = False, strict: bool = False
) -> Comparison:
    """Compare two runs by their folders. Raises ScenarioError for what cannot be read or cannot be compared."""
    ours, theirs = load_run(base), load_run(new)
    differing = {cell.scenario for cell in ours.cells} & {cell.scenario for cell in theirs.cells}
    differing = {name for name in differing if _digests(ours, name) != _digests(theirs, name)}
    ours, theirs = _with_meanings(base, ours, differing), _with_meanings(new, theirs, differing)
    return compare(ours, theirs, matches, subset=subset, strict=strict)


def load_run(folder: Path) -> Run:
    """A stored run. Raises ScenarioError when it is none, is damaged, or was written by a newer lab."""
    stored = opened(folder)
    for name in layout.RUN_FILES:
        if stored.document(name) is None:
            hint = "name a run's folder, as in results/latest"
            raise ScenarioError(f"{folder / name}: cannot be read: {os.strerror(errno.ENOENT)}", hint=hint)
    results = folder / layout.RESULTS
    if not stored.results:
        raise ScenarioError(f"{results}: has no cells", hint="name a run of which a cell has ended")
    for cell in stored.results:
        if cell.finding not in FINDING_EVIDENCE:
            what = f"{cell.cell!r:.100}: finding is {cell.finding!r:.40}, which this lab does not know"
            raise ScenarioError(f"{results}: is damaged: {what}", hint="name another run, or judge it again")
    name, count = Counter(cell.cell for cell in stored.results).most_common(1)[0]
    if count > 1:
        raise ScenarioError(f"{results}: is damaged: {name!r:.100} is in it twice", hint="judge the run again")
    return Run(_name(folder), stored.manifest, stored.results)


def _name(folder: Path) -> str:
    """The folder as it was named; of results/latest, the run that it points to."""
    return str(folder.parent / folder.readlink()) if folder.is_symlink() else str(folder)


def _digests(run: Run, scenario: str) -> set[str]:
    return {cell.scenario_digest for cell in run.cells if cell.scenario == scenario}


def _with_meanings(folder: Path, run: Run, scenarios: set[str]) -> Run:
    """The run with what those of its scenarios mean whose files it keeps."""
    meanings = {name: meaning for name in scenarios if (meaning := _meaning(folder, run, name)) is not None}
    return Run(run.name, run.manifest, run.cells, meanings)


def _meaning(folder: Path, run: Run, name: str) -> Mapping[str, Any] | None:
    """What a scenario of a run meant; None where its file is not kept, or is not what was run."""
    cell = next(cell for cell in run.cells if cell.scenario == name)
    if Path(cell.cell).name != cell.cell:
        return None
    try:
        scenario = StoredCell(folder / layout.CELLS / cell.cell).scenario()
    except (LabError, OSError, ValueError, KeyError):
        return None
    if scenario_digest(scenario) != cell.scenario_digest:
        return None
    meaning: Mapping[str, Any] = json.loads(json.dumps(scenario_meaning(scenario), default=str))
    return meaning
