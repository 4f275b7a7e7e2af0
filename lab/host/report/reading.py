"""Reads what a report shows of a run: its results, and of each cell the plan, samples, kernel log and names of files.

Nothing is judged here, and nothing is written. A cell whose evidence is damaged is shown without what cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.core.errors import LabError, ScenarioError
from lab.core.evidence import parse_samples
from lab.core.kernel import kmsg
from lab.core.render.report import Recorded, readable
from lab.core.render.timeline import MOST, Panel, message_seconds, panels
from lab.core.scenario import parse_toml
from lab.host.results import store
from lab.host.results.plain_files import Damaged, read_json, read_text

Json = Mapping[str, Any]

_MANIFEST, _RESULTS = "manifest.json", "results.json"
# what is linked, as far as a cell has it; folders end with a slash
_FILES = (
    "result.json",
    "plan.json",
    "scenario.toml",
    "samples.csv",
    "kmsg.log",
    "console.log",
    "vagrant.log",
    "evidence/machine.json",
    "evidence/steps.json",
    "evidence/settings.json",
    "evidence/topology.json",
    "evidence/samples.jsonl",
    "evidence/load.json",
    "evidence/lost.json",
    "evidence/skipped.json",
    "evidence/before/",
    "evidence/after/",
    "tries/1/",
    "mitigation/",
)
# what a report reads of a result; every version of the format has these
_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "cell": str,
    "scenario": str,
    "target": str,
    "axes": dict,
    "repeat": int,
    "kernel_release": (str, type(None)),
    "finding": str,
    "reason": str,
    "expected": (str, type(None)),
    "because": (str, type(None)),
    "as_expected": (bool, type(None)),
    "message_logged": (bool, type(None)),
    "max": (int, type(None)),
    "max_changed": list,
    "entries_peak": (int, type(None)),
    "drops": (int, type(None)),
    "early_drops": (int, type(None)),
    "insert_failed": (int, type(None)),
    "connections": (dict, type(None)),
    "first_drop_seconds": (int, float, type(None)),
    "holders": (list, type(None)),
    "proofs": (dict, type(None)),
    "tries": list,
}


@dataclass(frozen=True)
class StoredRun:
    """A run as it lies in its folder; `cells` have no evidence where the folder holds the results alone."""

    folder: Path
    manifest: Json
    cells: tuple[Recorded, ...]
    summaries: Mapping[str, str]

    @property
    def name(self) -> str:
        """The folder's own name, also where a link led to it."""
        return str(readable(os.fsencode(self.folder.resolve().name).decode("utf-8", "replace")))


def read_run(run: Path) -> StoredRun:
    """A stored run. Raises ScenarioError when it is none, is damaged, or was written by a newer lab."""
    store.check_run(run)
    manifest = _json(run / _MANIFEST) or {}
    if (run / "cells").is_dir():
        order = {cell: number for number, cell in enumerate(store.stored_order(run))}
        folders = sorted(store.cell_folders(run), key=lambda folder: order.get(folder.name, len(order)))
        cells = tuple(map(_recorded, folders))
        summaries = _summaries(folders, cells)
    else:
        cells, summaries = _results_alone(run), {}
    if not cells:
        raise ScenarioError(f"{run}: no cell of this run has ended", hint="for example results/latest")
    return StoredRun(run, readable(manifest), cells, summaries)


def _results_alone(run: Path) -> tuple[Recorded, ...]:
    content = _json(run / _RESULTS)
    if content is None:
        raise ScenarioError(f"{run}: is no run's folder (it has no cells/)", hint="for example results/latest")
    found = content.get("cells")
    results = found if isinstance(found, list) else []
    return tuple(
        Recorded(_checked(result, f"{run / _RESULTS}: cell {number}"), no_plots="The run's folder has no evidence.")
        for number, result in enumerate(results, start=1)
    )


def _recorded(folder: Path) -> Recorded:
    result = store.read_result(folder)
    if result is None:
        raise ScenarioError(
            f"{folder}: has no result.json", hint=f"lab judge {folder.parent.parent} makes it from the evidence"
        )
    checked = _checked(result, f"{folder}/result.json")
    plan = _json(folder / "plan.json")
    log = _kernel_log(folder / "kmsg.log")
    drawn, why_not = _panels(folder, checked, plan, log or ())
    return Recorded(
        result=checked,
        plan=readable(plan),
        outcomes=tuple(readable(_list(_json(folder / "evidence" / "steps.json"), "steps"))),
        panels=drawn,
        no_plots=why_not,
        log=log,
        files=tuple(name for name in _FILES if (folder / name).exists()),
    )


def _checked(result: object, where: str) -> Json:
    """A result with all that is read of it. Raises ScenarioError that names what is not as it must be."""
    content: Json = result if isinstance(result, dict) else {}
    for name, kind in _KEYS.items():
        value = content.get(name)
        is_absurd = isinstance(value, int | float) and not -MOST <= value <= MOST
        if name not in content or not isinstance(value, kind) or is_absurd:
            raise ScenarioError(f"{where}: is damaged: {name} is missing or wrong", hint="lab judge makes it anew")
    checked: Json = readable(content)
    return checked


def _panels(folder: Path, result: Json, plan: Json | None, log: Sequence[kmsg.Record]) -> tuple[tuple[Panel, ...], str]:
    """What to draw, or why there is nothing."""
    path = folder / "evidence" / "samples.jsonl"
    planned = (plan or {}).get("load")
    load = {**(planned if isinstance(planned, dict) else {}), **(_json(folder / "evidence" / "load.json") or {})}
    try:
        samples = parse_samples(read_text(path).splitlines()) if path.exists() else ()
        drawn = panels(samples, result, load, message_seconds(log, result["first_drop_seconds"]))
    except (OSError, Damaged, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        return (), f"The samples cannot be read: {readable(str(error))}"
    return drawn, "" if drawn else "No load was sampled, so there is nothing to draw."


def _kernel_log(path: Path) -> tuple[kmsg.Record, ...] | None:
    """The kernel's log; None where it was not read, or cannot be."""
    try:
        return kmsg.records(read_text(path)) if path.exists() else None
    except (OSError, Damaged, ValueError):
        return None


def _summaries(folders: Sequence[Path], cells: Sequence[Recorded]) -> dict[str, str]:
    """What each scenario asks, by its copy in one of its cells; a scenario whose copy does not tell is left out."""
    found: dict[str, str] = {}
    for folder, cell in zip(folders, cells, strict=True):
        scenario = str(cell.result["scenario"])
        if scenario not in found:
            try:
                content = parse_toml(read_text(folder / "scenario.toml"), "scenario.toml")
            except (OSError, LabError):
                continue
            found[scenario] = str(readable(str(content.get("summary", ""))))
    return found


def _json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None when there is no such file. Raises ScenarioError for one that is damaged."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return None


def _list(content: Json | None, name: str) -> list[Any]:
    found = (content or {}).get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
