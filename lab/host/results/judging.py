"""Judging what lies in a cell's folder, and storing the result: after a cell has run, and again with `lab judge`.

The evidence is read in a process of its own, for what a guest said may keep a parser busy for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import LabError
from lab.core.evidence import Evidence
from lab.core.facts import Facts
from lab.core.judging.cell_result import cell_result
from lab.core.judging.finding import Finding, judge
from lab.core.mitigation.judged import Judged, judged
from lab.core.mitigation.outcome import called_for, outcome
from lab.core.mitigation.removal import planned_commands
from lab.core.result import CellResult, Mitigation, Try
from lab.core.scenario.expectation import Expectation, expected_for
from lab.core.scenario.filling import NEEDS_FULL, cannot_fill
from lab.host.results import layout, store
from lab.host.results.apart import Exceeded, call_apart
from lab.host.results.plain_files import is_folder, write_aside
from lab.host.results.records import Wrong, to_json, whole
from lab.host.results.stored_cell import StoredCell
from lab.host.results.stored_run import StoredRun

_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, OverflowError)


@dataclass(frozen=True)
class Read:
    """What a machine's evidence shows; `samples_csv` is None where it cannot be read."""

    judged: Judged
    facts: Facts
    samples_csv: str | None


def judged_apart(folder: Path) -> Read:
    """The evidence in a cell's folder, judged in another process; `inconclusive`, with why, where that took more time
    or memory than it may. Raises ScenarioError for damaged files.
    """
    try:
        read: Read = call_apart(f"{__name__}:{read_and_judge.__name__}", folder)
    except Exceeded as exceeded:
        return _unread(f"the evidence could not be judged: {exceeded}")
    return read


def read_and_judge(folder: Path) -> Read:
    """The same in this process. Raises ScenarioError for damaged files."""
    try:
        evidence = StoredCell(folder).evidence()
        finding = judge(evidence)
        return Read(judged(evidence, finding), evidence.facts, store.samples_csv(evidence.samples))
    except LabError:
        raise
    except _DAMAGE as error:
        return _unread(f"the evidence cannot be read: {error}")


def _unread(why: str) -> Read:
    return Read(Judged(Finding("inconclusive", why), None), Evidence().facts, None)


def judge_run(run: Path) -> list[CellResult]:
    """Judge every cell of a run again from its folder alone, and write results.json. Raises ScenarioError."""
    with store.open_run(run) as folder:
        stored = StoredRun(run)
        mitigate = stored.manifest.overrides.mitigate
        results = [judge_folder(cell.folder, cell.tries(), mitigate) for cell in stored.ordered_cells]
        folder.write_results(results)
    return results


def judge_folder(folder: Path, tries: Sequence[Try], mitigate: bool = False) -> CellResult:
    """Judge a cell by what lies in its folder, and write its result.json and samples.csv.

    `mitigate` is whether its holders were to be removed: then it is said, too, why there was no second machine.
    """
    read = judged_apart(folder)
    skipped = read.judged.finding.name == "skipped"
    expected, not_judged = (None, None) if skipped else _expected(StoredCell(folder), read.facts)
    return _write_result(folder, read, tries, expected, _mitigation(folder, read.judged, mitigate), not_judged)


def judge_mitigation(folder: Path, tries: Sequence[Try]) -> Judged:
    """The same for the second machine of a cell, of which no scenario expects anything."""
    read = judged_apart(folder)
    _write_result(folder, read, tries, None, None)
    return read.judged


def _write_result(
    folder: Path,
    read: Read,
    tries: Sequence[Try],
    expected: Expectation | None,
    mitigated: Mitigation | None,
    not_judged: str | None = None,
) -> CellResult:
    if read.samples_csv is not None:
        write_aside(folder / layout.SAMPLES_CSV, read.samples_csv)
    finding, proofs = read.judged.finding, read.judged.proofs
    plan = StoredCell(folder).plan()
    result = cell_result(plan, finding, proofs, expected, read.facts, tries, mitigated, not_judged)
    document = to_json(result)
    try:
        whole(CellResult, document)
    except Wrong as wrong:  # a guest's numbers: what is stored must be read again
        unread = _unread(f"the evidence cannot be read: {wrong}").judged.finding
        result = cell_result(plan, unread, proofs, expected, read.facts, tries, mitigated, not_judged)
        document = to_json(result)
    write_aside(folder / layout.RESULT, store.json_text(document))
    return result


def _mitigation(folder: Path, first: Judged, asked_for: bool) -> Mitigation | None:
    """What came of removing a cell's holders, from the evidence of both machines; None when that was not tried."""
    inner = StoredCell(folder / layout.MITIGATION)
    tried = is_folder(inner.folder)
    second = judge_mitigation(inner.folder, inner.tries()) if tried else None
    if not called_for(first) or not (asked_for or tried):
        return None
    ran = planned_commands(inner.plan()) if tried else ()
    return outcome(first, second, ran)


def _expected(cell: StoredCell, facts: Facts) -> tuple[Expectation | None, str | None]:
    """What the scenario expects of the cell; None where that depends on something that the machine never told, and
    where the load is too small for it, with that as the second.
    """
    scenario, plan = cell.scenario(), cell.plan()
    try:
        expected = expected_for(scenario.expectations, plan.axes, facts)
    except ValueError:
        return None, None
    why = cannot_fill(scenario, plan.load.connections, plan.load.newcomers, plan.max)
    if expected is None or expected.finding not in NEEDS_FULL or why is None:
        return expected, None
    return None, f"{expected.finding} is not expected here: {why}"
