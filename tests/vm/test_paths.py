"""Loads over the paths, in a real guest: what each kind of host sees of its table."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.vm.conftest import Guests

EXPECTED = {
    "remote-notrack": "untracked",
    "bridge-untracked": "untracked",
    "bridge-tracked": "table-full",
    "published-port": "table-full",
    "udp-forwarded": "table-full",
    "rule-under-load": "table-full",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_scenario_of_a_path_is_as_expected(guests: Guests, shipped: Callable[[str], str], name: str) -> None:
    result = guests.run(shipped(name)).result
    assert (result["finding"], result["as_expected"]) == (EXPECTED[name], True), result["reason"]


def test_a_containers_full_table_is_seen_from_the_host(guests: Guests, shipped: Callable[[str], str]) -> None:
    ran = guests.run(shipped("container-table"))
    assert ran.result["finding"] == "table-full", ran.result["reason"]
    assert ran.result["drops"] in (0, None)
    assert "namespace lab-client reached its max (100 of 100 entries)" in ran.result["reason"]
    assert "held there by `-A OUTPUT -d 127.0.0.11" in ran.result["reason"]
    assert (ran.cell / "evidence" / "after-client" / "iptables-legacy-save.txt").exists()


def test_each_family_is_judged_by_itself(guests: Guests, shipped: Callable[[str], str]) -> None:
    result = guests.run(shipped("ipv6-only")).result
    found = {family: part["finding"] for family, part in result["families"].items()}
    assert found == {"ipv4": "untracked", "ipv6": "table-full"}, result["reason"]
    assert result["finding"] == "table-full"
