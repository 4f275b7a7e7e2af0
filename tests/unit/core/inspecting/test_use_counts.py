"""Use counts of modules against rules that were seen."""

from __future__ import annotations

import json

from lab.core.holders.find import tables_and_holders
from lab.core.holders.model import Recorded, Table
from lab.core.inspecting.use_counts import nothing_uses, uses_of
from lab.core.kernel.conntrack import modules

RULES = """\
*filter
-A INPUT -m conntrack --ctstate NEW -m connmark --mark 1 -j ACCEPT
-A INPUT -m state --state NEW -j CONNMARK --set-mark 1
COMMIT
*raw
-A OUTPUT -j CT --notrack
COMMIT
"""
NFT = "table inet t {\nchain c {\nct state new ct mark set ct mark accept\nct count over 3 drop\nmasquerade\n}\n}\n"
LOADED = (
    "xt_conntrack 1 2 - Live 0x0\nxt_connmark 1 2 - Live 0x0\nxt_CT 1 1 - Live 0x0\nxt_nat 1 3 - Live 0x0\n"
    "nft_ct 1 3 - Live 0x0\nnft_connlimit 1 1 - Live 0x0\nnft_masq 1 1 - Live 0x0\n"
    "xt_ndpi 1 4 - Live 0x0\nnf_conntrack 1 9 xt_ndpi,xt_conntrack, Live 0x0\n"
)


def tables() -> tuple[Table, ...]:
    return tables_and_holders(Recorded((6, 1), iptables_legacy=RULES, nft_text=NFT))[0]


def test_each_match_target_and_expression_counts_once() -> None:
    found = {one.modules: (one.uses, one.seen) for one in uses_of(modules(LOADED), tables())}
    assert found == {
        ("xt_conntrack",): (2, 2),
        ("xt_connmark",): (2, 2),
        ("xt_CT",): (1, 1),
        ("xt_nat",): (3, 0),
        ("nft_ct",): (3, 3),
        ("nft_connlimit",): (1, 1),
        ("nft_masq",): (1, 1),
        ("xt_ndpi",): (4, 0),
    }


def test_what_is_hidden_is_said_in_words() -> None:
    (nat,) = (one for one in uses_of(modules(LOADED), tables()) if one.modules == ("xt_nat",))
    assert (nat.hidden, str(nat)) == (3, "xt_nat has 3 uses, 0 of them seen in rules")


def test_a_module_from_outside_the_tree_proves_nothing_absent() -> None:
    found = uses_of(modules("xt_ndpi 1 1 - Live 0x0\nnf_conntrack 1 1 xt_ndpi, Live 0x0\n"), ())
    assert [(one.modules, one.certain) for one in found] == [(("xt_ndpi",), False)]
    assert not nothing_uses(found, "legacy")


def test_a_count_that_is_not_known_proves_nothing() -> None:
    assert not nothing_uses(uses_of(modules("xt_nat 1 - - Live 0x0\n"), ()), "legacy")
    assert nothing_uses(uses_of(modules("xt_nat 1 0 - Live 0x0\n"), ()), "legacy")


def test_a_rule_of_nft_is_none_of_the_legacy_backend() -> None:
    found = uses_of(modules("nft_ct 1 3 - Live 0x0\n"), ())
    assert nothing_uses(found, "legacy")
    assert not nothing_uses(found, "nft")


def test_notrack_of_nft_uses_the_module_and_an_object_only_once() -> None:
    rules = 'udp dport 5060 ct helper set "sip"\nnotrack\nudp dport 53 notrack comment "a"\nct state new accept\n'
    objects = 'ct helper sip {\ntype "sip" protocol udp\nl3proto ip\n}\n'
    text = f"table inet t {{\n{objects}chain c {{\n{rules}}}\n}}\n"
    seen = tables_and_holders(Recorded((6, 1), nft_text=text))[0]
    (found,) = uses_of(modules("nft_ct 1 4 - Live 0x0\n"), seen)
    assert (found.uses, found.seen, found.hidden) == (4, 4, 0)


def test_notrack_of_nft_as_json() -> None:
    items = [
        {"table": {"family": "ip", "name": "t", "handle": 1}},
        {"chain": {"family": "ip", "table": "t", "name": "c", "handle": 1}},
        {"rule": {"family": "ip", "table": "t", "chain": "c", "handle": 2, "expr": [{"notrack": None}]}},
    ]
    seen = tables_and_holders(Recorded((6, 1), nft_json=json.dumps({"nftables": items})))[0]
    assert not any(one.hidden for one in uses_of(modules("nft_ct 1 1 - Live 0x0\n"), seen))
