"""Addresses that are others, and mean the same."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.core.holders.find import holders
from lab.core.holders.model import Recorded
from lab.guest.recorder.pseudonyms import Pseudonyms, random_pseudonyms

KEY = b"k" * 32
text = Pseudonyms(KEY).text


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_what_two_share_their_pseudonyms_share(one: ipaddress.IPv4Address, two: ipaddress.IPv4Address) -> None:
    mapped = [int(ipaddress.ip_address(text(str(address)))) for address in (one, two)]
    if any(int(address) >> 29 == 7 or int(address) >> 24 in (0, 127) for address in (one, two)):
        return

    def shared(a: int, b: int) -> int:
        return 32 - (a ^ b).bit_length()

    assert shared(*mapped) == shared(int(one), int(two))


def test_no_address_is_left() -> None:
    rules = "-A INPUT -s 192.0.2.7/32 -d 2001:db8:1::5/128 -j SNAT --to-source 198.51.100.4-198.51.100.9"
    made = text(rules)
    assert not {"192.0.2.7", "2001:db8:1::5", "198.51.100.4", "198.51.100.9"} & set(
        made.replace("/", " ").replace("-", " ").split()
    )
    assert made.count("192.") == 1
    first, last = (ipaddress.ip_address(word) for word in made.split()[-1].split("-"))
    assert int(last) - int(first) == 5


@pytest.mark.parametrize(
    "word",
    ["0.0.0.0/0", "127.0.0.1", "224.0.0.251", "255.255.255.0", "::/0", "::1", "fe80::1", "1.2.3", "v1.2.3.4", "10:20"],
)
def test_what_is_nobodys_stays(word: str) -> None:
    assert text(word) == word


@pytest.mark.parametrize(("word", "zeros"), [("10.1.2.0/24", 8), ("10.1.0.0/255.255.0.0", 16), ("2001:db8::/32", 96)])
def test_a_network_stays_one(word: str, zeros: int) -> None:
    address, _, mask = text(word).partition("/")
    assert mask == word.partition("/")[2]
    assert int(ipaddress.ip_address(address)) % 2**zeros == 0


def test_a_ruleset_has_the_same_holders() -> None:
    rules = "*nat\n-A P -s 172.17.0.0/16 -j MASQUERADE\n-A X -d 192.0.2.1 -j DNAT --to 192.0.2.2:80\nCOMMIT\n"
    before, after = (holders(Recorded((6, 1), iptables_legacy=one)) for one in (rules, text(rules)))
    assert [(one.chain, one.depends_on) for one in before] == [(one.chain, one.depends_on) for one in after]


def test_services_of_ipvs_are_hidden_too() -> None:
    line = "TCP  C0000201:0015 rr\n"
    made = text(line)
    assert "C0000201" not in made
    assert made.startswith("TCP  C0") and made.endswith(":0015 rr\n")


def test_each_record_has_its_own() -> None:
    assert random_pseudonyms()("192.0.2.77 203.0.113.9") != random_pseudonyms()("192.0.2.77 203.0.113.9")
