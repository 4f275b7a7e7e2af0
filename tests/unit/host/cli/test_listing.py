"""What lab list shows: columns that fit a terminal, whole lines elsewhere, and the same as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.core.scenario import parse_scenario
from lab.host.cli import listing
from lab.host.cli.listing import ScenarioRow, TargetRow, scenario_table, scenarios_of, target_table

FLUSHED = ScenarioRow(
    name="nat-flushed",
    variants=("nat-flushed,iptables=legacy", "nat-flushed,iptables=nft"),
    kind="hold",
    expects=("table-full", "untracked"),
    summary="A nat rule was added, and everything was flushed again. Is anything still tracked?",
    path="scenarios/nat-flushed.toml",
)
PRISTINE = ScenarioRow("pristine", ("pristine",), "udp", (), "Nothing was ever loaded.", "pristine.toml")
ROWS = (FLUSHED, PRISTINE)


def test_a_scenario_is_told_by_what_it_holds() -> None:
    text = """
version = 1
name = "x"
summary = "For a test."
matrix = { iptables = ["nft", "legacy"], size = [1, 2] }
load = { kind = "churn" }
[[expect]]
kernel = "<4.14"
finding = "table-full"
[[expect]]
kernel = "<5.0"
finding = "untracked"
[[expect]]
finding = "table-full"
"""
    (row,) = scenarios_of([parse_scenario(text, "dir/x.toml")])
    names = ("x,iptables=nft,size=1", "x,iptables=nft,size=2", "x,iptables=legacy,size=1", "x,iptables=legacy,size=2")
    assert row == ScenarioRow("x", names, "churn", ("table-full", "untracked"), "For a test.", "dir/x.toml")


def test_whole_lines_where_there_is_no_terminal() -> None:
    assert scenario_table(ROWS, None).splitlines() == [
        "scenario     variants  kind  expects               summary",
        f"nat-flushed  2         hold  table-full untracked  {FLUSHED.summary}",
        "pristine     1         udp   -                     Nothing was ever loaded.",
    ]


def test_the_summary_is_wrapped_beside_the_other_columns() -> None:
    assert scenario_table(ROWS, 100).splitlines() == [
        "scenario     variants  kind  expects               summary",
        "nat-flushed  2         hold  table-full untracked  A nat rule was added, and everything was flushed",
        "                                                   again. Is anything still tracked?",
        "pristine     1         udp   -                     Nothing was ever loaded.",
    ]


def test_where_it_is_narrow_the_summary_stands_below() -> None:
    assert scenario_table(ROWS, 60).splitlines() == [
        "scenario     variants  kind  expects",
        "nat-flushed  2         hold  table-full untracked",
        "    A nat rule was added, and everything was flushed again.",
        "    Is anything still tracked?",
        "pristine     1         udp   -",
        "    Nothing was ever loaded.",
    ]


@pytest.mark.parametrize("width", [1, 4, 5, 20, 80, 81, 120, 1000])
def test_nothing_is_left_out_at_any_width(width: int) -> None:
    shown = "".join(scenario_table(ROWS, width).split())
    for row in ROWS:
        assert row.name in shown
    # of a wrapped summary other columns may stand between; its words are all there
    assert all(word in shown for word in PRISTINE.summary.split())
    if width >= 80:
        assert max(map(len, scenario_table(ROWS, width).splitlines())) <= width


def test_a_file_cannot_steer_the_terminal() -> None:
    evil = ScenarioRow("x", ("x",), "hold", (), "\x1b[2Jforged\nline\x9b", "x.toml")
    for width in (None, 40, 100):
        text = scenario_table([evil], width)
        assert all(line.isprintable() for line in text.splitlines())
        assert not any(line.startswith("line") for line in text.splitlines())


def test_targets() -> None:
    rows = (
        TargetRow("debian12", "6.1.0-50-cloud-amd64", True, "Debian 12"),
        TargetRow("forky", None, False, "Debian 14"),
        TargetRow("vagrant:BOX", None, None, "any box"),
    )
    assert target_table(rows, None).splitlines() == [
        "target       kernel                built  summary",
        "debian12     6.1.0-50-cloud-amd64  yes    Debian 12",
        "forky        ?                     no     Debian 14",
        "vagrant:BOX  ?                     -      any box",
    ]


def test_json_has_what_was_asked_for() -> None:
    told = listing.document(ROWS, None)
    assert set(told) == {"schema_version", "scenarios"}
    assert told["scenarios"][0] == {
        "name": "nat-flushed",
        "variants": ["nat-flushed,iptables=legacy", "nat-flushed,iptables=nft"],
        "kind": "hold",
        "expects": ["table-full", "untracked"],
        "summary": FLUSHED.summary,
        "path": "scenarios/nat-flushed.toml",
    }
    target = TargetRow("forky", None, False, "Debian 14")
    assert listing.document(None, [target]) == {
        "schema_version": 1,
        "targets": [{"name": "forky", "kernel": None, "built": False, "summary": "Debian 14"}],
    }


def test_the_targets_of_an_empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rows = {row.name: row for row in listing.targets_of()}
    assert (rows["debian12"].built, rows["debian12"].kernel) == (False, None)
    assert rows["host"].built is None
    assert rows["host"].kernel
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"
