"""JUnit XML, as Jenkins, GitLab and GitHub's readers take it. Pure: records in, text out.

The shape is that of Jenkins' junit-10.xsd, which is the strictest of those in use: of a test case only `name`,
`classname` and `time` are attributes, and files and properties are a suite's. Hence a suite for each scenario on each
target, which names the scenario's file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from lab.core.render.test_cases import PASSED, Case, RunFacts, case
from lab.core.result import CellResult

_NO_FACTS = RunFacts()
_ATTACHMENT = re.compile(r"\[(?=\[)")


def junit(cells: Sequence[CellResult], name: str, facts: RunFacts = _NO_FACTS) -> str:
    """JUnit XML: a finding that differs is a failure, an inconclusive one an error, and skipped is skipped.

    Each case's `system-out` says where its evidence lies.
    """
    return suites_of([case(cell, facts.folder) for cell in cells], name, facts)


def suites_of(cases: Iterable[Case], name: str, facts: RunFacts = _NO_FACTS) -> str:
    """JUnit XML of test cases, a suite for each scenario on each target."""
    groups: dict[tuple[str, str], list[Case]] = {}
    for entry in cases:
        groups.setdefault((entry.scenario, entry.target), []).append(entry)
    totals = _counts([entry for group in groups.values() for entry in group])
    totals.pop("skipped")  # the root has no such attribute in junit-10.xsd
    suites = ElementTree.Element("testsuites", {"name": name, **totals})
    for (scenario, target), group in groups.items():
        suites.append(_suite(scenario, target, group, facts))
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _suite(scenario: str, target: str, cases: Sequence[Case], facts: RunFacts) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", {"name": f"{scenario}@{target}", **_counts(cases)})
    if facts.started_at:
        suite.set("timestamp", facts.started_at)
    if path := facts.scenario_files.get(scenario):
        suite.set("file", path)
    if facts.properties:
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in facts.properties.items():
            ElementTree.SubElement(properties, "property", name=name, value=value)
    suite.extend(map(_case, cases))
    return suite


def _case(entry: Case) -> ElementTree.Element:
    element = ElementTree.Element("testcase", classname=entry.target, name=entry.name, time=f"{entry.seconds:.3f}")
    if entry.outcome != PASSED:
        outcome = ElementTree.SubElement(element, entry.outcome, type=entry.finding, message=entry.headline)
        outcome.text = "\n".join(entry.reason)
    # [[ATTACHMENT|path]] in it has Jenkins and GitLab fetch a file
    out = f"{entry.headline}: {entry.reason[0]}\nevidence: {entry.evidence}"
    ElementTree.SubElement(element, "system-out").text = _ATTACHMENT.sub("[ ", out)
    return element


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    outcomes = [entry.outcome for entry in cases]
    return {
        "tests": str(len(cases)),
        "failures": str(outcomes.count("failure")),
        "errors": str(outcomes.count("error")),
        "skipped": str(outcomes.count("skipped")),
        "time": f"{sum(entry.seconds for entry in cases):.3f}",
    }
