"""A comparison for test runners, and that cells which got lost fail a gate."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema

from lab.core.comparing.compare import compare
from lab.core.render.compare_junit import comparison_junit
from lab.core.render.comparison import human, markdown
from tests import ROOT
from tests.records import changed
from tests.unit.runs import EVIL, cell, run

FULL = "table-full"
SCHEMA = ROOT / "tests" / "schemas" / "junit.xsd"
FIVE = [cell(variant=f"v{number}") for number in range(5)]


def cases(text: str) -> dict[str, str]:
    """What became of each case, by its name."""
    root = ElementTree.fromstring(text)
    return {
        case.attrib["name"]: next((one.tag for one in case if one.tag != "system-out"), "passed")
        for case in root.iter("testcase")
    }


def test_a_run_that_lost_cells_does_not_pass() -> None:
    found = compare(run(FIVE), run(FIVE[:2]))
    assert (found.verdict, found.exit_status) == ("incomplete", 3)
    for first in (human(found).splitlines()[0], markdown(found).splitlines()[0]):
        assert "NEW lacks 3 cells of BASE: " in first
        assert all(f"v{number}@debian12" in first for number in (2, 3, 4))
    assert compare(run(FIVE), run(FIVE[:2]), strict=True).exit_status == 1
    assert compare(run(FIVE), run(FIVE[:2]), subset=True).exit_status == 0
    assert compare(run(FIVE[:2]), run(FIVE)).exit_status == 0


def test_many_lost_cells_are_counted() -> None:
    many = [cell(variant=f"v{number}") for number in range(40)]
    assert human(compare(run(many), run(many[:1]))).splitlines()[0].endswith("v5@debian12 and 34 more")


def test_a_case_for_every_cell(tmp_path: Path) -> None:
    new = [cell(variant="v0"), cell(FULL, variant="v1"), cell("inconclusive", variant="v2", as_expected=False)]
    text = comparison_junit(compare(run(FIVE), run(new)), "comparison")
    assert cases(text) == {"v0": "passed", "v1": "failure", "v2": "error", "v3": "error", "v4": "error"}
    (tmp_path / "junit.xml").write_text(text)
    xmlschema.XMLSchema(SCHEMA).validate(tmp_path / "junit.xml")


@pytest.mark.parametrize("field", ["reason", "variant", "scenario"])
def test_a_guest_cannot_leave_its_place(field: str) -> None:
    base = [cell(**{field: EVIL}), cell(variant="gone", reason=EVIL)]
    text = comparison_junit(compare(run(base), run([changed(base[0], finding=FULL)])), "comparison")
    assert len(cases(text.encode("utf-8", "replace").decode())) == 2
