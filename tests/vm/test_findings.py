"""Every finding, from a real kernel."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.vm.conftest import Guests

HEAD = 'version = 1\nname = "{name}"\nsummary = "For a test."\n'

NAT = ["--table", "nat", "--append", "POSTROUTING", "--out-interface", "eth0", "--jump", "MASQUERADE"]

SEND_UNANSWERED = "; ".join(
    [
        "import socket",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "[s.sendto(b'x', ('127.0.0.1', 20000 + n)) for n in range(1900)]",
    ]
)

# the name of the finding -> the rest of a scenario that brings it about
SCENARIOS = {
    "tracked": f"""
[[state]]
run = {["iptables-legacy", *NAT]}
[conntrack]
max = 5000
[load]
connections = 2000
""",
    # Entries that nothing answered are evicted when room is needed. The search for one looks at eight buckets; with
    # 1,900 entries in 512 buckets, the fewest that a kernel makes, it never fails.
    "evicted": f"""
[[state]]
run = {["iptables-legacy", *NAT]}
[[state]]
run = ["iptables-legacy", "--append", "INPUT", "--protocol", "udp", "--jump", "DROP"]
[[state]]
run = ["python3", "-c", "{SEND_UNANSWERED}"]
[conntrack]
max = 2000
buckets = 512
[load]
connections = 600
""",
    "other-loss": """
[[state]]
run = ["iptables-legacy", "--append", "INPUT", "--protocol", "tcp", "--dport", "7778", "--jump", "DROP"]
[load]
connections = 200
""",
    "state-refused": """
[[state]]
run = ["iptables-legacy", "--table", "nosuch", "--list"]
[load]
connections = 200
""",
}


@pytest.mark.parametrize("finding", SCENARIOS)
def test_a_scenario_made_for_a_finding_gives_it(guests: Guests, finding: str) -> None:
    ran = guests.run(HEAD.format(name=finding) + SCENARIOS[finding])
    assert ran.result["finding"] == finding, ran.result["reason"]


def test_untracked_without_conntrack_in_the_kernel(guests: Guests, shipped: Callable[[str], str]) -> None:
    result = guests.run(shipped("pristine")).result
    assert result["finding"] == "untracked", result["reason"]
    assert result["connections"]["held"] == 20_000
    assert result["drops"] is None, "a counter that does not exist is unknown, not 0"


@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_a_full_table_drops_and_says_so(guests: Guests, shipped: Callable[[str], str], backend: str) -> None:
    result = guests.run(shipped("nat-present"), iptables=backend).result
    assert result["finding"] == "table-full", result["reason"]
    assert result["entries_peak"] >= result["max"] == 100
    assert result["connections"]["held"] == 100
    assert result["drops"] > 0
    assert result["message_logged"] is True


@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_the_classic_flush_stops_tracking(guests: Guests, shipped: Callable[[str], str], backend: str) -> None:
    result = guests.run(shipped("nat-flushed"), iptables=backend).result
    assert (result["finding"], result["as_expected"]) == ("untracked", True), result["reason"]
    assert result["entries_peak"] == 0


def test_an_always_on_kernel_still_tracks(guests: Guests, shipped: Callable[[str], str]) -> None:
    result = guests.run(shipped("nat-flushed-always-on"), iptables="legacy").result
    assert (result["finding"], result["as_expected"]) == ("table-full", True), result["reason"]


def test_a_refused_rule_keeps_what_the_command_said(guests: Guests, shipped: Callable[[str], str]) -> None:
    result = guests.run(shipped("modules-blocked"), iptables="legacy").result
    assert (result["finding"], result["as_expected"]) == ("state-refused", True), result["reason"]
    assert "iptables" in result["reason"]


def test_a_lost_cause_is_named(guests: Guests) -> None:
    ran = guests.run(HEAD.format(name="other-loss") + SCENARIOS["other-loss"])
    assert ran.result["cause"] == "a rule", ran.result["reason"]
    assert ran.result["connections"]["stalled"] == 25
