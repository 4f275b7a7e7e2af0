"""Reads what a report shows of a run: its results, and of each cell the plan, samples, kernel log and names of files.

Nothing is judged here, and nothing is written. A cell whose evidence is damaged is shown without what cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.core.errors import LabError, ScenarioError
from lab.core.kernel import kmsg
from lab.core.manifest import Manifest
from lab.core.render.report_cell import RecordedCell, readable
from lab.core.render.timeline import Driven, Panel, message_seconds, panels
from lab.core.result import CellResult
from lab.core.scenario import parse_toml
from lab.host.results import layout
from lab.host.results.plain_files import Damaged
from lab.host.results.records import readable_parts
from lab.host.results.stored_cell import StoredCell
from lab.host.results.stored_run import StoredRun, opened

_NO_CELL = "for example results/latest"


@dataclass(frozen=True)
class ReadRun:
    """All that a report shows; `cells` have no evidence where the folder holds the results alone."""

    folder: Path
    manifest: Manifest
    cells: tuple[RecordedCell, ...]
    summaries: Mapping[str, str]  # of the scenarios, by name

    @property
    def name(self) -> str:
        """The folder's own name, also where a link led to it."""
        return str(readable(os.fsencode(self.folder.resolve().name).decode("utf-8", "replace")))


@dataclass(frozen=True)
class _Planned:
    """What is shown of a plan."""

    steps: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    load: Mapping[str, Any] = field(default_factory=dict, hash=False)


def read_run(folder: Path) -> ReadRun:
    """A stored run. Raises ScenarioError when it is none, is damaged, or was written by a newer lab."""
    run = opened(folder, readable)
    if run.has_cells:
        stored = run.ordered_cells
        cells = tuple(_recorded(cell, run.result(cell)) for cell in stored)
        summaries = _summaries(stored, cells)
    else:
        cells, summaries = _results_alone(run), {}
    if not cells:
        raise ScenarioError(f"{folder}: no cell of this run has ended", hint=_NO_CELL)
    return ReadRun(folder, run.manifest, cells, summaries)


def _results_alone(run: StoredRun) -> tuple[RecordedCell, ...]:
    if run.document(layout.RESULTS) is None:
        raise ScenarioError(f"{run.folder}: is no run's folder (it has no {layout.CELLS}/)", hint=_NO_CELL)
    return tuple(RecordedCell(result, no_plots="The run's folder has no evidence.") for result in run.results)


def _recorded(cell: StoredCell, result: CellResult) -> RecordedCell:
    plan = readable_parts(_Planned, readable(cell.document(layout.PLAN) or {})).record or _Planned()
    log = _kernel_log(cell)
    drawn, why_not = _panels(cell, result, plan, log or ())
    said = (cell.document(layout.part("steps")) or {}).get("steps")
    outcomes = [outcome for outcome in said if isinstance(outcome, dict)] if isinstance(said, list) else []
    return RecordedCell(
        result=result,
        steps=plan.steps,
        outcomes=tuple(map(readable, outcomes)),
        panels=drawn,
        no_plots=why_not,
        log=log,
        files=tuple(name for name in layout.LINKED if (cell.folder / name).exists()),
    )


def _panels(
    cell: StoredCell, result: CellResult, plan: _Planned, log: Sequence[kmsg.Record]
) -> tuple[tuple[Panel, ...], str]:
    """What to draw, or why there is nothing."""
    load = readable_parts(Driven, {**plan.load, **(cell.document(layout.part("load")) or {})}).record or Driven()
    try:
        drawn = panels(cell.samples(), result, load, message_seconds(log, result.first_drop_seconds))
    except (OSError, Damaged, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        return (), f"The samples cannot be read: {readable(str(error))}"
    return drawn, "" if drawn else "No load was sampled, so there is nothing to draw."


def _kernel_log(cell: StoredCell) -> tuple[kmsg.Record, ...] | None:
    """The kernel's log; None where it was not read, or cannot be."""
    try:
        text = cell.text(layout.KERNEL_LOG)
        return kmsg.records(text) if text is not None else None
    except (OSError, Damaged, ValueError):
        return None


def _summaries(stored: Sequence[StoredCell], cells: Sequence[RecordedCell]) -> dict[str, str]:
    """What each scenario asks, by its copy in one of its cells; a scenario whose copy does not tell is left out."""
    found: dict[str, str] = {}
    for folder, cell in zip(stored, cells, strict=True):
        scenario = cell.result.scenario
        if scenario not in found:
            try:
                text = folder.text(layout.SCENARIO)
                content = parse_toml(text, layout.SCENARIO) if text is not None else None
            except (OSError, LabError):
                continue
            if content is not None:
                found[scenario] = str(readable(str(content.get("summary", ""))))
    return found
