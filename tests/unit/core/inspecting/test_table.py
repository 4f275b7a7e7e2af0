"""The table: levels, counters, rises, forecasts; what is not there is None and never 0."""

from __future__ import annotations

import pytest

from lab.core.inspecting.table import TableState, table_drops
from tests.unit.core.inspecting.hosts import inspected, look, stat, sysctl

SNMP = "Tcp: ActiveOpens PassiveOpens\nTcp: {} {}\n"


def watched(first: int, later: int, most: int = 1000, **rises: int) -> dict[str, str]:
    return {
        "iptables-legacy-save": "*filter\n-A INPUT -m state --state NEW -j ACCEPT\nCOMMIT\n",
        "sysctl": sysctl(first, most),
        "stat_nf_conntrack": stat(first, drop=7),
        "snmp": SNMP.format(10, 20),
        "later/at": "12.0\n",
        "later/sysctl": sysctl(later, most),
        "later/stat_nf_conntrack": stat(
            later, **{"drop": 7, **{k: v + (7 if k == "drop" else 0) for k, v in rises.items()}}
        ),
        "later/snmp": SNMP.format(12, 28),
    }


def test_nothing_recorded_is_nothing_known() -> None:
    table = look().table
    assert (table.entries, table.table_max, table.share, table.drops_rise, table.growth_per_second) == (None,) * 5
    assert look().status == 0, "nothing tracks"


def test_levels_and_rises() -> None:
    table = look(own=watched(100, 200, drop=5, insert_failed=2)).table
    assert (table.entries, table.entries_later, table.table_max, table.buckets) == (100, 200, 1000, 512)
    assert (table.growth_per_second, table.full_in_seconds) == (50.0, 16.0)
    assert (table.drops_rise, table.counters["drop"]) == (3, 7)
    assert (table.opened_per_second, table.steady_entries) == (5.0, 600)
    assert table.hash_bytes == 4096


def test_a_drop_for_another_reason_is_none_of_a_full_table() -> None:
    assert table_drops({"drop": 5, "insert_failed": 3, "clashres": 4}) == 0


def test_no_limit_is_no_share() -> None:
    assert TableState(entries=5, table_max=0).share is None


def test_the_status() -> None:
    def status(own: dict[str, str]) -> int:
        return look(own=own).status

    assert status(watched(10, 10)) == 0
    assert status(watched(10, 10, drop=3)) == 1
    assert status(watched(1000, 1000)) == 1
    assert status(watched(900, 900)) == 1
    assert status(watched(100, 110)) == 1, "full in three minutes"
    assert status(watched(100, 110, 10**6)) == 0
    assert status({"iptables-legacy-save": watched(0, 0)["iptables-legacy-save"]}) == 3
    assert status(watched(10, 10, 0)) == 0


@pytest.mark.parametrize(
    ("later", "waiting", "others", "status"),
    [
        (110, 9, 1, 0),  # 5 a second, each for 120 s, and 178 s until it would be full
        (110, 8, 2, 1),  # how long the others stay is not known
        (140, 10, 0, 1),  # full in 43 s, before the first of them goes
    ],
)
def test_what_ends_before_the_table_is_full_does_not_fill_it(
    later: int, waiting: int, others: int, status: int
) -> None:
    row = "ipv4 2 tcp 6 100 {} src=- dst=- sport=1 dport=2 src=- dst=- sport=2 dport=1 [ASSURED] use=1\n"
    rows = row.format("TIME_WAIT") * waiting + row.format("ESTABLISHED") * others
    found = look(own={**watched(100, later), "entries": rows})
    assert (found.status, "which last 120 s" in found.verdict) == (status, status == 0)


def test_the_worst_namespace_is_the_hosts_status() -> None:
    found = inspected({}, watched(10, 10), n5=watched(1000, 1000))
    assert (found.status, found.verdict.partition(":")[0]) == (1, "netns 5")
