"""How large the table of a record's scenario is: what shows a full one, and what shows room."""

from __future__ import annotations

import pytest

from lab.core.inspecting.scaling import Scale, scale_of
from tests.unit.core.inspecting.hosts import MASQUERADE, inspected, stat, sysctl

DMESG = "[   10.000000] nf_conntrack: nf_conntrack: table full, dropping packet\n"
ROOM = sysctl(10, 65536)


def scaled(kmsg: str = "", fill: bool = False, later: dict[str, str] | None = None, **own: str) -> Scale:
    texts = {
        "iptables-legacy-save": MASQUERADE,
        **own,
        **{f"later/{name}": text for name, text in (later or {}).items()},
    }
    found = inspected({"kmsg": kmsg}, texts)
    return scale_of(found, found.looks[0], fill)


def of_drops(**counters: int) -> Scale:
    return scaled(sysctl=ROOM, stat_nf_conntrack=stat(10, **counters))


def test_a_host_with_room_keeps_its_own_size() -> None:
    found = of_drops(invalid=7, found=3)
    assert (found.finding, found.table_max, found.buckets, found.connections) == ("tracked", 65536, 512, 2000)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (of_drops(drop=3), "3 packets were dropped"),
        (of_drops(drop=5, insert_failed=2), "3 packets were dropped"),
        (of_drops(early_drop=9), "9 entries were evicted"),
        (scaled(DMESG, sysctl=ROOM), "the kernel logged a full table"),
        (scaled(sysctl=sysctl(60000, 65536)), "the table is 92% full"),
        (scaled(sysctl=sysctl(0, 100)), "the load opens 2,000"),
        (scaled(sysctl=sysctl(0, 2000)), "the load opens 2,000"),
        (scaled(), "was not recorded"),
        (scaled(fill=True, sysctl=ROOM), "asked for"),
    ],
)
def test_a_full_one_is_scaled_with_the_load(found: Scale, why: str) -> None:
    assert (found.finding, found.table_max, found.connections) == ("table-full", 1000, 2000)
    assert found.why.startswith("scaled with the load: ")
    assert why in found.why


@pytest.mark.parametrize(
    "counters", [{"drop": 2, "insert_failed": 2}, {"drop": 1, "clashres": 1}, {"insert_failed": 4}]
)
def test_what_is_dropped_for_another_reason_fills_no_table(counters: dict[str, int]) -> None:
    assert of_drops(**counters).finding == "tracked"


def test_a_table_that_is_full_soon_is_full() -> None:
    later = {"sysctl": sysctl(3000, 65536), "at": "11.0\n"}
    found = scaled(sysctl=sysctl(1000, 65536), later=later)
    assert found.finding == "table-full"
    assert "minutes" in found.why


def test_chains_that_were_too_long_are_made_so_again() -> None:
    found = of_drops(chainlength=8, insert_failed=8, drop=8)
    assert (found.finding, found.table_max, found.buckets, found.connections) == ("other-loss", 65536, 512, 24576)
    assert of_drops(chainlength=8, drop=20).finding == "table-full"


def test_no_limit_is_room() -> None:
    found = scaled(sysctl=sysctl(10, 0))
    assert (found.finding, found.table_max) == ("tracked", None)
    assert scaled(fill=True, sysctl=sysctl(10, 0)).buckets is None


@pytest.mark.parametrize(
    ("most", "buckets", "scaled_buckets"), [(262144, 262144, 1000), (4000, 2**20, 262144), (262144, 65536, 512)]
)
def test_a_bucket_has_as_many_entries_as_on_the_host(most: int, buckets: int, scaled_buckets: int) -> None:
    settings = sysctl(10, most).replace("buckets: 512", f"buckets: {buckets}")
    assert scaled(fill=True, sysctl=settings).buckets == scaled_buckets


def test_numbers_of_a_record_that_no_kernel_has_are_not_written() -> None:
    settings = sysctl(10, 2**40).replace("buckets: 512", f"buckets: {2**40}")
    found = scaled(sysctl=settings)
    assert (found.table_max, found.buckets) == (2**31 - 1, None)
