"""A cell's result, made of what was judged: the finding with its numbers, the proofs, and what the scenario expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypedDict

from lab.core.facts import Facts
from lab.core.judging.attribution import LoadEntries, Unattributed
from lab.core.judging.finding import Finding, Measured
from lab.core.judging.proofs import Proofs
from lab.core.plan.stored import StoredPlan
from lab.core.result import CellResult, Connections, FamilyResult, Memory, Mitigation, StoredEntries, StoredProofs, Try
from lab.core.scenario.expectation import Expectation
from lab.core.text import shortened

# of what a guest said: the evidence has all of it, a table has no room
_MOST_NAME = 200
_MOST_REASON = 8000


class _Numbers(TypedDict):
    """The fields of a result that the measured numbers fill: so mypy knows each."""

    message_logged: bool | None
    message_before_load: bool
    message_namespaces: tuple[int, ...]
    max: int | None
    max_changed: tuple[int, ...]
    entries_before: int | None
    entries_peak: int | None
    load_entries: StoredEntries | None
    drops: int | None
    drops_while_full: int | None
    early_drops: int | None
    insert_failed: int | None
    counter_resets: int
    connections: Connections | None
    dead: int | None
    open_peak: int | None
    newcomers: Mapping[str, int] | None
    errors: Mapping[str, int]
    first_drop_seconds: float | None
    memory: Memory


def cell_result(
    plan: StoredPlan,
    finding: Finding,
    proofs: Proofs | None,
    expected: Expectation | None,
    facts: Facts,
    tries: Sequence[Try],
    mitigation: Mitigation | None = None,
    not_judged: str | None = None,
) -> CellResult:
    """The result of a cell. `not_judged` is why an expectation does not count here; it then stands as `because`."""
    return CellResult(
        cell=plan.cell,
        scenario=plan.scenario,
        scenario_digest=plan.scenario_digest,
        variant=plan.variant,
        axes=plan.axes,
        target=plan.target,
        repeat=plan.repeat,
        kernel_release=shortened(facts.kernel_release, _MOST_NAME) if facts.kernel_release is not None else None,
        versions={name: shortened(text, _MOST_NAME) for name, text in facts.versions.items()},
        programs_of_lab=tuple(shortened(name, _MOST_NAME) for name in facts.programs_of_lab),
        finding=finding.name,
        reason=shortened(finding.reason, _MOST_REASON),
        cause=finding.cause,
        expected=expected.finding if expected else None,
        because=expected.because if expected else not_judged,
        as_expected=finding.name == expected.finding if expected else None,
        losses=finding.losses,
        **_numbers(finding.measured),
        families=_families(finding, proofs),
        holders=proofs.held_by if proofs is not None and proofs.holders_known else None,
        proofs=_answers(proofs) if proofs is not None else None,
        mitigation=mitigation,
        stages_seconds=tries[-1].stages_seconds if tries else {},
        tries=tuple(map(_in_bounds, tries)),
    )


def _families(finding: Finding, proofs: Proofs | None) -> dict[str, FamilyResult]:
    if proofs is None:
        return {}
    return {name: _family(part, proofs.families[name]) for name, part in finding.families.items()}


def _family(part: Finding, proofs: Proofs) -> FamilyResult:
    counts = part.measured.connections
    return FamilyResult(
        finding=part.name,
        reason=shortened(part.reason, _MOST_REASON),
        cause=part.cause,
        connections=Connections(**counts) if counts is not None else None,
        load_entries=_entries(part.measured.attribution),
        proofs=_answers(proofs),
    )


def _numbers(measured: Measured) -> _Numbers:
    return {
        "message_logged": measured.message_logged,
        "message_before_load": measured.messages.before,
        "message_namespaces": tuple(measured.messages.namespaces),
        "max": measured.table_max,
        "max_changed": tuple(measured.max_changed),
        "entries_before": measured.entries_before,
        "entries_peak": measured.entries_peak,
        "load_entries": _entries(measured.attribution),
        "drops": measured.drops,
        "drops_while_full": measured.dropped_for_room if measured.drops is not None else None,
        "early_drops": measured.early_drops,
        "insert_failed": measured.insert_failed,
        "counter_resets": measured.resets,
        "connections": Connections(**measured.connections) if measured.connections is not None else None,
        "dead": measured.dead,
        "open_peak": measured.open_peak,
        "newcomers": measured.newcomers,
        "errors": {shortened(str(name), _MOST_NAME): count for name, count in measured.errors.items()},
        "first_drop_seconds": measured.first_drop_seconds,
        "memory": measured.memory,
    }


def _entries(found: LoadEntries | Unattributed) -> StoredEntries | None:
    """None where the table could not be read, or not be told whose its entries are."""
    if not isinstance(found, LoadEntries):
        return None
    return StoredEntries(found.peak, found.last, found.others_peak, found.looks, found.cut)


def _answers(proofs: Proofs) -> StoredProofs:
    return StoredProofs(
        hooks=proofs.hooks,
        holders=proofs.holders,
        behaviour=proofs.behaviour,
        notrack=proofs.notrack,
        disagreement=proofs.disagreement,
    )


def _in_bounds(attempt: Try) -> Try:
    return replace(attempt, lost=shortened(attempt.lost, _MOST_REASON)) if attempt.lost is not None else attempt
