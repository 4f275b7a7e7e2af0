"""`iptables -S` and `iptables -L`: the same holders as iptables-save has, as far as they show them."""

from __future__ import annotations

import pytest

from lab.core.holders.find import holders
from lab.core.holders.iptables_listing import is_listing, listed_tables
from lab.core.holders.model import LEGACY, Recorded

SPECIFICATION = """\
# Warning: iptables-legacy tables present, use iptables-legacy to see them
-P INPUT ACCEPT -c 10 800
-P FORWARD DROP
-P OUTPUT ACCEPT
-N DOCKER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -c 5 300 -j ACCEPT
-A INPUT -m comment --comment "-m state" -j ACCEPT
-P PREROUTING ACCEPT
-P INPUT ACCEPT
-P OUTPUT ACCEPT
-P POSTROUTING ACCEPT
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
"""
VERBOSE = """\
Chain INPUT (policy ACCEPT 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination
    0     0 ACCEPT     all  --  *      *       0.0.0.0/0            0.0.0.0/0            ctstate RELATED /* state NEW */
1203K   1G            tcp  --  lo     *       0.0.0.0/0            10.0.0.0/8           tcp dpt:22 state NEW
    0     0 LOG        all  --  *      *       0.0.0.0/0            0.0.0.0/0            LOG prefix "ctstate X "
    0     0 fw-chain   all  --  *      *       0.0.0.0/0            0.0.0.0/0

Chain FORWARD (policy DROP 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination

Chain OUTPUT (policy ACCEPT 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination

Chain fw-chain (1 references)
 pkts bytes target     prot opt in     out     source               destination
    0     0 CONNMARK   all  --  *      *       0.0.0.0/0            0.0.0.0/0            CONNMARK save
    0     0 RETURN     all  --  *      *       0.0.0.0/0            0.0.0.0/0            #conn src/32 > 10
Chain PREROUTING (policy ACCEPT)
target     prot opt source               destination
DNAT       tcp  --  anywhere             anywhere             tcp dpt:http to:10.0.0.2:80
Chain OUTPUT (policy ACCEPT)
num  target     prot opt source               destination
1    CT         all      ::/0                 ::/0                 CT notrack
2    CT         all      ::/0                 ::/0                 CT zone 1
Chain POSTROUTING (policy ACCEPT)
target     prot opt source               destination
MASQUERADE  all  --  10.0.0.0/24          anywhere
"""


def found(text: str) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(one.table, one.chain, one.depends_on) for one in holders(Recorded((6, 1), iptables_legacy=text))]


def test_a_specification_names_its_rules_and_their_removal() -> None:
    first, second = holders(Recorded((6, 1), iptables_legacy=SPECIFICATION))
    assert (first.table, first.chain, first.depends_on) == ("filter", "FORWARD", ("-m conntrack",))
    assert " ".join(first.remove) == (
        "iptables-legacy -t filter -D FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    )
    assert (second.table, second.depends_on) == ("nat", ("-j MASQUERADE",))


def test_a_listing_names_what_its_rules_need_and_no_words_of_others() -> None:
    assert found(VERBOSE) == [
        ("filter", "INPUT", ("-m conntrack",)),
        ("filter", "INPUT", ("-m state",)),
        ("filter", "fw-chain", ("-j CONNMARK",)),
        ("filter", "fw-chain", ("-m connlimit",)),
        ("nat", "PREROUTING", ("-j DNAT",)),
        ("nat", "OUTPUT", ("-j CT",)),
        ("nat", "POSTROUTING", ("-j MASQUERADE",)),
    ]


def test_a_rule_of_a_listing_has_no_command_that_could_remove_another() -> None:
    assert not any(one.remove for one in holders(Recorded((6, 1), iptables_legacy=VERBOSE)))


def test_a_named_table_is_that_table() -> None:
    text = "*raw\nChain PREROUTING (policy ACCEPT)\ntarget prot opt source destination\n" * 2
    assert [table.name for table in listed_tables(text, LEGACY, "ip")] == ["raw", "raw"]


def test_what_jumps_where_is_known() -> None:
    reachable = {one.chain: one.reachable for one in holders(Recorded((6, 1), iptables_legacy=VERBOSE))}
    assert reachable["fw-chain"] is True


@pytest.mark.parametrize("text", ["", "*nat\nCOMMIT\n", "-A INPUT -j ACCEPT\n", "table ip nat {\n}\n"])
def test_other_texts_are_no_listing(text: str) -> None:
    assert not is_listing(text)


@pytest.mark.parametrize(
    "text",
    [
        "-P INPUT ACCEPT\nhello\n",
        "Chain INPUT (policy ACCEPT)\ntarget prot opt source destination\nno rule at all\n",
        "Chain INPUT (policy ACCEPT)\nACCEPT all -- anywhere anywhere\n",
    ],
)
def test_a_line_of_neither_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"line [23]"):
        listed_tables(text, LEGACY, "ip")
