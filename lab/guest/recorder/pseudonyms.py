"""Addresses in rules, replaced by others that mean the same: two in one network stay in one network.

The mapping is a random one for each record, bit by bit: what an address shares with another from the left, their
pseudonyms share. The first byte (of IPv6 the first two) stays, so that a private or link-local address is one.
"""

import hashlib
import ipaddress
import os
import re
from typing import Callable, Dict, Match, Tuple, Union

_Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
_V4 = r"\d{1,3}(?:\.\d{1,3}){3}"
_V6 = r"[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}"
# an address with its mask, or a range of them; not part of a longer word
_FOUND = re.compile(
    r"(?<![\w.:/-])(?P<address>{0}|{1})(?:/(?P<mask>\d{{1,3}}|{0})|-(?P<last>{0}|{1}))?(?![\w.])".format(_V4, _V6)
)
_HEXADECIMAL = re.compile(r"(?<![\w:])[0-9A-F]{8}(?=:[0-9A-F]{4}\b)")  # of IPv4 with its port, in /proc/net/ip_vs
_KEPT_BITS = {4: 8, 6: 16}
# the host itself, anybody, everybody
_KEPT = tuple(map(ipaddress.ip_network, ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8")))


class Pseudonyms:
    """One mapping of addresses."""

    def __init__(self, key: bytes) -> None:
        """`key` decides the mapping; who has it can undo it."""
        self._key = key
        self._bits: Dict[Tuple[int, int, int], int] = {}

    def text(self, text: str) -> str:
        """The text with every address replaced; words that are none stay."""
        return _HEXADECIMAL.sub(self._replaced_hexadecimal, _FOUND.sub(self._replaced, text))

    def _replaced_hexadecimal(self, match: Match[str]) -> str:
        return "{:08X}".format(int(self._mapped(ipaddress.IPv4Address(int(match[0], 16)))))

    def _replaced(self, match: Match[str]) -> str:
        try:
            address = ipaddress.ip_address(match["address"])
            last = ipaddress.ip_address(match["last"]) if match["last"] else None
        except ValueError:
            return match[0]
        if any(address in network for network in _KEPT if network.version == address.version):
            return match[0]
        mapped = self._mapped(address)
        if last is not None:  # as long a range, wherever it begins
            return "{}-{}".format(mapped, _shifted(mapped, int(last) - int(address)))
        if match["mask"]:
            return "{}/{}".format(_masked(mapped, match["mask"]), match["mask"])
        return str(mapped)

    def _mapped(self, address: _Address) -> _Address:
        value, length = int(address), address.max_prefixlen
        result = value >> (length - _KEPT_BITS[address.version])
        for place in range(_KEPT_BITS[address.version], length):
            prefix = value >> (length - place)
            bit = value >> (length - place - 1) & 1
            result = result << 1 | bit ^ self._flips(address.version, place, prefix)
        return type(address)(result)

    def _flips(self, version: int, place: int, prefix: int) -> int:
        known = (version, place, prefix)
        if known not in self._bits:
            seed = "{} {} {}".format(*known).encode("ascii")
            self._bits[known] = hashlib.blake2b(seed, key=self._key, digest_size=1).digest()[0] & 1
        return self._bits[known]


def _shifted(address: _Address, by: int) -> _Address:
    most = 2**address.max_prefixlen - 1
    return type(address)(min(most, max(0, int(address) + by)))


def _masked(address: _Address, mask: str) -> _Address:
    """The address without the bits behind its mask, which programs print as zeros."""
    length = bin(int(ipaddress.IPv4Address(mask))).count("1") if "." in mask else int(mask)
    behind = max(0, address.max_prefixlen - length)
    return type(address)(int(address) >> behind << behind)


def random_pseudonyms() -> Callable[[str], str]:
    """A mapping that nobody can undo: its key is kept nowhere."""
    return Pseudonyms(os.urandom(32)).text
