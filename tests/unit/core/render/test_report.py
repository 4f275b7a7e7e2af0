"""What a report shows of a run, as values and as Markdown."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from lab.core.kernel.kmsg import records
from lab.core.render.report import report, run_facts
from lab.core.render.report_cell import RecordedCell, readable
from lab.core.render.report_markdown import markdown
from lab.core.render.views import Report
from lab.core.result import CellResult
from tests.records import changed, stored, stored_manifest

PROOFS = {"hooks": None, "holders": True, "behaviour": True, "notrack": False, "disagreement": None}
HOLDER = {
    **{"backend": "iptables-nft", "family": "ip", "table": "nat", "chain": "POSTROUTING", "reachable": False},
    **{"rule": "-A POSTROUTING -j MASQUERADE", "remove": ["iptables-nft", "-D", "a b"]},
}
MANIFEST: dict[str, Any] = {
    "tool_version": "0.1.0",
    "command": ["lab", "run", "nat-*", "--connections", "500"],
    "started_at": "2026-11-21T00:54:46+00:00",
    "ended_at": None,
    "complete": False,
    "host": {"processors": 2},
    "provisioner": {"qemu_version": "QEMU 10", "accelerator": "tcg"},
    "overrides": {"connections": 500, "max": None, "set": ["iptables=nft"], "mitigate": True},
    "targets": {
        "debian11": {"kernel_release": "5.10", "packages": {"linux-image-5.10": "5.10.1", "iptables": "1.8.7"}},
        "debian12": {"kernel_release": "6.1", "image_digest": "f" * 64, "packages": {"linux-image-6.1": "6.1.2"}},
    },
}


def result(cell: Any = "nat-present,iptables=nft@debian12", **changes: Any) -> CellResult:
    variant, _, target = cell.partition("@")
    scenario, _, axis = variant.partition(",iptables=")
    document = {
        "cell": cell,
        "scenario": scenario,
        "variant": variant,
        "axes": {"iptables": axis} if axis else {},
        "target": target,
        "repeat": 1,
        "kernel_release": "6.1.0-50",
        "finding": "table-full",
        "reason": "the table reached its max",
        "expected": "table-full",
        "because": "a rule needs it",
        "as_expected": True,
        "message_logged": True,
        "max": 100,
        "max_changed": [],
        "entries_peak": 100,
        "drops": 1900,
        "early_drops": 0,
        "insert_failed": 0,
        "connections": {"held": 100, "failed": 0, "lost": 0, "stalled": 1900, "untried": 0},
        "first_drop_seconds": 0.2566,
        "holders": [HOLDER],
        "proofs": PROOFS,
        "tries": [{"number": 1, "lost": None, "stages_seconds": {"restore": 0.5, "load": 2.0}}],
        **changes,
    }
    return stored(document)


def made(*results: CellResult, manifest: dict[str, Any] | None = None, **recorded: Any) -> Report:
    cells = [RecordedCell(one, **recorded) for one in results]
    return report(
        "run", stored_manifest(MANIFEST if manifest is None else manifest), cells, {"pristine": "Nothing was done."}
    )


DIFFERS = {"finding": "tracked", "as_expected": False, "message_logged": False}
UNCLEAR = {"finding": "inconclusive", "as_expected": False, "reason": "the machine was lost: panic\nKernel panic"}

# -- the matrix -------------------------------------------------------------------------------------------------------


def test_states_down_and_kernels_across() -> None:
    page = made(
        result("pristine@debian11", kernel_release="5.10.0-32"),
        result("nat-present,iptables=legacy@debian12"),
        result("pristine@debian12", **DIFFERS),
        result("pristine@mine", kernel_release=None),
    )
    assert page.columns == (("debian11", "5.10.0-32"), ("debian12", "6.1.0-50"), ("mine", "?"))
    assert [(state.name, state.summary) for state in page.states] == [
        ("pristine", "Nothing was done."),
        ("nat-present, iptables-legacy", ""),
    ]
    pristine, present = page.states
    found = [[(one.finding, one.mark, one.logged) for one in field] for field in pristine.fields]
    assert found == [[("table-full", "ok", True)], [("tracked", "DIFFERS", False)], [("table-full", "ok", True)]]
    assert [len(field) for field in present.fields] == [0, 1, 0]
    assert [cell.anchor for cell in page.cells] == ["c1", "c3", "c4", "c2"]
    assert page.outcome == "4 cells: 3 as expected, 1 not as expected"


def test_repeats_are_told_by_outcome() -> None:
    cells = [result(f"pristine@debian12-r{n}", target="debian12", repeat=n) for n in range(1, 6)]
    cells[1] = changed(cells[1], **DIFFERS)
    (field,) = made(*cells, manifest={}).states[0].fields
    assert [(one.anchor, one.finding, one.count) for one in field] == [("c1", "table-full", 4), ("c2", "tracked", 1)]
    assert made(*cells).cells[1].title == "debian12, repeat 2"


def test_a_manifest_may_lack_anything() -> None:
    page = made(result(), manifest={})
    assert (page.facts, page.versions, page.incomplete) == ((), (), False)
    wrong = {"targets": [], "host": 1, "provisioner": "x", "overrides": None, "command": "lab", "ended_at": 5}
    assert made(result(), manifest=wrong).columns == (("debian12", "6.1.0-50"),)


def test_what_shaped_the_run() -> None:
    page = made(result())
    assert page.incomplete
    assert run_facts(stored_manifest(MANIFEST)) == [
        ("command", "lab run 'nat-*' --connections 500"),
        ("started", "2026-11-21 00:54 UTC"),
        ("conntrack-lab", "0.1.0"),
        ("machines", "QEMU 10, emulated"),
        ("processors", "2"),
        ("changed", "--connections 500 --set iptables=nft --mitigate"),
    ]
    assert page.versions == (("kernel", ("5.10.1", "6.1.2")), ("iptables", ("1.8.7", "-")), ("image", ("-", "f" * 12)))


# -- a cell -----------------------------------------------------------------------------------------------------------


def test_the_numbers_of_a_cell() -> None:
    (cell,) = made(result()).cells
    assert dict(cell.numbers) == {
        "held": "100 of 2,000",
        "stalled": "1,900",
        "entries at most": "100; max 100",
        "drops": "1,900",
        "first drop": "after 0.26 s",
        "table full logged": "yes",
        "took": "2.5 s",
    }
    assert cell.in_short == "100 of 2,000 held, 100 entries, 1,900 drops"


def test_unknown_is_not_zero() -> None:
    unknown = dict.fromkeys(("entries_peak", "max", "drops", "early_drops", "message_logged", "kernel_release"))
    (cell,) = made(result(**unknown)).cells
    numbers = dict(cell.numbers)
    assert numbers["drops"] == numbers["table full logged"] == "unknown"
    assert numbers["entries at most"] == "unknown; max unknown"
    assert (cell.kernel, cell.in_short) == ("kernel unknown", "100 of 2,000 held")


def test_a_lost_machine() -> None:
    tries: list[dict[str, Any]] = [{"number": n, "lost": "panic\nmore", "stages_seconds": {}} for n in (1, 2)]
    changes = {**UNCLEAR, "connections": None, "holders": None, "proofs": None, "tries": tries}
    (cell,) = made(result(**changes)).cells
    assert (cell.reason, cell.more_reason) == ("the machine was lost: panic", "Kernel panic")
    assert dict(cell.numbers) == {"table full logged": "yes", "try 1": "lost: panic"}
    assert (cell.holders, cell.proofs, cell.in_short) == (None, (), "no load")


def test_rare_numbers_are_told_where_they_say_something() -> None:
    rare: dict[str, Any] = {"early_drops": 5, "insert_failed": 7, "max_changed": [100, 2000], "errors": {"EMFILE": 20}}
    (cell,) = made(result(**rare, newcomers={"connections": 50, "held": 3})).cells
    told = {"early drops": "5", "inserts failed": "7", "max changed": "100, then 2,000", "EMFILE": "20 times"}
    assert told.items() <= dict(cell.numbers).items()
    assert dict(cell.numbers)["newcomers held"] == "3 of 50"


def test_holders_mitigation_and_proofs() -> None:
    mitigation = {"outcome": "fixes", "reason": "untracked", "commands": [["a", "b c"]], "finding": "untracked"}
    disagreement = {**PROOFS, "hooks": False, "disagreement": "they differ"}
    (cell,) = made(result(mitigation=mitigation, proofs=disagreement)).cells
    assert cell.holders is not None and cell.mitigation is not None
    (holder,) = cell.holders
    assert holder.place == "iptables-nft ip nat POSTROUTING"
    assert holder.remove == "iptables-nft -D 'a b'"
    assert "no packet reaches it" in holder.note
    assert (cell.mitigation.outcome, cell.mitigation.commands) == ("fixes", ("a 'b c'",))
    assert [answer for _, answer in cell.proofs] == ["not attached", "attached", "attached"]
    assert made(result(proofs=disagreement)).unexpected == (made(result(proofs=disagreement)).cells[0],)


def test_the_state_as_commands_and_how_they_ended() -> None:
    steps = [
        {"key": "state[0]", "kind": "run", "argv": ["iptables", "-t", "nat", "-F"], "refused": False},
        {"key": "state[1]", "kind": "run", "argv": ["modprobe", "a b"], "refused": True},
        {"key": "state[2]", "kind": "sysctl", "values": {"net.ipv4.tcp_syncookies": 0}},
        {"key": "state[3]", "kind": "file", "path": "/etc/x", "text": "y\n"},
        {"key": "state[4]", "kind": "unload", "modules": ["nf_nat"]},
        {"key": "mitigation[0]", "kind": "remove", "argv": ["iptables", "-D", "a b", "2"], "expected": []},
    ]
    outcomes = ({"exit_status": 0, "stdout": "x" * 3000}, {"exit_status": 1, "stderr": "no\n", "as_wanted": False})
    (cell,) = made(result(), steps=tuple(steps), outcomes=outcomes).cells
    first, second, *rest = cell.steps
    assert (first.command, first.ended) == ("iptables -t nat -F", "exit status 0")
    assert first.output.endswith("\n... (3,000 characters)") and len(first.output) < 2100
    assert second.command == "modprobe 'a b'  # must fail"
    assert (second.ended, second.output) == ("exit status 1, which was not expected", "no")
    assert [step.ended for step in rest] == ["not reached"] * 4
    assert [step.command.splitlines()[0] for step in rest] == [
        "sysctl -w net.ipv4.tcp_syncookies=0",
        "cat > /etc/x << 'EOF'",
        "sleep 1  # what was flushed is freed in the background",
        "iptables -D 'a b' 2",
    ]


def test_the_kernels_log_in_few_lines() -> None:
    full = "".join(f"4,{n},{n}000000,-;table full\n" for n in range(1, 11))
    others = "".join(f"4,{n},{n}000000,-;line {n}\n" for n in range(11, 41))
    (cell,) = made(result(), log=records(f"{full}12,50,11000000,-;a program\n{others}")).cells
    assert cell.log is not None
    assert cell.log[:2] == ("[1.000] table full (10 times, until 10.000)", "[11.000] line 11")
    assert cell.log[-1] == "... and 11 more"
    assert len(cell.log) == 21
    assert made(result()).cells[0].log is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\r\nb\tc", "a\nb    c"), ("\x1b[2J\u202e\x00\ud800", "\ufffd[2J\ufffd\ufffd\ufffd"), ("é 漢", "é 漢")],
)
def test_nothing_in_a_text_controls_what_shows_it(text: str, shown: str) -> None:
    assert readable({"a": [text, 1, None]}) == {"a": [shown, 1, None]}
    readable(text).encode()


# -- Markdown ---------------------------------------------------------------------------------------------------------


def test_markdown_has_the_matrix_and_the_reasons() -> None:
    holders = {"holders": [HOLDER], "mitigation": {"outcome": "hides", "reason": "x", "commands": [], "finding": None}}
    cells = [result("pristine@debian11"), result("pristine@debian12", **DIFFERS, **holders), result(**UNCLEAR)]
    text = markdown(made(*cells), "made by a test")
    assert text.startswith(
        "<!-- made by a test -->\n\n# 3 cells, 2 kernels: 1 as expected, 1 not as expected, 1 inconclusive\n\nRun run."
    )
    assert "**The run did not end:**" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[2:] == [
        "| pristine | table-full, L | **tracked**, not table-full |",
        "| nat-present, iptables-nft |  | **inconclusive**, not table-full, L |",
    ]
    assert "### pristine@debian12: differs" in text
    assert "- expected table-full: `a rule needs it`" in text
    assert "- held by iptables-nft ip nat POSTROUTING: `-A POSTROUTING -j MASQUERADE`" in text
    assert "- mitigated: hides" in text
    assert "- inconclusive: `the machine was lost: panic`" in text
    assert "```\nKernel panic\n```" in text
    assert "pristine@debian11" not in text


def test_markdown_of_a_run_as_expected_is_short() -> None:
    text = markdown(made(result(), manifest={}), "x")
    assert "Not as expected" not in text and "Bold" not in text
    assert "Not recorded." in text


def test_markdown_fits_a_comment() -> None:
    cells = [result(f"pristine-{n}@debian12", **DIFFERS, because="b" * 200) for n in range(400)]
    text = markdown(made(*cells), "x")
    assert "... and 350 more." in text
    assert len(text) < 65_536


@pytest.mark.parametrize("evil", ["a\n# b\n\n| c |\n```", "`x` <img src=x> [a](b) **c** &lt;", "```\n````\n<script>"])
def test_markdown_takes_no_markup(evil: str) -> None:
    texts = {"reason": f"{evil}\n{evil}", "because": evil, "target": evil, "kernel_release": evil, "cell": evil}
    text = markdown(made(result(**{**DIFFERS, **texts, "proofs": {**PROOFS, "disagreement": evil}})), "x")
    fence = next(line for line in text.splitlines() if line.startswith("```"))
    before, _, rest = text.partition(f"\n{fence}\n")
    after = rest.partition(f"\n{fence}\n")[2]
    outside = re.sub(
        r"(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)", "", before.removeprefix("<!-- x -->").replace("<br>", "") + after
    )
    assert "<" not in outside
    assert not re.search(r"(?<!\\)[`\[]", outside)
    assert [line for line in outside.splitlines() if line.startswith("# ")] == ["# 1 cell, 3 kernels: not as expected"]


def test_distributions_stand_beside_each_other_with_their_own_names() -> None:
    told = {"kernel_release": "6.8.0", "packages": {"kernel": "6.8.0-45", "nftables": "1.0.9"}}
    targets = {
        "ubuntu24.04": {**told, "distribution": "Ubuntu 24.04.1 LTS", "distribution_sha256": "ab" * 32},
        "debian12": MANIFEST["targets"]["debian12"],
    }
    cells = [replace(result(), target=name) for name in targets]
    versions = dict(made(*cells, manifest={**MANIFEST, "targets": targets}).versions)
    assert versions["distribution"] == ("Ubuntu 24.04.1 LTS", "-")
    assert versions["nftables"][0] == "1.0.9"
    assert versions["image"][0] == "ab" * 6
