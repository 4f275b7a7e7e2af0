"""Findings of cells recorded on the paths: a bridge, a container's own table, both families, a router of UDP."""

from __future__ import annotations

import pytest

from lab.core.judging.finding import Finding, judge
from lab.core.judging.proofs import prove
from lab.host.results.stored_cell import StoredCell
from tests.recordings import GOLDEN

SUFFIX = ",iptables=legacy@debian12"


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> StoredCell:
    """A recorded cell of Linux 6.1."""
    return StoredCell(GOLDEN / "paths" / "cells" / f"{request.param}{SUFFIX}")


def found(cell: StoredCell) -> Finding:
    return judge(cell.evidence())


@pytest.mark.parametrize("cell", ["bridge-untracked"], indirect=True)
def test_a_rule_that_frames_of_a_bridge_pass_by_is_no_disagreement(cell: StoredCell) -> None:
    finding = found(cell)
    assert finding.name == "untracked", finding.reason
    proofs = prove(cell.evidence(), finding)
    assert (proofs.holders, proofs.behaviour, proofs.disagreement) == (True, False, None)


@pytest.mark.parametrize("cell", ["container-table"], indirect=True)
def test_a_containers_full_table_is_named_with_its_namespace(cell: StoredCell) -> None:
    finding = found(cell)
    assert finding.name == "table-full"
    assert finding.reason.startswith(
        "the table of the client's network namespace lab-client reached its max (100 of 100"
    )
    assert "this machine's own table had at most 0 entries" in finding.reason
    (end,) = finding.measured.ends
    assert (end.role, end.entries_peak, finding.measured.drops) == ("client", 100, 0)
    assert prove(cell.evidence(), finding).disagreement is None


@pytest.mark.parametrize("cell", ["ipv6-only"], indirect=True)
def test_each_family_has_a_finding_and_the_worse_one_is_the_cells(cell: StoredCell) -> None:
    finding = found(cell)
    assert (finding.name, finding.family) == ("table-full", "ipv6")
    assert {family: part.name for family, part in finding.families.items()} == {
        "ipv4": "untracked",
        "ipv6": "table-full",
    }
    assert finding.measured.wanted == 2000
    proofs = prove(cell.evidence(), finding)
    assert (proofs.holders, proofs.families["ipv4"].holders, proofs.families["ipv6"].holders) == (True, False, True)
    assert "IPv4 untracked" in finding.reason and "IPv6 is tracked: `-A INPUT -m state" in finding.reason


@pytest.mark.parametrize("cell", ["udp-forwarded"], indirect=True)
def test_datagrams_that_a_router_dropped_did_not_arrive(cell: StoredCell) -> None:
    finding = found(cell)
    assert finding.name == "table-full"
    counts = finding.measured.connections
    assert counts is not None
    assert counts["held"] == 2000
    assert counts["accepted"] == 142
    assert [loss.cause for loss in finding.losses] == ["full table"]
