"""Every path x kind of load x family: a rule of IPv4 alone tracks IPv4 alone, whoever talks to whom.

Each finding is what plain sockets in the namespaces showed by hand (`conntrack -C` and the kernel's counters, on Linux
6.1, 6.12 and 7.2). LAB_TEST_PATHS=all runs all of them (66 cells, ten minutes emulated); without it a few are run.
"""

from __future__ import annotations

import itertools
import os

import pytest

from lab.core.scenario.model import PATHS
from tests.vm.conftest import Guests

# the program, the address that is published, and the server
ADDRESSES = {
    "ipv4": ("iptables-legacy", "198.51.100.1", "203.0.113.2"),
    "ipv6": ("ip6tables-legacy", "2001:db8:c::1", "2001:db8:5::2"),
}
FAMILIES = {"ipv4": ("ipv4",), "ipv6": ("ipv6",), "both": ("ipv4", "ipv6")}
# the keys of [load] of each kind
LOADS = {
    "hold": 'kind = "hold"',
    "churn": 'kind = "churn"',
    "half-open": 'kind = "half-open"',
    "udp": 'kind = "udp"',
    "udp-answered": 'kind = "udp"\nanswered = true',
}
SOME = {("outbound", "churn", "both"), ("bridge", "half-open", "ipv6"), ("published", "udp-answered", "ipv6")}
TABLE = [
    (path, load, family)
    for path, load, family in itertools.product(PATHS, LOADS, FAMILIES)
    if family != "both" or (path, load, family) in SOME or load == "hold"
]


def scenario(path: str, load: str, family: str) -> str:
    """A table of 50 entries, 400 connections, and one rule that holds conntrack for IPv4."""
    return f"""
version = 1
name = "table-{path}-{load}-{family}"
summary = "Is this load over this path tracked?"
[machine]
path = "{path}"
{"".join(steps(path, load, family))}
[conntrack]
max = 50
[load]
{LOADS[load]}
connections = 400
family = "{family}"
"""


def steps(path: str, load: str, family: str) -> list[str]:
    """The state: that rule, and on a bridge what shows it the frames; or the rules that publish a port."""
    if path == "published":
        protocol = "udp" if load.startswith("udp") else "tcp"
        return [publish(*ADDRESSES[one], protocol) for one in FAMILIES[family]]
    frames = [step("modprobe br_netfilter")] if path == "bridge" else []
    return [*frames, step("iptables-legacy -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT")]


def publish(program: str, here: str, server: str, protocol: str) -> str:
    """A step that leads a protocol to the server."""
    return step(f"{program} -t nat -A PREROUTING -d {here} -p {protocol} -j DNAT --to-destination {server}")


def step(command: str) -> str:
    """A step that runs a command."""
    return f"[[state]]\nrun = {command.split()}\n"


@pytest.mark.parametrize(("path", "load", "family"), TABLE, ids="-".join)
def test_each_family_is_tracked_where_a_rule_of_it_is(guests: Guests, path: str, load: str, family: str) -> None:
    if os.environ.get("LAB_TEST_PATHS") != "all" and (path, load, family) not in SOME:
        pytest.skip("LAB_TEST_PATHS=all runs it")
    result = guests.run(scenario(path, load, family)).result
    expected = {one: "table-full" if one == "ipv4" or path == "published" else "untracked" for one in FAMILIES[family]}
    found = {one: part["finding"] for one, part in (result["families"] or {}).items()} or {family: result["finding"]}
    assert found == expected, result["reason"]
