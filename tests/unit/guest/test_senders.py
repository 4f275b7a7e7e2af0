"""Where the packets of a flood go, and what is written into them."""

from __future__ import annotations

import ipaddress
import socket
import struct
from array import array

import pytest

from lab.guest import senders
from lab.guest.senders import ADDRESSES
from lab.guest.sources import FLOOD

PORT = 7777


def address_of(index: int) -> str:
    return str(ipaddress.IPv4Address(senders.addresses(index, 1)))


def test_each_index_has_an_address_of_its_own() -> None:
    """Around every place where an octet carries over."""
    near = {
        index + offset
        for index in (0, 254, 254 * 256, 254 * 256 * 2, ADDRESSES - 2)
        for offset in range(-2, 3)
        if 0 <= index + offset < ADDRESSES
    }
    addresses = {index: address_of(index) for index in near}
    whole = senders.addresses(0, 600)
    assert whole == b"".join(senders.addresses(index, 1) for index in range(600))
    assert len(set(addresses.values())) == len(near)
    for address in addresses.values():
        octets = ipaddress.IPv4Address(address).packed
        assert octets[0] == 127
        assert 1 <= octets[1] <= 254
        assert 1 <= octets[3] <= 254
    assert (address_of(0), address_of(254), address_of(ADDRESSES - 1)) == ("127.1.0.1", "127.1.1.1", "127.254.255.254")


@pytest.mark.parametrize("index", [-1, ADDRESSES])
def test_there_are_no_more_addresses(index: int) -> None:
    with pytest.raises(ValueError, match=f"no address number {index}"):
        address_of(index)


@pytest.mark.parametrize("first", [0, 253, 254 * 256 - 100, 254 * 256 * 128 + 77, ADDRESSES - 600])
@pytest.mark.parametrize("source_port", [1, 40000, 65535])
def test_the_checksums_of_syns(first: int, source_port: int) -> None:
    packet = bytearray(40)
    total = senders._put_syn(packet, source_port, PORT)
    destinations = senders.addresses(first, 600)
    for index, checksum in enumerate(senders.checksums(total, first, 600)):
        packet[36:38] = array("H", [checksum]).tobytes()
        segment = bytes(packet[20:])
        destination = destinations[4 * index : 4 * index + 4]
        pseudo_header = socket.inet_aton(FLOOD) + destination + struct.pack("!HH", 6, len(segment))
        words = struct.unpack("!16H", pseudo_header + segment)
        assert sum(words) % 0xFFFF == 0  # RFC 1071: right when the sum of all words is zero in ones' complement
        assert struct.unpack("!HH", segment[:4]) == (source_port, PORT)
        assert segment[13] == 0x02


@pytest.mark.parametrize("checksum", [0, 1, 100, 253, 254, 0xFFFE])
def test_checksums_that_pass_zero(checksum: int) -> None:
    """Where the first of a run of 254 has this one."""
    total = 2 * 0xFFFF - checksum - (127 << 8 | 1) - (0 << 8 | 1)
    found = senders.checksums(total, 0, 254)
    found.byteswap()
    expected = [0xFFFF - ((total + (127 << 8 | 1) + last) % 0xFFFF or 0xFFFF) for last in range(1, 255)]
    assert list(found) == expected and found[0] == checksum
