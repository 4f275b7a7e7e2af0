"""Which rules can take the load's packets, and of how many of its connections."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.core.evidence import Evidence, Snapshot
from lab.core.judging.measured import measure
from lab.core.judging.rule_counters import rule_rises
from lab.core.judging.traffic import iptables_options, match_of, nft_options, traffic_of

LOOPBACK = {
    "kind": "hold",
    "networks": ["127.0.0.0/8"],
    "source_networks": ["127.77.0.0/16"],
    "listeners": [["127.0.0.1", 7777 + number, 125] for number in range(8)],
}
TRAFFIC = traffic_of(LOOPBACK)
SYN = "--tcp-flags FIN,SYN,RST,ACK SYN"
PORT = {"payload": {"protocol": "tcp", "field": "dport"}}


@pytest.mark.parametrize(
    ("spec", "possible", "reach"),
    [
        ("-j DROP", True, None),
        ("-p udp -j DROP", False, None),
        (f"-p tcp -m tcp --dport 7784 {SYN} -j DROP", True, 125),
        (f"-p tcp -m tcp --dport 7779:7784 {SYN} -j DROP", True, 750),
        ("-p tcp -m tcp --sport 7784 --tcp-flags SYN,ACK SYN,ACK -j DROP", True, 125),
        ("-p tcp -m tcp --dport 9999 -j DROP", False, None),
        ("-p tcp -m tcp ! --dport 9999 -j DROP", True, None),
        ("-s 127.0.0.1/32 -p tcp -j DROP", True, None),  # the listeners' answers
        (f"-s 127.0.0.1/32 -p tcp -m tcp {SYN} -j DROP", False, None),  # which are no SYNs
        ("-s 127.77.0.0/16 -p tcp -m tcp --dport 7784 -j DROP", True, 125),
        ("-d 127.2.0.0/16 -j DROP", False, None),
        ("-i eth0 -j DROP", False, None),
        ('-m comment --comment "-p udp" -j DROP', True, None),
    ],
)
def test_a_rule_of_iptables(spec: str, possible: bool, reach: int | None) -> None:
    match = match_of(iptables_options(spec), TRAFFIC)
    assert (match.possible, match.reach) == (possible, reach)


@pytest.mark.parametrize(
    ("left", "right", "possible"),
    [
        (PORT, 7784, True),
        (PORT, {"range": [7784, 7790]}, True),
        (PORT, 9999, False),
        (PORT, {"set": [9999]}, True),  # not understood
        ({"payload": {"protocol": "udp", "field": "dport"}}, 7784, False),
        ({"meta": {"key": "l4proto"}}, "icmp", False),
        ({"meta": {"key": "iifname"}}, "eth0", False),
        ({"payload": {"protocol": "ip", "field": "daddr"}}, {"prefix": {"addr": "10.0.0.0", "len": 8}}, False),
        ({"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["syn", "ack"]]}, "syn", True),
        ("anything", None, True),
    ],
)
def test_a_rule_of_nft(left: object, right: object, possible: bool) -> None:
    match = {"match": {"op": "==", "left": left, "right": right}}
    assert match_of(nft_options([match]), TRAFFIC).possible is possible
    assert match_of(nft_options([{"match": match["match"] | {"op": "!="}}]), TRAFFIC).possible


def nft(protocol: str, packets: int) -> Snapshot:
    match = {"op": "==", "left": {"payload": {"protocol": protocol, "field": "dport"}}, "right": 7784}
    expressions: list[dict[str, Any]] = [
        {"match": match},
        {"counter": {"packets": packets, "bytes": 0}},
        {"drop": None},
    ]
    rule = {"family": "ip", "table": "t", "chain": "c", "handle": 3, "expr": expressions}
    return Snapshot({"ruleset.json": json.dumps({"nftables": [{"rule": rule}]})})


def test_a_counted_rule_of_nft_for_other_packets_is_no_evidence() -> None:
    assert rule_rises(nft("udp", 0), nft("udp", 900), TRAFFIC) == ()
    (rise,) = rule_rises(nft("tcp", 0), nft("tcp", 250), TRAFFIC)
    assert (rise.packets, rise.reach) == (250, 125)


def test_where_a_rule_changes_the_loads_addresses_they_say_nothing() -> None:
    def save(packets: int, nat: str) -> Snapshot:
        lines = ["*nat", nat, "COMMIT", "*filter", f"[{packets}:0] -A INPUT -d 127.2.0.0/16 -j DROP", "COMMIT"]
        return Snapshot({"iptables-legacy-save": "\n".join(lines)})

    elsewhere, here = "[0:0] -A POSTROUTING -o eth0 -j MASQUERADE", "[0:0] -A OUTPUT -p tcp -j DNAT --to 127.2.0.1"
    assert rule_rises(save(0, elsewhere), save(9, elsewhere), TRAFFIC) == ()
    assert [one.packets for one in rule_rises(save(0, here), save(9, here), TRAFFIC)] == [9]


@pytest.mark.parametrize(("nat", "accepted"), [("-o eth0", 4), ("-o lo", 10), ("-p udp", 4)])
def test_strangers_are_the_loads_own_only_where_a_rule_changes_its_addresses(nat: str, accepted: int) -> None:
    progress = {"attempted": 10, "held": 10, "failed": 0, "lost": 0, "accepted": 4}
    load = LOOPBACK | {"connections": 10, "progress": progress, "servers": [{"errors": {}, "strangers": 9}]}
    rules = Snapshot({"iptables-legacy-save": f"*nat\n[0:0] -A POSTROUTING {nat} -j MASQUERADE\nCOMMIT"})
    connections = measure(Evidence(load=load, before=rules)).connections
    assert connections is not None
    assert connections["accepted"] == accepted
