"""A comparison as JUnit XML: a case for each cell that both runs have, and for each that NEW lacks. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lab.core.comparing.model import ComparedCell, Comparison
from lab.core.render.junit import suites_of
from lab.core.render.test_cases import PASSED, Case
from lab.core.text import printable

# what a verdict is for a test runner
OUTCOMES: Mapping[str, str] = {
    "changed": "failure",
    "same": PASSED,
    "unclear": "error",
    "not-comparable": "error",
    "no-finding": "skipped",
}


def comparison_junit(comparison: Comparison, name: str) -> str:
    """JUnit XML: a finding that changed is a failure, what cannot be told and what NEW lacks an error."""
    return suites_of(_cases(comparison), name)


def _cases(comparison: Comparison) -> Iterator[Case]:
    lacked = {cell.cell: cell for cell in comparison.base.cells}
    for compared in comparison.cells:
        yield _compared(compared, comparison.new.name)
    for name in comparison.missing:
        cell = lacked[name]
        yield _case(
            (cell.scenario, cell.target, cell.variant),
            "error",
            "missing",
            f"NEW lacks {name}, which was {cell.finding} in BASE",
            f"{comparison.base.name}/cells/{name}",
        )


def _compared(cell: ComparedCell, run: str) -> Case:
    evidence = f"{run}/cells/{cell.new.cells[0].cell}"
    place = (cell.scenario, cell.base.target, cell.variant)
    return _case(place, OUTCOMES[cell.verdict], cell.verdict, cell.reason, evidence)


def _case(place: tuple[str, str, str], outcome: str, verdict: str, reason: str, evidence: str) -> Case:
    scenario, target, variant = map(printable, place)
    lines = tuple(map(printable, reason.splitlines())) or ("",)
    return Case(scenario, target, variant, outcome, verdict, f"{verdict}: {lines[0]}", lines, 0.0, printable(evidence))
