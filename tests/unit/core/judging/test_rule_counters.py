"""Rules that took packets, by their own counters: text as iptables-save -c and nft -j print it."""

from __future__ import annotations

import ipaddress
import json

import pytest

from lab.core.evidence import Snapshot
from lab.core.judging.rule_counters import RuleRise, rule_rises
from lab.core.judging.traffic import Traffic

TRAFFIC = Traffic(
    protocols=frozenset({"tcp"}),
    networks=(ipaddress.IPv4Network("127.0.0.0/8"),),
    ports=frozenset({7777, 7778}),
    loopback=True,
)


def save(*rules: str, policy: str = ":INPUT ACCEPT [0:0]") -> Snapshot:
    return Snapshot({"iptables-nft-save": "\n".join(["# Generated", "*filter", policy, *rules, "COMMIT", ""])})


def rises(before: Snapshot, after: Snapshot) -> list[tuple[str, int]]:
    return [(rise.verdict, rise.packets) for rise in rule_rises(before, after, TRAFFIC)]


def test_a_rule_is_named_with_what_it_took() -> None:
    rule = "-A INPUT -p tcp -m tcp --dport 7777:7778 -j DROP"
    found = rule_rises(save(f"[5:300] {rule}"), save(f"[755:45300] {rule}"), TRAFFIC)
    assert found == (RuleRise("iptables-nft filter INPUT", rule, "drop", 750),)


def test_rules_alike_are_added_up_and_the_largest_comes_first() -> None:
    few, many = "-A INPUT -p tcp -j REJECT --reject-with tcp-reset", "-A INPUT -j DROP"
    before = save(f"[1:60] {few}", f"[2:120] {many}", f"[3:180] {many}")
    after = save(f"[6:60] {few}", f"[22:120] {many}", f"[43:180] {many}")
    assert rises(before, after) == [("drop", 60), ("reject", 5)]


def test_a_rule_that_came_or_was_made_again_began_at_zero() -> None:
    rule = "-A INPUT -j DROP"
    assert rises(save(), save(f"[7:420] {rule}")) == [("drop", 7)]
    assert rises(save(f"[90:5400] {rule}"), save(f"[7:420] {rule}")) == [("drop", 7)]
    assert rises(save(f"[90:5400] {rule}"), save()) == []


def test_a_policy_that_drops_counts() -> None:
    before, after = (save(policy=f":INPUT DROP [{count}:9]") for count in (1, 31))
    assert rises(before, after) == [("policy", 30)]


@pytest.mark.parametrize(
    "spec",
    [
        "-p udp -j DROP",
        "-p tcp -m tcp --dport 9999 -j DROP",
        "-p tcp -m tcp --dport 1:7776 -j DROP",
        "-s 192.0.2.0/24 -j DROP",
        "-d 198.51.100.2/32 -j DROP",
        "-i eth0 -j DROP",
        "-j ACCEPT",
        '-m comment --comment "-j DROP" -j ACCEPT',
    ],
)
def test_what_cannot_take_the_loads_packets_is_left_out(spec: str) -> None:
    assert rises(save(), save(f"[9:9] -A INPUT {spec}")) == []


@pytest.mark.parametrize(
    "spec",
    [
        "-j DROP",
        "-p tcp -m tcp --dport 7770:7780 -j DROP",
        "-p tcp -m tcp --sport 7777 -j DROP",
        "! -p udp -j DROP",
        "! -s 192.0.2.1/32 -j DROP",
        "-s 127.0.0.1/32 -i lo -p tcp -m tcp --dport 40000:50000 -j DROP",
        "-p tcp -m multiport --dports 1,2 -j DROP",
        "-j NFQUEUE --queue-num 5",
    ],
)
def test_what_may_take_them_counts(spec: str) -> None:
    assert rises(save(), save(f"[9:9] -A INPUT {spec}")) == [("drop", 9)]


def ruleset(*rules: object) -> Snapshot:
    return Snapshot({"ruleset.json": "# Warning: managed\n" + json.dumps({"nftables": list(rules)})})


def nft(packets: int | None, *verdict: dict[str, object], family: str = "inet", table: str = "t") -> object:
    counter: list[object] = [] if packets is None else [{"counter": {"packets": packets, "bytes": 1}}]
    return {"rule": {"family": family, "table": table, "chain": "c", "handle": 7, "expr": [*counter, *verdict]}}


def test_rules_of_nftables_count_where_they_have_a_counter() -> None:
    before = ruleset(nft(3, {"drop": None}), nft(None, {"drop": None}), nft(5, {"accept": None}))
    after = ruleset(nft(9, {"drop": None}), nft(None, {"drop": None}), nft(99, {"accept": None}))
    (found,) = rule_rises(before, after, TRAFFIC)
    assert (found.where, found.rule, found.packets) == ("nft inet t c", "the rule with handle 7", 6)


def test_a_rule_of_iptables_nft_counts_once() -> None:
    rule = "-A INPUT -j DROP"
    before = Snapshot(
        {**save(f"[0:0] {rule}").texts, **ruleset(nft(0, {"drop": None}, family="ip", table="filter")).texts}
    )
    after = Snapshot(
        {**save(f"[8:9] {rule}").texts, **ruleset(nft(8, {"drop": None}, family="ip", table="filter")).texts}
    )
    assert rises(before, after) == [("drop", 8)]


@pytest.mark.parametrize("text", ["", "{", '{"nftables": 7}', '{"nftables": [7, {"rule": 3}]}', "[" * 100_000])
def test_a_ruleset_that_cannot_be_read_has_no_rules(text: str) -> None:
    assert rule_rises(Snapshot({}), Snapshot({"ruleset.json": text}), TRAFFIC) == ()
    assert rule_rises(None, Snapshot({}), TRAFFIC) == ()
