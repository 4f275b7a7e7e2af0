"""Rules with notrack: all packets, some, or not to be told."""

from __future__ import annotations

import json

import pytest

from tests.unit.core.inspecting.hosts import MASQUERADE, look, sysctl

ALL = "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING {}\n-A OUTPUT {}\nCOMMIT\n"


@pytest.mark.parametrize(
    ("rules", "answer"),
    [
        (("-j CT --notrack", "-j CT --notrack"), False),
        (("-j NOTRACK", "-j NOTRACK"), False),
        (("-j CT --notrack", "-o lo -j CT --notrack"), True),
        (("-p tcp -j CT --notrack", "-p tcp -j CT --notrack"), True),
    ],
)
def test_only_rules_without_conditions_at_both_hooks_keep_all_out(rules: tuple[str, str], answer: bool) -> None:
    found = look(own={"iptables-legacy-save": ALL.format(*rules) + MASQUERADE}).attached
    assert found.answer is answer
    assert found.proofs[-1].source == "notrack"


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        (("-p tcp -j CT --notrack", "-p tcp -m tcp -j NOTRACK"), ("tcp",)),
        (("-p tcp -j CT --notrack", "-p udp -j CT --notrack"), ()),
        (("-p tcp --dport 80 -j CT --notrack", "-p tcp -j CT --notrack"), ()),
        (("-i lo -j ACCEPT\n-A PREROUTING -p tcp -j CT --notrack", "-p tcp -j CT --notrack"), ()),
        (
            ("-p udp -j NOTRACK\n-A PREROUTING -p tcp -j NOTRACK", "-p udp -j NOTRACK\n-A OUTPUT -p tcp -j NOTRACK"),
            ("tcp", "udp"),
        ),
    ],
)
def test_a_protocol_of_which_every_packet_is_kept_out(rules: tuple[str, str], kept: tuple[str, ...]) -> None:
    found = look(own={"iptables-legacy-save": ALL.format(*rules) + MASQUERADE}).attached
    assert (found.answer, found.kept_out) == (True, kept)
    assert all(name in found.proofs[-1].evidence for name in kept)


def test_the_other_family_stays() -> None:
    text = {
        "iptables-legacy-save": ALL.format("-j NOTRACK", "-j NOTRACK") + MASQUERADE,
        "ip6tables-legacy-save": MASQUERADE,
    }
    found = look(own=text).attached
    assert (found.answer, found.families) == (True, ("ip6",))


CHAIN = "\tchain {name} {{\n\t\ttype filter hook {name} priority {priority}; policy accept;\n\t\t{rule}\n\t}}\n"
STATE = "\tchain state {\n\t\tct state new accept\n\t}\n"


@pytest.mark.parametrize(
    ("family", "priorities", "rule", "answer", "families"),
    [
        ("ip", ("raw", "raw"), "notrack", False, ()),
        ("ip", ("-300", "raw + 10"), "counter packets 5 bytes 300 notrack", False, ()),
        ("inet", ("raw", "raw"), "notrack", False, ()),
        ("ip", ("raw", "filter"), "notrack", True, ("ip",)),  # too late at output: there it is tracked
        ("ip", ("raw", "-200"), "notrack", True, ("ip",)),
        ("ip", ("raw", "raw"), "meta l4proto udp notrack", True, ("ip",)),
        ("ip6", ("raw", "raw"), "notrack", False, ()),
        ("ip", ("raw", "raw"), "ip protocol tcp counter packets 1 bytes 60 notrack", True, ("ip",)),
        ("ip", ("$early", "$early"), "notrack", None, ("ip",)),
    ],
)
def test_chains_of_nft_before_conntrack_keep_all_out(
    family: str, priorities: tuple[str, str], rule: str, answer: bool | None, families: tuple[str, ...]
) -> None:
    chains = (
        CHAIN.format(name=name, priority=priority, rule=rule)
        for name, priority in zip(("prerouting", "output"), priorities, strict=True)
    )
    found = look(own={"ruleset.nft": f"table {family} t {{\n{''.join(chains)}{STATE}}}\n"}).attached
    assert (found.answer, found.families) == (answer, families)
    assert found.proofs[-1].source == "notrack"


def test_a_chain_of_nft_in_json_says_where_it_is() -> None:
    chains = [
        {"chain": {"family": "ip", "table": "t", "name": hook, "type": "filter", "hook": hook, "prio": -300}}
        for hook in ("prerouting", "output")
    ]
    rules = [
        {"rule": {"family": "ip", "table": "t", "chain": hook, "handle": number, "expr": [{"notrack": None}]}}
        for number, hook in enumerate(("prerouting", "output"), start=3)
    ]
    state = {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}}
    used = {"rule": {"family": "ip", "table": "t", "chain": "prerouting", "handle": 9, "expr": [state]}}
    items = [{"table": {"family": "ip", "name": "t", "handle": 1}}, *chains, *rules, used]
    assert look(own={"ruleset.json": json.dumps({"nftables": items})}).attached.answer is False


def test_chains_of_two_tables_keep_all_out_together_and_dormant_ones_nothing() -> None:
    text = "".join(
        f"table inet {name} {{\n{CHAIN.format(name=name, priority='raw', rule='notrack')}{STATE}}}\n"
        for name in ("prerouting", "output")
    )
    assert look(own={"ruleset.nft": text}).attached.answer is False
    dormant = text.replace("table inet output {", "table inet output {\n\tflags dormant")
    assert look(own={"ruleset.nft": dormant}).attached.answer is True


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ({}, {"sysctl": sysctl(0), "later/sysctl": sysctl(5), "later/at": "12.0\n"}),  # entries come all the same
        ({"modules": "xt_REDIRECT 1 3 - Live 0x0\n"}, {}),  # rules that were not seen, perhaps of IPv6
        ({"modules.builtin": "xt_conntrack\n"}, {"ip6tables-legacy-save.error": "killed\n"}),
    ],
)
def test_what_is_kept_out_of_one_family_says_nothing_of_what_was_not_seen(
    host: dict[str, str], own: dict[str, str]
) -> None:
    rules = {"iptables-legacy-save": ALL.format("-j NOTRACK", "-j NOTRACK") + MASQUERADE}
    assert look(host, {**rules, **own}).attached.answer is None
