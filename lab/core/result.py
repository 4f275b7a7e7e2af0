"""A cell's result as it is stored, compared and reported: plain data, units in the names, null for unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lab.core.text import shortened

if TYPE_CHECKING:  # who only reads results need not wait for what makes them
    from lab.core.facts import Facts
    from lab.core.judging.finding import Finding, Measured
    from lab.core.judging.proofs import Proofs
    from lab.core.mitigation import Mitigation
    from lab.core.scenario.expectation import Expectation

# 1 - first version. Old results load for ever: a reader of version N reads every version up to N.
RESULT_VERSION = 1

# of what a guest said: the evidence has all of it, a table has no room
_MOST_NAME = 200
_MOST_REASON = 8000

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Try:
    """One attempt at a cell: what became of the machine."""

    number: int
    lost: str | None  # why the machine was lost; None when it was not
    stages_seconds: Mapping[str, float] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        """As in a result's `tries`."""
        lost = shortened(self.lost, _MOST_REASON) if self.lost is not None else None
        return {"number": self.number, "lost": lost, "stages_seconds": dict(self.stages_seconds)}


def cell_result(
    plan: Json,
    finding: Finding,
    proofs: Proofs | None,
    expected: Expectation | None,
    facts: Facts,
    tries: Sequence[Try],
    mitigation: Mitigation | None = None,
    not_judged: str | None = None,
) -> dict[str, Any]:
    """The content of a cell's result.json; `as_expected` is null where nothing was expected.

    `not_judged` is why an expectation does not count here; it then stands as `because`, beside no `expected`.
    """
    measured = finding.measured
    return {
        "schema_version": RESULT_VERSION,
        "cell": plan["cell"],
        "scenario": plan["scenario"],
        "scenario_digest": plan["scenario_digest"],
        "variant": plan["variant"],
        "axes": plan["axes"],
        "target": plan["target"],
        "repeat": plan["repeat"],
        "kernel_release": shortened(facts.kernel_release, _MOST_NAME) if facts.kernel_release is not None else None,
        "versions": {name: shortened(text, _MOST_NAME) for name, text in facts.versions.items()},
        "finding": finding.name,
        "reason": shortened(finding.reason, _MOST_REASON),
        "cause": finding.cause,
        "expected": expected.finding if expected else None,
        "because": expected.because if expected else not_judged,
        "as_expected": finding.name == expected.finding if expected else None,
        "losses": [asdict(loss) for loss in finding.losses],
        "message_logged": measured.message_logged,
        "message_before_load": measured.messages.before,
        "message_namespaces": list(measured.messages.namespaces),
        "max": measured.table_max,
        "max_changed": list(measured.max_changed),
        "entries_before": measured.entries_before,
        "entries_peak": measured.entries_peak,
        "load_entries": _load_entries(measured),
        "drops": measured.drops,
        "drops_while_full": measured.dropped_for_room if measured.drops is not None else None,
        "early_drops": measured.early_drops,
        "insert_failed": measured.insert_failed,
        "counter_resets": measured.resets,
        "connections": dict(measured.connections) if measured.connections is not None else None,
        "open_peak": measured.open_peak,
        "newcomers": dict(measured.newcomers) if measured.newcomers is not None else None,
        "errors": {shortened(str(name), _MOST_NAME): count for name, count in measured.errors.items()},
        "first_drop_seconds": measured.first_drop_seconds,
        "memory": asdict(measured.memory),
        "holders": proofs.holders_json() if proofs is not None and proofs.holders_known else None,
        "proofs": proofs.to_json() if proofs is not None else None,
        "mitigation": mitigation.to_json() if mitigation is not None else None,
        "stages_seconds": dict(tries[-1].stages_seconds) if tries else {},
        "tries": [attempt.to_json() for attempt in tries],
    }


def _load_entries(measured: Measured) -> dict[str, Any] | None:
    """What the table held of the load; null where it could not be read, or not be told whose its entries are."""
    from lab.core.judging.attribution import LoadEntries

    found = measured.attribution
    if not isinstance(found, LoadEntries):
        return None
    return {
        "peak": found.peak,
        "last": found.last,
        "others_peak": found.others_peak,
        "looks": found.looks,
        "cut": found.cut,
    }


def results_document(cells: Iterable[Json]) -> dict[str, Any]:
    """The content of results.json."""
    return {"schema_version": RESULT_VERSION, "cells": list(cells)}


def exit_status(cells: Sequence[Json]) -> int:
    """0 all as expected, 1 a finding differs, 3 something inconclusive and nothing differs, 4 all were skipped.

    A cell that was inconclusive where something else was expected does not differ: it is not a finding.
    """
    if cells and all(cell["finding"] == "skipped" for cell in cells):
        return 4
    judged = [cell for cell in cells if cell["finding"] not in ("inconclusive", "skipped")]
    if any(cell["as_expected"] is False for cell in judged):
        return 1
    unclear = (cell for cell in cells if cell["finding"] == "inconclusive" and cell["as_expected"] is not True)
    return 3 if any(unclear) else 0


def mark(cell: Json) -> str:
    """A word for people: ok, DIFFERS, unclear, skipped, or - where nothing was expected."""
    if cell["finding"] == "skipped":
        return "skipped"
    if cell["as_expected"] is True:
        return "ok"
    if cell["finding"] == "inconclusive":
        return "unclear"
    return "-" if cell["as_expected"] is None else "DIFFERS"
