"""A comparison as JUnit XML: a case for each cell that both runs have, and for each that NEW lacks. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lab.core.comparing.compare import ComparedCell, Comparison
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
    lacked = {str(cell["cell"]): cell for cell in comparison.base.cells}
    for one in comparison.cells:
        yield _compared(one, comparison.new.name)
    for name in comparison.missing:
        cell = lacked[name]
        yield _case(
            (str(cell["scenario"]), str(cell["target"]), str(cell["variant"])),
            "error",
            "missing",
            f"NEW lacks {name}, which was {cell['finding']} in BASE",
            f"{comparison.base.name}/cells/{name}",
        )


def _compared(one: ComparedCell, run: str) -> Case:
    evidence = f"{run}/cells/{one.new.cells[0]['cell']}"
    place = (one.scenario, one.base.target, one.variant)
    return _case(place, OUTCOMES[one.verdict], one.verdict, one.reason, evidence)


def _case(place: tuple[str, str, str], outcome: str, verdict: str, reason: str, evidence: str) -> Case:
    scenario, target, variant = map(printable, place)
    lines = tuple(map(printable, reason.splitlines())) or ("",)
    return Case(scenario, target, variant, outcome, verdict, f"{verdict}: {lines[0]}", lines, 0.0, printable(evidence))
