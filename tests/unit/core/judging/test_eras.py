"""Runs recorded on kernels before and after the line: what is found in them, and in their difference."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from lab.core.render import comparison as compare_output
from lab.host.results.comparison import compare_runs
from lab.host.results.judging import judge_run
from tests import ROOT
from tests.records import document

ARCHIVE = ROOT / "tests" / "golden" / "eras" / "eras.tar.xz"
RELEASES = ("4.9.154", "4.10.17", "4.14.67")

# what holds conntrack after the classic flush, and the articles' way out
UNLOAD = {"nf_conntrack_ipv4", "nf_conntrack", "iptable_nat"}


@pytest.fixture(scope="module")
def eras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eras")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def judged(eras: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The cells of each run, judged again from their evidence, by release and variant."""
    return {
        release: {cell.cell.partition("@")[0]: document(cell) for cell in judge_run(eras / release)}
        for release in RELEASES
    }


@pytest.mark.parametrize(
    ("variant", "old", "new"),
    [
        ("pristine", "untracked", "untracked"),
        ("module-only", "untracked", "untracked"),
        ("filter-listed,iptables=legacy", "untracked", "untracked"),
        ("nat-listed,iptables=legacy", "table-full", "untracked"),
        ("nat-listed,iptables=nft", "untracked", "untracked"),
        ("nat-present,iptables=legacy", "table-full", "table-full"),
        ("nat-present,iptables=nft", "table-full", "table-full"),
        ("nat-flushed,iptables=legacy", "table-full", "untracked"),
        ("nat-flushed,iptables=nft", "table-full", "untracked"),
        ("nat-flushed-unloaded,iptables=legacy", "untracked", "untracked"),
        ("stateful-flushed,iptables=legacy,match=conntrack", "table-full", "untracked"),
        ("modules-blocked,iptables=legacy", "state-refused", "state-refused"),
    ],
)
def test_the_finding_on_each_side_of_4_14(
    judged: dict[str, dict[str, dict[str, Any]]], variant: str, old: str, new: str
) -> None:
    found = {release: judged[release][variant] for release in RELEASES}
    assert {release: cell["finding"] for release, cell in found.items()} == {
        "4.9.154": old,
        "4.10.17": old,
        "4.14.67": new,
    }
    assert all(cell["as_expected"] for cell in found.values())


@pytest.mark.parametrize("release", ["4.9.154", "4.10.17"])
def test_before_4_14_a_loaded_module_holds_conntrack(
    judged: dict[str, dict[str, dict[str, Any]]], release: str
) -> None:
    cell = judged[release]["nat-flushed,iptables=legacy"]
    assert cell["message_logged"] and cell["drops"] > 10_000
    (holder,) = cell["holders"]
    assert (holder["kind"], holder["depends_on"]) == ("module", ["nf_conntrack_ipv4"])
    assert set(holder["remove"]) > UNLOAD


def test_the_change_is_named_with_the_reason(eras: Path) -> None:
    comparison = compare_runs(eras / "4.10.17", eras / "4.14.67")
    assert comparison.exit_status == 1
    text = compare_output.FORMATS["human"](comparison)
    changed = [line for line in text.splitlines() if line.startswith("CHANGED  nat-flushed,")]
    assert len(changed) == 2 and all("table-full -> untracked" in line for line in changed)
    assert "as expected: up to 4.13 the hooks stay registered" in text
    assert "as expected: since 4.14 the hooks are registered only while a rule needs them" in text


def test_two_releases_of_one_era_do_not_differ(eras: Path) -> None:
    assert compare_runs(eras / "4.9.154", eras / "4.10.17").exit_status == 0
