"""Reads the runs that are compared: a run's folder, or one that holds its manifest.json and results.json only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.core.comparing.compare import Comparison, Run, compare
from lab.core.errors import LabError, ScenarioError
from lab.core.scenario.expectation import FINDING_EVIDENCE
from lab.core.result import RESULT_VERSION
from lab.core.scenario import scenario_digest, scenario_meaning
from lab.host.results.plain_files import read_json
from lab.host.run.runner import stored_scenario
from lab.host.results.store import check_run

MANIFEST, RESULTS = "manifest.json", "results.json"

Json = dict[str, Any]

_OPTIONAL = type(None)
_NUMBER = (int, float)
# what a comparison reads of a result; every version of the format has these
_KEYS: Mapping[str, tuple[type, ...]] = {
    "cell": (str,),
    "scenario": (str,),
    "scenario_digest": (str,),
    "variant": (str,),
    "target": (str,),
    "finding": (str,),
    "reason": (str,),
    "expected": (str, _OPTIONAL),
    "as_expected": (bool, _OPTIONAL),
    "kernel_release": (str, _OPTIONAL),
    "message_logged": (bool, _OPTIONAL),
    "drops": (*_NUMBER, _OPTIONAL),
    "first_drop_seconds": (*_NUMBER, _OPTIONAL),
    "connections": (dict, _OPTIONAL),
}


def compare_runs(
    base: Path, new: Path, matches: Sequence[str] = (), *, subset: bool = False, strict: bool = False
) -> Comparison:
    """Compare two runs by their folders. Raises ScenarioError for what cannot be read or cannot be compared."""
    ours, theirs = load_run(base), load_run(new)
    differing = {cell["scenario"] for cell in ours.cells} & {cell["scenario"] for cell in theirs.cells}
    differing = {name for name in differing if _digests(ours, name) != _digests(theirs, name)}
    ours, theirs = _with_meanings(base, ours, differing), _with_meanings(new, theirs, differing)
    return compare(ours, theirs, matches, subset=subset, strict=strict)


def load_run(folder: Path) -> Run:
    """A stored run. Raises ScenarioError when it is none, is damaged, or was written by a newer lab."""
    check_run(folder)
    manifest, results = _read(folder / MANIFEST), _read(folder / RESULTS)
    cells = results.get("cells")
    if not isinstance(cells, list) or not cells:
        raise ScenarioError(f"{folder / RESULTS}: has no cells", hint="name a run of which a cell has ended")
    for cell in cells:
        if problem := _problem(cell):
            raise ScenarioError(
                f"{folder / RESULTS}: is damaged: {problem}", hint="name another run, or judge it again"
            )
    name, count = Counter(cell["cell"] for cell in cells).most_common(1)[0]
    if count > 1:
        raise ScenarioError(f"{folder / RESULTS}: is damaged: {name!r:.100} is in it twice", hint="judge the run again")
    return Run(_name(folder), manifest, tuple(cells))


def _problem(cell: object) -> str | None:
    """What is wrong with a result, as far as it is read; None where nothing is."""
    if not isinstance(cell, dict):
        return "a cell is no object"
    name = f"{cell.get('cell')!r:.100}"
    version = cell.get("schema_version", RESULT_VERSION)
    if not isinstance(version, int) or version > RESULT_VERSION:
        return f"{name}: schema_version is {version!r:.20}, this lab reads up to {RESULT_VERSION}"
    for key, types in _KEYS.items():
        value = cell.get(key)
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            return f"{name}: {key} is {value!r:.40}"
    if cell["finding"] not in FINDING_EVIDENCE:
        return f"{name}: finding is {cell['finding']!r:.40}, which this lab does not know"
    numbers = {key: cell[key] for key in ("drops", "first_drop_seconds")}
    numbers["connections.held"] = (cell["connections"] or {"held": None}).get("held", "missing")
    for key, value in numbers.items():
        if value is not None and not _is_count(value):
            return f"{name}: {key} is {value!r:.40}"
    versions = cell.get("versions")
    if versions is not None and not (isinstance(versions, dict) and all(isinstance(v, str) for v in versions.values())):
        return f"{name}: versions is {versions!r:.40}"
    return None


def _is_count(value: object) -> bool:
    return isinstance(value, _NUMBER) and not isinstance(value, bool) and 0 <= value < 2**63


def _name(folder: Path) -> str:
    """The folder as it was named; of results/latest, the run that it points to."""
    return str(folder.parent / folder.readlink()) if folder.is_symlink() else str(folder)


def _digests(run: Run, scenario: str) -> set[str]:
    return {cell["scenario_digest"] for cell in run.cells if cell["scenario"] == scenario}


def _with_meanings(folder: Path, run: Run, scenarios: set[str]) -> Run:
    """The run with what those of its scenarios mean whose files it keeps."""
    meanings = {name: meaning for name in scenarios if (meaning := _meaning(folder, run, name)) is not None}
    return Run(run.name, run.manifest, run.cells, meanings)


def _meaning(folder: Path, run: Run, name: str) -> Json | None:
    """What a scenario of a run meant; None where its file is not kept, or is not what was run."""
    cell = next(cell for cell in run.cells if cell["scenario"] == name)
    if Path(cell["cell"]).name != cell["cell"]:
        return None
    try:
        scenario = stored_scenario(folder / "cells" / cell["cell"])
    except (LabError, OSError, ValueError, KeyError):
        return None
    if scenario_digest(scenario) != cell["scenario_digest"]:
        return None
    meaning: Json = json.loads(json.dumps(scenario_meaning(scenario), default=str))
    return meaning


def _read(path: Path) -> Json:
    try:
        return read_json(path)
    except OSError as error:
        raise ScenarioError(
            f"{path}: cannot be read: {error.strerror}", hint="name a run's folder, as in results/latest"
        ) from error
