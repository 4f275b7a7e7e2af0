"""Looks at the table: rows that are the load's, read from text as kernels write it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guest import entries, sources
from lab.guest.entries import Table
from lab.guest.kinds import LoadRequest, source_patterns
from lab.guest.paths import FORWARD, IPV4, IPV6, LOOPBACK, networks, source_pattern

OURS = (
    "ipv4     2 tcp      6 431999 ESTABLISHED src=127.77.1.1 dst=127.0.0.1 sport={port} dport=7777 "
    "src=127.0.0.1 dst=127.77.1.1 sport=7777 dport={port} [ASSURED] mark=0 zone=0 use=2\n"
)
OTHERS = (
    "ipv4     2 udp      17 29 src=127.0.0.1 dst=127.2.0.9 sport=5000 dport=9999 [UNREPLIED] src=127.2.0.9 "
    "dst=127.0.0.1 sport=9999 dport=5000 mark=0 zone=0 use=2\n"
    # the load's network as a destination, and an address that only begins like it
    "ipv4     2 tcp      6 60 SYN_SENT src=127.0.0.1 dst=127.77.1.1 sport=1 dport=7777 [UNREPLIED] src=127.77.1.1 "
    "dst=127.0.0.1 sport=7777 dport=1 mark=0 zone=0 use=2\n"
    "ipv4     2 icmp     1 29 src=127.0.0.1 dst=127.0.0.1 type=8 code=0 id=7 src=127.0.0.1 dst=127.0.0.1 type=0 code=0 "
    "id=7 mark=0 zone=0 use=2\n"
    "ipv6     10 icmpv6   58 29 src=fe80::1 dst=ff02::2 type=133 code=0 id=0 [UNREPLIED] src=ff02::2 dst=fe80::1 "
    "type=129 code=0 id=0 mark=0 zone=0 use=2\n"
)
# an entry without a timer (offloaded), and without a state
ODD = (
    "ipv4     2 tcp      6 src=127.77.2.9 dst=127.0.0.1 sport=40000 dport=7778 src=127.0.0.1 dst=127.77.2.9 sport=7778 "
    "dport=40000 [OFFLOAD] mark=0 zone=0 use=3\n"
    "ipv4     2 udp      17 29 src=127.77.0.1 dst=127.1.0.1 sport=41000 dport=7777 [UNREPLIED] src=127.1.0.1 "
    "dst=127.77.0.1 sport=7777 dport=41000 mark=0 zone=0 use=2\n"
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "nf_conntrack"
    monkeypatch.setattr(entries, "ENTRIES_PATH", str(path))
    return path


@pytest.fixture
def table() -> Table:
    return Table(source_patterns(LoadRequest(10, 1.0)))


def rows(count: int) -> str:
    return "".join(OURS.format(port=30000 + number) for number in range(count))


def test_rows_are_counted_by_the_loads_own_addresses(file: Path, table: Table) -> None:
    file.write_text(OTHERS + rows(3) + ODD + OTHERS)
    table.look(1.5, "13\n")
    (look,) = table.looks
    assert (look["load"], look["rows"], look["cut"], look["error"]) == (5, {"ipv4": 11, "ipv6": 2}, False, None)
    assert look["groups"] == [["tcp", "", 7778, 1], ["tcp", "ESTABLISHED", 7777, 3], ["udp", "", 7777, 1]]
    assert (look["seconds"], look["count"]) == (1.5, "13\n")


def test_an_entry_that_is_seen_twice_counts_once(file: Path, table: Table) -> None:
    file.write_text(rows(4) + rows(4))
    table.look(0, "4\n")
    assert table.looks[0]["load"] == 4


def test_no_rows_are_read_where_there_are_none(file: Path, table: Table) -> None:
    for count in (None, "0\n"):
        table.look(0, count)
    assert [(look["load"], look["error"]) for look in table.looks] == [(0, None), (0, None)]


class Netlink:
    """Stands for the kernel's answers by netlink."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def entries(self) -> Iterator[str]:
        yield from self._parts

    def close(self) -> None:
        pass


def test_a_kernel_without_the_file_is_asked_by_netlink(
    file: Path, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_by_netlink = "ipv4 2 tcp 6 0 ESTABLISHED src=127.77.1.1 dst=127.0.0.1 sport=40000 dport=7777\n"
    monkeypatch.setattr(
        entries, "Counters", lambda: Netlink(rows_by_netlink, "", "ipv6 10 unknown 58 0 src=::1 dst=::1\n")
    )
    table.look(0, "2\n")
    assert (table.looks[0]["load"], table.looks[0]["rows"]) == (1, {"ipv4": 1, "ipv6": 1})


def test_a_table_that_cannot_be_read_says_so(file: Path, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(errno.EPERM, "not for you")

    monkeypatch.setattr(entries, "Counters", refuse)
    table.look(0, "5\n")
    assert table.looks[0]["error"] == "EPERM"


def test_parts_end_where_rows_end(file: Path, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "_CHUNK_BYTES", 64)
    file.write_text(rows(200) + OTHERS)
    table.look(0, "204\n")
    assert (table.looks[0]["load"], table.looks[0]["rows"]) == (200, {"ipv4": 203, "ipv6": 1})


def test_what_is_too_much_is_cut_and_said(file: Path, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MAX_BYTES", 1000)
    monkeypatch.setattr(entries, "_CHUNK_BYTES", 500)
    file.write_text(rows(200))
    table.look(0, "200\n")
    assert table.looks[0]["cut"]
    assert 0 < table.looks[0]["load"] < 200


def test_rows_that_were_passed_over_are_looked_for_again(
    file: Path, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that go while the table is read hide others: what one reading missed the next one has."""
    texts = [rows(3) + OTHERS, rows(5)]
    read = os.read

    def changing(fd: int, size: int) -> bytes:
        data = read(fd, size)
        if not data and texts:
            file.write_text(texts.pop(0))
        return data

    monkeypatch.setattr(os, "read", changing)
    file.write_text(OTHERS)
    table.look(0, "9\n", 5)
    assert table.looks[0]["load"] == 5


def test_looks_are_bounded_and_spaced(file: Path, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(rows(1))
    for _ in range(50):
        table.look_when_due(0, "1\n")
    assert len(table.looks) == 1, "the next one is due a while later"
    monkeypatch.setattr(entries, "MAX_LOOKS", 3)
    for _ in range(9):
        table.look(0, "1\n")
    assert len(table.looks) == 3


def test_a_load_through_a_router_is_known_by_the_clients_address() -> None:
    pattern = source_pattern(FORWARD, IPV4)
    assert re.fullmatch(pattern, "198.51.100.2")
    assert not re.fullmatch(pattern, "198.51.100.20")
    assert networks(FORWARD, IPV4) == ["198.51.100.2/32", "203.0.113.2/32"]
    assert re.fullmatch(source_pattern(FORWARD, IPV6), "2001:0db8:000c:0000:0000:0000:0000:0002")


def test_sources_are_each_used_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "port_range", lambda: (100, 102))
    first, second = (list(sources.sources(shard)) for shard in (0, 1))
    assert first[:4] == [("127.77.1.1", 100), ("127.77.1.1", 101), ("127.77.1.1", 102), ("127.77.1.2", 100)]
    assert len({*first, *second}) == len(first) + len(second) == 2 * 3 * 254
    assert all(re.fullmatch(source_pattern(LOOPBACK, IPV4), address) for address, _ in (*first, *second))
    with pytest.raises(ValueError, match="no shard number 255"):
        next(sources.sources(255))
