"""The table of paths, and loads over them: who talks to whom, by which addresses, in either family."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import pytest

from lab.guest import topology
from lab.guest.load import Load, LoadRequest
from lab.guest.paths import (
    FAMILIES,
    IPV4,
    PATHS,
    client_address,
    connect_address,
    families_of,
    full_ipv6,
    listen_address,
    networks,
    own_addresses,
    source_networks,
    source_pattern,
)
from lab.guest.sources import source_address
from tests.unit.namespaces import first_that_works, in_namespace

SHOWN = ("ended", "progress", "families", "newcomers", "exchange", "during")
REMOTE = [name for name, path in PATHS.items() if path.links]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", REMOTE)
def test_the_loads_addresses_are_its_own(name: str, family: str) -> None:
    source = client_address(name, family)
    written = source if family == IPV4 else full_ipv6(source)
    assert re.fullmatch(source_pattern(name, family), written)
    assert not re.fullmatch(source_pattern(name, family), connect_address(name, family))
    assert source.startswith(own_addresses(name, family))
    (network,) = source_networks(name, family)
    assert ipaddress.ip_address(source) in ipaddress.ip_network(network)
    covered = [ipaddress.ip_network(one) for one in networks(name, family)]
    for address in (source, connect_address(name, family), listen_address(name, family)):
        assert any(ipaddress.ip_address(address) in one for one in covered)
        assert not ipaddress.ip_address(address).is_global


@pytest.mark.parametrize("family", FAMILIES)
def test_sources_on_loopback_match_the_pattern(family: str) -> None:
    address = source_address(family, 255, 254)
    written = address if family == IPV4 else full_ipv6(address)
    assert re.fullmatch(source_pattern("loopback", family), written)
    assert address.startswith(own_addresses("loopback", family))
    assert str(ipaddress.ip_address(address)) == address, "as the listeners see it"


def test_only_a_published_port_is_answered_elsewhere() -> None:
    assert [name for name in PATHS if listen_address(name, IPV4) != connect_address(name, IPV4)] == ["published"]


@pytest.mark.parametrize("text", ["::1", "2001:db8:c::2", "1:2:3:4:5:6:7:8", "::"])
def test_the_kernels_long_form(text: str) -> None:
    assert full_ipv6(text) == ipaddress.IPv6Address(text).exploded


def test_what_is_no_address() -> None:
    with pytest.raises(ValueError, match="no IPv6 address"):
        full_ipv6("1:2:3")


def driven(**options: Any) -> Any:
    """The result of a load on its path, in namespaces of its own."""

    def body() -> Any:
        first_that_works(["ip", "link", "add", "probe", "type", "veth"])
        first_that_works(["ip", "link", "delete", "probe"])
        request = LoadRequest(40, 30.0, **{"processes": 1, **options})
        topology.build(request.path, families_of(request.family))
        load = Load(request, lambda sample: None)
        try:
            result = load.run()
            return {name: result.get(name) for name in SHOWN}
        finally:
            load.release()
            topology.remove(request.path, families_of(request.family))

    return in_namespace(body)


@pytest.mark.parametrize("family", ["ipv4", "ipv6", "both"])
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("loopback", {"kind": "hold"}),
        ("local", {"kind": "churn", "close": "half"}),
        ("outbound", {"kind": "half-open", "newcomers": 6}),
        ("forward", {"kind": "udp"}),
        ("forward", {"kind": "udp", "answered": True}),
        ("bridge", {"kind": "hold", "data": True, "processes": 2}),
    ],
)
def test_every_load_goes_over_every_path(path: str, kind: dict[str, Any], family: str) -> None:
    result = driven(path=path, family=family, **kind)
    assert result["ended"] == "all-held"
    assert (result["progress"]["held"], result["progress"]["accepted"]) == (40, 40)
    if family == "both":
        assert {name: part["progress"]["held"] for name, part in result["families"].items()} == {"ipv4": 20, "ipv6": 20}
    if "newcomers" in kind:
        assert result["newcomers"]["held"] == 6
    if "data" in kind:
        assert result["exchange"] == {"asked": 40, "answered": 40}


def test_steps_run_under_the_load_and_in_its_ends() -> None:
    step = {"kind": "run", "argv": ["ip", "address", "show", "dev", "eth0"], "refused": False, "in": "client"}
    result = driven(path="local", during=[step], data=True, newcomers=4)
    assert result["during"]["reached"]
    assert "198.51.100.2/24" in result["during"]["steps"][0]["stdout"]
    assert result["newcomers"]["held"] == 4
    assert result["exchange"] == {"asked": 44, "answered": 44}


def test_a_connection_that_carries_nothing_is_not_answered() -> None:
    """What a full table does to open connections, by a rule that drops all that comes."""
    step = {"kind": "run", "argv": ["iptables-legacy", "-A", "INPUT", "-i", "lab-c0", "-j", "DROP"], "refused": False}

    def check() -> None:
        first_that_works(["iptables-legacy", "-S"])

    in_namespace(check)
    result = driven(path="local", during=[step], data=True)
    assert result["ended"] == "all-held"
    assert result["exchange"] == {"asked": 40, "answered": 0}
