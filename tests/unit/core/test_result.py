"""The exit status, the mark of a cell, and that a result says null where nothing is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from lab.core.evidence import UNKNOWN_MACHINE
from lab.core.facts import Facts
from lab.core.judging.cell_result import cell_result
from lab.core.judging.finding import Finding, Measured
from lab.core.render.tables import human_table, markdown_table, one_line
from lab.core.result import RESULT_VERSION, Try, exit_status
from lab.core.scenario.expectation import Expectation
from lab.host.results.records import to_json
from lab.host.results.store import results_json
from tests.records import stored, stored_plan

OK: Mapping[str, Any] = {"finding": "tracked", "as_expected": True}
DIFFERS: Mapping[str, Any] = {"finding": "tracked", "as_expected": False}
UNJUDGED: Mapping[str, Any] = {"finding": "tracked", "as_expected": None}
UNCLEAR: Mapping[str, Any] = {"finding": "inconclusive", "as_expected": False}
UNCLEAR_UNJUDGED: Mapping[str, Any] = {"finding": "inconclusive", "as_expected": None}
UNCLEAR_AS_EXPECTED: Mapping[str, Any] = {"finding": "inconclusive", "as_expected": True}
SKIPPED: Mapping[str, Any] = {"finding": "skipped", "as_expected": None}

PLAN = stored_plan(
    {
        "cell": "a@debian12",
        "scenario": "a",
        "scenario_digest": "0",
        "variant": "a",
        "axes": {},
        "target": "debian12",
        "repeat": 1,
        "machine": {"boot_args": [], "memory_mb": 1024, "vcpus": 2},
        "load": {"connections": 300},
    }
)


@pytest.mark.parametrize(
    ("cells", "status"),
    [
        ([OK], 0),
        ([OK, OK], 0),
        ([UNJUDGED], 0),
        ([UNCLEAR_AS_EXPECTED], 0),
        ([OK, SKIPPED], 0),
        ([DIFFERS], 1),
        ([OK, DIFFERS], 1),
        ([UNCLEAR, DIFFERS], 1),
        ([SKIPPED, DIFFERS], 1),
        ([UNCLEAR], 3),
        ([UNCLEAR_UNJUDGED], 3),
        ([OK, UNCLEAR], 3),
        ([SKIPPED, UNCLEAR], 3),
        ([SKIPPED], 4),
        ([SKIPPED, SKIPPED], 4),
    ],
)
def test_exit_status(cells: list[Mapping[str, Any]], status: int) -> None:
    results = list(map(stored, cells))
    assert exit_status(results) == status
    assert exit_status(results[::-1]) == status


@pytest.mark.parametrize(
    ("cell", "word"),
    [
        (OK, "ok"),
        (DIFFERS, "DIFFERS"),
        (UNJUDGED, "-"),
        (UNCLEAR, "unclear"),
        (UNCLEAR_UNJUDGED, "unclear"),
        (UNCLEAR_AS_EXPECTED, "ok"),
        (SKIPPED, "skipped"),
    ],
)
def test_mark(cell: Mapping[str, Any], word: str) -> None:
    assert stored(cell).mark == word


def test_a_result_without_knowledge_is_null_and_never_zero() -> None:
    result = to_json(cell_result(PLAN, Finding("inconclusive", "lost"), None, None, UNKNOWN_MACHINE, ()))
    unknown = (
        *("kernel_release", "cause", "expected", "because", "as_expected", "message_logged", "max", "entries_before"),
        *("entries_peak", "drops", "early_drops", "insert_failed", "connections", "first_drop_seconds", "holders"),
    )
    assert {name: result[name] for name in unknown} == dict.fromkeys(unknown)


def test_a_result_has_what_the_design_asks_for() -> None:
    finding = Finding("table-full", "because", None, Measured(drops=7, table_max=100))
    tries = [Try(1, "panic", {"restore": 1.0}), Try(2, None, {"restore": 0.5, "load": 2.0})]
    made = cell_result(PLAN, finding, None, Expectation("tracked", "it should"), Facts("debian12", "6.1.0"), tries)
    result = to_json(made)
    expected = {"finding": "table-full", "expected": "tracked", "because": "it should", "as_expected": False}
    assert expected.items() <= result.items()
    assert {"drops": 7, "max": 100, "stages_seconds": {"restore": 0.5, "load": 2.0}}.items() <= result.items()
    assert [(one["number"], one["lost"]) for one in result["tries"]] == [(1, "panic"), (2, None)]
    assert json.loads(json.dumps(document := results_json([made])))["cells"] == [json.loads(json.dumps(result))]
    assert document["schema_version"] == result["schema_version"] == RESULT_VERSION


def test_what_a_guest_says_at_length_does_not_fill_a_table() -> None:
    """A release of 7 MB, a version as long, a reason that quotes a step of 140,000 characters."""
    facts = Facts("debian12", "6.1" + "x" * 7_000_000, {"nft": "1.0" + "y" * 7_000_000})
    finding = Finding(
        "state-refused", "step 1 (run " + "z" * 140_000 + ") ended with status 1", None, Measured(wanted=1)
    )
    made = cell_result(PLAN, finding, None, None, facts, [Try(1, "q" * 10**6, {})])
    assert (made.kernel_release or "").startswith("6.1xxx") and made.reason.startswith("step 1 (run zzz")
    assert len(json.dumps(to_json(made))) < 20_000
    for text in (human_table([made]), markdown_table([made]), one_line(made)):
        assert len(text) < 20_000
