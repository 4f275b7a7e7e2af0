"""The table of firewall programs: what runs found, state by state and kernel by kernel."""

from __future__ import annotations

from typing import Any

import pytest

from lab.core.render.programs import BEGIN, END, programs_table, with_programs
from lab.core.result import CellResult
from tests import ROOT
from tests.records import stored

RULE = {"backend": "iptables-nft", "depends_on": ["-m conntrack"], "rule": "-A INPUT ..."}


def cell(state: str, target: str, kernel: str, finding: str, **more: Any) -> CellResult:
    return stored(
        {
            **{"scenario": "ufw-disabled", "axes": {"state": state}, "target": target, "finding": finding},
            **{"kernel_release": kernel, **more},
        }
    )


RESULTS = (
    cell("before", "debian13", "6.12.117+deb13-cloud-amd64", "untracked"),
    cell("before", "debian12", "6.1.0-50-cloud-amd64", "untracked"),
    cell("running", "debian12", "6.1.0-50-cloud-amd64", "table-full", holders=[RULE, RULE]),
    cell("running", "debian12", "6.1.0-50-cloud-amd64", "table-full", holders=[RULE]),
    cell("running", "debian12", "6.1.0-50-cloud-amd64", "inconclusive"),
)


def test_each_state_has_what_every_kernel_showed_and_how_often() -> None:
    assert programs_table(RESULTS).splitlines() == [
        "| program | state | debian12, 6.1 | debian13, 6.12 | holders |",
        "| --- | --- | --- | --- | --- |",
        "| [ufw-disabled](scenarios/ufw-disabled.md) | before | no (1 of 1) | no (1 of 1) | - |",
        "| [ufw-disabled](scenarios/ufw-disabled.md) | running | **yes** (2 of 3), inconclusive (1 of 3) | - "
        "| 2 of iptables-nft: `-m conntrack` |",
    ]


def test_only_the_table_of_a_page_is_made_anew() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    made = with_programs(page, RESULTS)
    assert made == f"before\n{BEGIN}\n{programs_table(RESULTS)}\n{END}\nafter\n"
    assert with_programs(made, RESULTS) == made
    with pytest.raises(ValueError, match="lacks the marks"):
        with_programs("no marks", RESULTS)


def test_the_page_has_the_marks_and_names_every_program() -> None:
    page = (ROOT / "docs/firewall-programs.md").read_text(encoding="utf-8")
    assert page.count(BEGIN) == page.count(END) == 1
    names = [path.stem for path in (ROOT / "scenarios/programs").glob("*.toml")]
    assert [name for name in names if f"scenarios/{name}.md" not in page] == []
