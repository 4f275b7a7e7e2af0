"""Results as text: what people, Markdown readers and CI see, and that a guest's words cannot be more than words."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lab.core.render.tables import human_table, markdown_table, one_line
from lab.core.result import CellResult
from tests.records import stored

EVIL = "\x1b[2J\x07\nok  forged@debian12\r\t<script>|a](b)*`x`&amp;\u202e\x9b\ud800]]>\x00"


def cell(**changes: Any) -> CellResult:
    """A result, as far as output looks at it."""
    document = {
        "cell": "nat-present,iptables=nft@debian12",
        "variant": "nat-present,iptables=nft",
        "target": "debian12",
        "kernel_release": "6.1.0-50",
        "finding": "table-full",
        "reason": "the table reached its max",
        "expected": "table-full",
        "because": "a rule needs it",
        "as_expected": True,
        "connections": {"held": 100, "failed": 0, "lost": 0, "stalled": 200, "untried": 0},
        "entries_peak": 100,
        "max": 100,
        "drops": 381,
        "message_logged": True,
        "holders": None,
        "proofs": None,
        "tries": [{"number": 1, "lost": None, "stages_seconds": {"restore": 0.5, "load": 2.0}}],
        **changes,
    }
    return stored(document)


UNKNOWN = cell(
    finding="inconclusive",
    as_expected=False,
    reason="the machine was lost: panic\nKernel panic - not syncing",
    kernel_release=None,
    connections=None,
    entries_peak=None,
    max=None,
    drops=None,
    message_logged=None,
)
DIFFERS = cell(finding="tracked", as_expected=False, message_logged=False)
SKIPPED = cell(finding="skipped", as_expected=None, expected=None, connections=None, tries=[])
HOLDER = {
    "backend": "iptables-nft",
    "family": "ip",
    "table": "nat",
    "chain": "POSTROUTING",
    "rule": "-A POSTROUTING -j MASQUERADE",
    "reachable": False,
    "remove": ["iptables-nft", "-D", "a b"],
}

# -- the table --------------------------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_a_cell_with_its_numbers() -> None:
    header, row = human_table([cell()]).splitlines()
    assert header.split() == "cell kernel finding expected held entries/max drops message seconds".split()
    seen = "ok nat-present,iptables=nft@debian12 6.1.0-50 table-full table-full 100/300 100/100 381 logged 2.5"
    assert row.split() == seen.split()


def test_columns_stand_under_their_names() -> None:
    header, *rows = human_table([cell(), cell(cell="x@y", drops=7)]).splitlines()
    assert {row.index("table-full") for row in rows} == {header.index("finding")}


def test_the_entries_over_time_have_a_column_where_they_are_known() -> None:
    cells = [cell(), cell(cell="x@y")]
    header, first, second = human_table(
        cells, {"nat-present,iptables=nft@debian12": "▁▄█ 1.0 s", "x@y": ""}
    ).splitlines()
    assert header.endswith("seconds  entries over time")
    assert (first.split()[-3:], second.split()[-1]) == (["▁▄█", "1.0", "s"], "-")
    assert human_table(cells, {}) == human_table(cells)
    assert human_table(cells, {"gone@debian12": "▁ 1.0 s"}).splitlines()[1].endswith(" -")


def test_an_unknown_is_a_question_mark_or_a_dash_and_never_0() -> None:
    row = human_table([UNKNOWN]).splitlines()[1]
    assert row.split()[2:] == ["?", "inconclusive", "table-full", "-", "-", "-", "?", "2.5"]
    partly = human_table([cell(drops=None, entries_peak=None, max=None)]).splitlines()[1]
    assert partly.split()[5:9] == ["100/300", "?/?", "?", "logged"]


def test_what_is_not_as_expected_is_told_with_its_reason() -> None:
    text = human_table([cell(), DIFFERS, UNKNOWN])
    assert "nat-present,iptables=nft@debian12: DIFFERS\n  the table reached its max\n  expected table-full: a" in text
    assert ": unclear\n  the machine was lost: panic\n  Kernel panic - not syncing\n" in text
    assert human_table([cell()]).count("\n") == 1


def test_holders_and_disagreements_are_told() -> None:
    text = human_table([cell(holders=[HOLDER], proofs={"disagreement": "the hooks say so"})])
    hidden = "no packet reaches it, and it holds conntrack all the same"
    assert f"iptables-nft ip nat POSTROUTING: -A POSTROUTING -j MASQUERADE ({hidden}); fix: " in text
    assert "iptables-nft -D 'a b'" in text
    assert "debian12: the hooks say so" in text


def test_a_removal_that_is_not_to_be_done_as_it_stands_says_so() -> None:
    kept = {**HOLDER, "part_of_firewall": True}
    text = human_table([cell(holders=[kept])])
    assert "fix:" not in text
    assert "part of a firewall: removing it cuts replies to this host's own connections" in text
    by_handle = {**HOLDER, "backend": "nft", "remove": ["nft", *"delete rule inet t in handle 7".split()]}
    text = human_table([cell(holders=[by_handle])])
    assert "fix: nft delete rule inet t in handle 7" in text
    assert "the handle is this guest's: `nft -a list chain " in text


def test_advice_is_told_after_the_commands() -> None:
    text = human_table([cell(holders=[HOLDER], mitigation={**MITIGATION, "advice": ["raise the max"]})])
    assert text.endswith("\n    modprobe -r x\n    raise the max")


MITIGATION = {
    "outcome": "fixes",
    "reason": "all 2000 were held",
    "commands": [["iptables-nft", "-D", "a b"], ["modprobe", "-r", "x"]],
    "finding": "untracked",
}


def test_a_mitigation_is_told_after_what_holds_conntrack() -> None:
    plain = human_table([cell(holders=[HOLDER])])
    assert human_table([cell(holders=[HOLDER], mitigation=None)]) == plain
    text = human_table([cell(holders=[HOLDER], mitigation=MITIGATION)])
    told = "\n  mitigated: fixes (all 2000 were held)\n    iptables-nft -D 'a b'\n    modprobe -r x"
    assert text == plain + told
    assert markdown_table([cell(holders=[HOLDER], mitigation=MITIGATION)]) == markdown_table([cell(holders=[HOLDER])])


@pytest.mark.parametrize("holders", [None, []])
def test_a_mitigation_without_holders_is_told_too(holders: list[Any] | None) -> None:
    untried: dict[str, Any] = {"outcome": "unknown", "reason": "nothing was found", "commands": [], "finding": None}
    text = human_table([cell(holders=holders, mitigation=untried)])
    assert text.endswith("debian12: what holds conntrack is not known\n  mitigated: unknown (nothing was found)")


def test_a_cell_in_one_line() -> None:
    assert one_line(cell(mitigation=MITIGATION)).endswith("the table reached its max; mitigated: fixes")
    assert one_line(UNKNOWN).endswith("inconclusive, unclear: the machine was lost: panic")
    tries = [{"number": number, "lost": "panic"} for number in (1, 2, 3)]
    assert "(after 1 lost machine)" in one_line(cell(tries=tries[:2]))
    assert "(after 2 lost machines)" in one_line(cell(tries=tries))
    assert "after" not in one_line(SKIPPED)


# -- a guest's words --------------------------------------------------------------------------------------------------


def evil_cells() -> list[CellResult]:
    holder = {**HOLDER, "rule": EVIL, "chain": EVIL, "remove": [EVIL]}
    proofs = {"disagreement": EVIL}
    tried = {"outcome": "unknown", "reason": EVIL, "commands": [[EVIL]], "finding": None}
    evil = {"kernel_release": EVIL, "reason": EVIL, "holders": [holder], "proofs": proofs, "mitigation": tried}
    return [cell(as_expected=False, **evil)]


def test_a_guest_cannot_steer_the_terminal_nor_forge_a_line() -> None:
    for text in (human_table(evil_cells()), one_line(evil_cells()[0])):
        assert all(char.isprintable() or char == "\n" for char in text)
        # of a reason the further lines are shown, indented as its own
        assert not any(line.startswith("ok ") for line in text.splitlines())
    text.encode("utf-8")


def test_a_guest_cannot_leave_its_place_in_a_markdown_table() -> None:
    header, ruler, row = markdown_table(evil_cells()).splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in (header, ruler, row)} == {11}
    for markup in ("<", r"(?<!\\)\]", r"(?<!\\)\*", r"(?<!\\)`"):
        assert not re.search(markup, row), markup


def test_the_markdown_table_has_the_same_cells() -> None:
    row = markdown_table([cell()]).splitlines()[2]
    assert [text.strip() for text in row.strip("|").split("|")][1:4] == [
        "nat-present,iptables=nft@debian12",
        "6.1.0-50",
        "table-full",
    ]


# -- what is not in every run -----------------------------------------------------------------------------------------


def test_without_a_table_there_is_nothing_to_count() -> None:
    untracked = cell(finding="untracked", expected="untracked", entries_peak=None, max=None, drops=None)
    row = human_table([untracked], {untracked.cell: "?"}).splitlines()[1]
    assert "no table" in row and "?" not in row


def test_evictions_and_newcomers_have_columns_where_there_were_any() -> None:
    flood = cell(cell="flood@x", early_drops=7, newcomers={"held": 5, "connections": 100, "failed": 0})
    header, first, second = human_table([cell(early_drops=0), flood]).splitlines()
    assert header.split()[-2:] == ["evicted", "newcomers"]
    assert first.split()[-2:] == ["0", "-"] and second.split()[-2:] == ["7", "5/100"]
    assert "100/300 sent" in second and " sent" not in first
    assert "| evicted | newcomers |" in markdown_table([flood])


def test_a_refused_state_is_explained_also_where_nothing_was_expected() -> None:
    refused = cell(finding="state-refused", expected=None, as_expected=None, connections=None, reason="`nft` failed")
    assert "  `nft` failed" in human_table([refused]).splitlines()
