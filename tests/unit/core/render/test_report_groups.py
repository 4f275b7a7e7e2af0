"""What a report says first: its headline, and the states of a single kernel by finding."""

from __future__ import annotations

from typing import Any

import pytest

from lab.core.render.report import report
from lab.core.render.report_cell import RecordedCell
from lab.core.render.report_groups import headline
from tests.records import stored_manifest
from tests.unit.core.render.test_report import DIFFERS, MANIFEST, made, result

ONE = (("debian12", "6.1.0-50"),)


@pytest.mark.parametrize(
    ("cells", "columns", "words"),
    [
        ([result()], ONE, "1 cell, debian12, 6.1.0-50: as expected"),
        ([result(), result()], ONE, "2 cells, debian12, 6.1.0-50: all as expected"),
        ([result(), result(**DIFFERS)], ONE, "2 cells, debian12, 6.1.0-50: 1 as expected, 1 not as expected"),
        ([result()] * 1200, (*ONE, ("debian13", "6.12")), "1,200 cells, 2 kernels: all as expected"),
    ],
)
def test_the_headline_says_what_happened(cells: list[Any], columns: Any, words: str) -> None:
    assert headline(cells, columns) == words


def test_states_of_one_kernel_are_grouped_by_finding() -> None:
    names = ("nat-present,iptables=legacy", "nat-present,iptables=nft", "pristine", "module-only")
    cells = [result(f"{name}@debian12") for name in names[:2]]
    cells += [result(f"{name}@debian12", finding="untracked", expected="untracked") for name in names[2:3]]
    cells += [result(f"{names[3]}@debian12", **DIFFERS)]
    page = report(
        "run", stored_manifest({**MANIFEST, "targets": {"debian12": {}}}), [RecordedCell(cell) for cell in cells], {}
    )
    differs, full, untracked = page.groups
    assert (differs.mark, differs.rows[0].name) == ("DIFFERS", "module-only")
    assert (full.finding, full.count, full.mark_words) == ("table-full", 2, "as expected")
    (row,) = full.rows
    assert (row.name, [backend for backend, _ in row.links]) == ("nat-present", ["legacy", "nft"])
    assert untracked.rows[0].links[0][0] == ""
    assert page.opened == differs.rows[0].links[0][1].anchor


def test_a_table_is_for_several_kernels() -> None:
    assert made(result("pristine@debian11"), result("pristine@debian12")).groups == ()


def test_the_only_cell_is_open_and_of_many_none() -> None:
    assert made(result()).opened == "c1"
    assert made(result(), result("pristine@debian12")).opened == ""
