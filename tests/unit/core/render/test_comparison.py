"""A comparison as text: what people and a pull request see, its length, and that a guest's words stay words."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from lab.core.comparing.compare import compare
from lab.core.comparing.model import Comparison
from lab.core.render.comparison import MOST_MARKDOWN, human, markdown
from lab.core.result import CellResult
from tests.unit.runs import EVIL, OTHER_DIGEST, cell, manifest, repeated, run

KERNEL = {"kernel_release": "6.1.0-56-cloud-amd64"}


def compared() -> Comparison:
    """One cell of each verdict, and one in each run only."""
    base = [
        cell(),
        cell("table-full", variant="nat-present", expected="table-full", as_expected=True),
        cell(variant="lost"),
        cell(variant="other", scenario_digest=OTHER_DIGEST),
        cell("skipped", variant="skipped"),
        *repeated(["untracked"] * 3, variant="varied"),
        cell(variant="gone"),
    ]
    new = [
        cell("table-full", **KERNEL),
        cell("table-full", variant="nat-present", drops=1952, expected="table-full", as_expected=True, **KERNEL),
        cell(
            "inconclusive", variant="lost", reason="the machine was lost: panic\nKernel panic - not syncing", **KERNEL
        ),
        cell(variant="other", **KERNEL),
        cell("skipped", variant="skipped", **KERNEL),
        *repeated(["untracked", "untracked", "table-full"], variant="varied", **KERNEL),
        cell(variant="came", **KERNEL),
    ]
    target = {**manifest()["targets"]["debian12"], "image_digest": OTHER_DIGEST}
    return compare(run(base, "results/base"), run(new, "results/new", targets={"debian12": target}))


def test_a_comparison_in_columns() -> None:
    lines = human(compared()).splitlines()
    assert lines[:3] == [
        "changed: of 6 cells 1 changed, 1 did not, 1 cannot be told, 2 cannot be compared, 1 without a finding in both"
        "; NEW lacks 1 cell of BASE: gone@debian12",
        "BASE: results/base, 2026-11-21T00:54:46+00:00, conntrack-lab 0.1.0",
        "NEW: results/new, 2026-11-21T00:54:46+00:00, conntrack-lab 0.1.0",
    ]
    assert "  debian12: kernel        6.1.0-50-cloud-amd64 -> 6.1.0-56-cloud-amd64" in lines
    assert f"  debian12: image_digest  {'a' * 12} -> {'b' * 12}" in lines
    start = next(index for index, line in enumerate(lines) if line.split()[:2] == ["cell", "finding"])
    table = [re.split(r"  +", line) for line in lines[start : start + 7]]
    assert table[0] == ["", "cell", "finding", "repeats", "message", "held", "drops", "first drop"]
    seen = ["untracked -> table-full", "1, 1", "no -> logged", "2000 -> 100", "0 -> 1900", "- -> 0.30 s"]
    assert table[1] == ["CHANGED", "nat-flushed,iptables=nft@debian12", *seen]
    seen = ["table-full", "1, 1", "logged", "100", "1900 -> 1952", "0.30 s"]
    assert table[2] == ["same", "nat-present@debian12", *seen]
    assert [row[0] for row in table[3:]] == ["not comparable", "not comparable", "no finding", "unclear"]
    assert table[6][2:4] == ["untracked -> untracked 2/3, table-full 1/3", "3, 3"]
    assert "only in BASE\n  gone@debian12\n\nonly in NEW\n  came@debian12" in "\n".join(lines)


def test_why_a_cell_is_not_the_same() -> None:
    text = human(compared())
    assert (
        "nat-flushed,iptables=nft@debian12: CHANGED\n"
        "  untracked 1 of 1 became table-full 1 of 1\n"
        "  BASE, untracked (as expected): it was untracked\n"
        "  NEW, table-full (expected untracked): it was table-full\n"
    ) in text
    assert "lost@debian12: not comparable\n  NEW is inconclusive: the machine was lost: panic\n\n" in text
    assert "varied@debian12: unclear\n  untracked 3 of 3 in BASE, untracked 2 of 3, table-full 1 of 3 in NEW:" in text
    assert "nat-present@debian12:" not in text, "what is the same needs no reason"


def test_nothing_that_differs_is_one_table() -> None:
    same = run([cell()])
    lines = human(compare(same, same)).splitlines()
    assert lines[0] == "same: of 1 cell 0 changed, 1 did not"
    assert [len(lines), lines[3], lines[5].split()[0]] == [6, "", "same"]
    assert "<details>" in markdown(compare(same, same))


def test_an_unknown_is_a_question_mark_or_a_dash_and_never_0() -> None:
    unknown = cell(drops=None, message_logged=None, first_drop_seconds=None)
    row = human(compare(run([unknown]), run([unknown]))).splitlines()[-1]
    assert re.split(r"  +", row)[3:] == ["1, 1", "?", "2000", "?", "-"]
    refused = cell("state-refused", drops=None, connections=None, message_logged=False)
    row = human(compare(run([refused]), run([refused]))).splitlines()[-1]
    assert re.split(r"  +", row)[3:] == ["1, 1", "no", "-", "-", "-"]


def test_what_differs_by_more_than_chance_has_a_mark_and_the_method_is_told() -> None:
    low, high = ([cell("table-full", repeat=n, drops=at + n) for n in range(1, 6)] for at in (100, 200))
    found = compare(run(low), run(high))
    lines = human(found).splitlines()
    assert "103 -> 203 *" in lines[5]
    assert lines[-2].startswith(
        "tests: 1 of numbers; Fisher's exact test for findings and messages, Mann-Whitney U for"
    )
    assert lines[-1] == "* differs by more than chance; of numbers, the medians by at least 10%"
    assert r"103 -> 203 \* |" in markdown(found)
    assert markdown(found).endswith(r"\* differs by more than chance; of numbers, the medians by at least 10%")


# -- Markdown ---------------------------------------------------------------------------------------------------------


def test_the_verdict_is_the_first_line_and_the_changes_come_next() -> None:
    text = markdown(compared())
    lines = text.splitlines()
    assert lines[0].startswith("**changed**: of 6 cells 1 changed, ")
    assert lines[2].startswith(
        "BASE: `results/base`, `2026-11-21T00:54:46+00:00`, `conntrack-lab 0.1.0`; NEW: `results/n"
    )
    assert lines[4:6] == [
        "| cell | finding | repeats | message | held | drops | first drop |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = [line for line in text.partition("<details>")[0].splitlines() if line.startswith("| `")]
    assert rows == [
        "| `nat-flushed,iptables=nft@debian12` | untracked -> table-full | 1, 1 | no -> logged | 2000 -> 100 "
        "| 0 -> 1900 | - -> 0.30 s |"
    ], "of those that changed only"


def test_the_rest_is_folded() -> None:
    text = markdown(compared())
    assert re.findall(r"<summary>(.*?)</summary>", text) == [
        "Why (1)",
        "What cannot be told (3)",
        "What differs between the runs (2)",
        "Only in one run (2)",
        "Did not change (1)",
        "Without a finding in both (1)",
    ]
    assert text.count("<details>") == text.count("</details>") == 6
    # GitHub renders Markdown in it only after an empty line
    assert len(re.findall(r"</summary>\n\n", text)) == 6


@pytest.mark.parametrize("limit", [MOST_MARKDOWN, 9000])
def test_a_comment_is_never_too_long(limit: int) -> None:
    names = [f"nat-flushed,iptables=nft,axis={number}" for number in range(1500)]
    base = run([cell(variant=name, reason="why " * 200) for name in names])
    new = run([cell("table-full", variant=name, reason="because " * 200) for name in names])
    text = markdown(compare(base, new), limit)
    assert limit / 2 < len(text) <= limit
    shown = text.partition("<details>")[0].count("\n| `nat-flushed")
    assert f"{1500 - shown} more are left out here; `lab compare --format json` has them." in text
    assert text.count("<details>") == text.count("</details>")
    assert text.startswith("**changed**: of 1500 cells 1500 changed\n")


# -- a guest's words --------------------------------------------------------------------------------------------------


def evil() -> Comparison:
    def side(finding: str, **changes: Any) -> list[CellResult]:
        told: dict[str, Any] = {"kernel_release": EVIL, "reason": EVIL, "versions": {EVIL: EVIL}, "expected": EVIL}
        return [
            cell(finding, as_expected=False, **told, **changes),
            cell(finding, variant=EVIL, **told),
            cell("inconclusive", variant=f"{EVIL}2", **told),
            cell(variant=f"{EVIL}3", target=EVIL, **told),
            cell(variant=f"{EVIL}{finding}", **told),
        ]

    strange = {"packages": {EVIL: EVIL}, "image": EVIL, EVIL: [EVIL]}
    targets = {"debian12": strange, EVIL: strange}
    return compare(
        run(side("untracked"), EVIL),
        run(side("table-full"), EVIL + "2", tool_version=EVIL, started_at=EVIL, targets=targets, **{EVIL: EVIL}),
    )


def test_a_guest_cannot_steer_the_terminal_nor_forge_a_line() -> None:
    text = human(evil())
    text.encode("utf-8")
    assert all(char.isprintable() or char == "\n" for char in text)
    assert not any(line.startswith("ok ") for line in text.split("\n"))


def test_a_guest_cannot_leave_its_place_in_markdown() -> None:
    text = markdown(evil())
    text.encode("utf-8")
    assert all(char.isprintable() or char == "\n" for char in text)
    outside = without_code(text)
    for sign in ("<script", "forged", "@", "http", "#", "]("):
        assert sign not in outside, sign
    assert outside.count("<details>") == outside.count("</details>")
    assert {line.count("|") for line in text.split("\n") if line.startswith("|")} == {3, 4, 8}, "columns of the tables"


def without_code(text: str) -> str:
    """Markdown without its code, as CommonMark has it: fenced blocks first, then spans between runs of one length."""
    fence = ""
    kept = []
    for line in text.split("\n"):
        opened = re.match("`{3,}", line)
        if fence:
            fence = "" if line.strip() == fence else fence
        elif opened and "`" not in line[opened.end() :]:
            fence = opened[0]
        else:
            kept.append(line)
    assert not fence, "every block is closed"
    return "\n".join(re.sub(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", line) for line in kept)


def test_cells_that_one_run_alone_has_are_listed_as_far_as_people_read() -> None:
    names = tuple(f"a@debian{number}" for number in range(25))
    text = human(replace(compared(), only_base=names))
    assert "\n  a@debian9\n  and 15 more: --format json\n" in text
    assert "a@debian10" not in text
