"""Conntrack's counters by netlink: answers recorded in a guest (6.1, two CPUs), and answers that are none."""

from __future__ import annotations

import socket
import struct

import pytest

from lab.core.kernel.conntrack import stat_totals
from lab.guest.ctnetlink import COLUMNS, entry_row, stat_text
from lab.guest.nfnetlink import attributes, numbers
from lab.guest.nfnetlink import parse_answer as parse_bodies

# to IPCTNL_MSG_CT_GET_STATS: 5 entries of at most 5
GLOBAL = bytes.fromhex("240000000501020001000000860000000000000008000100000000050800020000000005")
# to IPCTNL_MSG_CT_GET_STATS_CPU: CPU 0 dropped two packets, CPU 1 one; the end of the dump comes in another answer
CPUS = bytes.fromhex(
    "64000000040102000200000086000000" "00000000" "0800020000000000" "0800040000000000" "0800080000000000"
    "0800090000000000" "08000a0000000002" "08000b0000000000" "08000c0000000000" "08000d0000000000" "08000e0000000000"
    "08000f0000000000"
    "64000000040102000200000086000000" "00000001" "0800020000000000" "0800040000000000" "0800080000000000"
    "0800090000000000" "08000a0000000001" "08000b0000000000" "08000c0000000000" "08000d0000000000" "08000e0000000000"
    "08000f0000000000"
)  # fmt: skip
DONE = bytes.fromhex("1400000003000200020000008600000000000000")
# what /proc/net/stat/nf_conntrack showed at that moment
PROC = """\
entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error
00000005  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000002 00000000 00000000
00000005  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000000 00000000
"""


def parse_answer(data: bytes, sequence: int) -> tuple[list[dict[int, int]], bool]:
    bodies, ended = parse_bodies(data, sequence)
    return [numbers(body) for body in bodies], ended


def test_the_number_of_entries() -> None:
    assert parse_answer(GLOBAL, 1) == ([{1: 5, 2: 5}], False)


def test_both_sources_say_the_same() -> None:
    rows, ended = parse_answer(CPUS, 2)
    assert (len(rows), ended) == (2, False)
    assert parse_answer(DONE, 2) == ([], True)
    by_netlink, by_proc = stat_totals(stat_text(5, rows)), stat_totals(PROC)
    assert by_netlink["drop"] == 3
    common = by_netlink.keys() & by_proc.keys()
    assert {"entries", "drop", "early_drop", "insert_failed", "clashres", "chainlength"} <= common
    assert {name: by_netlink[name] for name in common} == {name: by_proc[name] for name in common}


def test_what_the_kernel_does_not_count_is_not_there() -> None:
    rows, _ = parse_answer(CPUS, 2)
    names = stat_text(5, rows).splitlines()[0].split()
    assert "searched" not in names and "delete" not in names
    assert stat_text(None, rows).split()[0] == "found", "unknown is no column"


def test_an_answer_to_an_earlier_question_is_passed_over() -> None:
    assert parse_answer(GLOBAL + CPUS, 2)[0] == parse_answer(CPUS, 2)[0]


def test_the_kernels_error_is_raised() -> None:
    refused = struct.pack("=IHHIIi", 20, 2, 0, 7, 0, -1)
    with pytest.raises(OSError) as caught:
        parse_answer(refused, 7)
    assert caught.value.errno == 1


@pytest.mark.parametrize("cut", range(1, len(CPUS), 7))
def test_an_answer_that_is_cut_off_is_refused_or_shorter(cut: int) -> None:
    try:
        rows, ended = parse_answer(CPUS[:cut], 2)
    except ValueError as error:
        assert "are left" in str(error)
    else:
        assert (len(rows), ended) in ((0, False), (1, False))


@pytest.mark.parametrize("length", [0, 3, 400])
def test_an_attribute_of_an_impossible_length_is_refused(length: int) -> None:
    broken = bytearray(GLOBAL)
    broken[20:22] = length.to_bytes(2, "little")
    with pytest.raises(ValueError, match=f"an attribute of {length} bytes"):
        parse_answer(bytes(broken), 1)


def test_every_column_has_a_name_of_its_own() -> None:
    assert len({name for _, name in COLUMNS}) == len(COLUMNS) == len({kind for kind, _ in COLUMNS})


# -- rows of the table ------------------------------------------------------------------------------------------------


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def entry(
    family: int, source: str, destination: str, protocol: int, ports: tuple[int, int] | None, state: int
) -> bytes:
    first = 1 if family == socket.AF_INET else 3
    addresses = b"".join(
        attribute(first + number, socket.inet_pton(family, one)) for number, one in enumerate((source, destination))
    )
    proto = attribute(1, bytes([protocol]))
    for kind, port in zip((2, 3), ports or (), strict=False):
        proto += attribute(kind, struct.pack(">H", port))
    tcp = attribute(0x8000 | 4, attribute(0x8000 | 1, attribute(1, bytes([state])))) if protocol == 6 else b""
    return attribute(0x8000 | 1, attribute(0x8000 | 1, addresses) + attribute(0x8000 | 2, proto)) + tcp


def test_a_row_reads_as_proc_begins_it() -> None:
    tcp = entry(socket.AF_INET, "127.77.1.1", "127.0.0.1", 6, (40000, 7777), 3)
    assert (
        entry_row(socket.AF_INET, tcp)
        == "ipv4 2 tcp 6 0 ESTABLISHED src=127.77.1.1 dst=127.0.0.1 sport=40000 dport=7777\n"
    )
    udp = entry(socket.AF_INET6, "fe80::1", "::1", 17, (5, 6), 0)
    assert entry_row(socket.AF_INET6, udp) == "ipv6 10 udp 17 0 src=fe80::1 dst=::1 sport=5 dport=6\n"
    icmp = entry(socket.AF_INET, "127.0.0.1", "127.0.0.1", 1, None, 0)
    assert entry_row(socket.AF_INET, icmp) == "ipv4 2 unknown 1 0 src=127.0.0.1 dst=127.0.0.1\n"
    assert entry_row(socket.AF_INET, b"") == "ipv4 2 unknown 0 0 src=? dst=?\n"


def test_attributes_that_are_none_are_refused() -> None:
    for data in (b"\x03\x00\x01\x00", b"\xff\x00\x01\x00"):
        with pytest.raises(ValueError, match="netlink: an attribute of"):
            list(attributes(data))
