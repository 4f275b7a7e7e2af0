"""What holds conntrack beside plain rules, and rules that look like something else. Texts as their programs printed."""

from __future__ import annotations

from typing import Any

import pytest

from lab.core.holders.find import held_families, holders
from lab.core.holders.model import Holder, Recorded


def found(kernel: tuple[int, ...] = (6, 1), **texts: Any) -> tuple[Holder, ...]:
    return holders(Recorded(kernel, **texts))


def only(**texts: Any) -> Holder:
    (one,) = holders(Recorded((6, 1), **texts))
    return one


def saved(*rules: str, table: str = "filter", policy: str = "ACCEPT") -> str:
    return "\n".join((f"*{table}", f":INPUT {policy} [0:0]", ":OUTPUT ACCEPT [0:0]", *rules, "COMMIT", ""))


# -- words of rules ---------------------------------------------------------------------------------------------------


def test_a_chain_whose_name_begins_like_a_set_is_a_chain() -> None:
    one = only(iptables_legacy=saved(":@x - [0:0]", "-A @x -m state --state NEW -j ACCEPT", "-A INPUT -j @x"))
    assert (one.chain, one.reachable) == ("@x", True)


def test_nothing_is_deleted_for_a_set_of_a_chains_name() -> None:
    body = "\tset x {\n\t\ttype ipv4_addr\n\t\telements = { 192.0.2.1 ct count over 5 }\n\t}\n"
    body += "\tchain @x {\n\t\taccept # handle 3\n\t}\n\tchain c {\n\t\tjump @x # handle 4\n\t}\n"
    assert only(nft_text=f"table ip t {{\n{body}}}\n").remove == ("nft", "delete", "set", "ip", "t", "x")


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ("-j CT --notrack", False),
        ("-j NOTRACK", False),
        ("-j CT --zone 1 --notrack", False),
        ("-p icmp -m comment --comment --notrack -j CT --zone 1", True),
        ('-m comment --comment "a --notrack b" -j CT --zone 1', True),
        ("-i --notrack -j CT --zone 1", True),
        ("-j CT --helper --notrack", True),
        ('-m comment --comment "-m state" -j ACCEPT', False),
        ("-m comment --comment -m -m state --state NEW -j ACCEPT", True),
        ("-m recent --name -m -j ACCEPT", False),
        ('-m comment --comment "two\nlines -j SNAT" -m state --state NEW', True),
        ('-m comment --comment "two\n-A INPUT -j SNAT" -j ACCEPT', False),
        ('-m comment --comment "\\"" -m state --state NEW', True),
    ],
)
def test_words_are_split_first_and_options_read_then(rule: str, holds: bool) -> None:
    assert bool(found(iptables_legacy=saved(f"-A OUTPUT {rule}", table="raw"))) is holds


@pytest.mark.parametrize(
    "rule",
    ['-m comment --comment "open', '-i a"b -j ACCEPT', '-m comment --comment "a"b" -j CT', '-m comment --comment "a"b'],
)
def test_quotes_that_are_not_closed_are_unreadable(rule: str) -> None:
    with pytest.raises(ValueError, match="quotation mark"):
        found(iptables_nft=saved(f"-A OUTPUT {rule}"))


def test_a_quote_inside_of_a_comment_makes_the_text_of_nft_unreadable() -> None:
    rules = '\t\tcomment "a"b" accept # handle 3\n\t\tcomment "c"d" ct state new # handle 4\n'
    with pytest.raises(ValueError, match="quotation mark"):
        found(nft_text=f"table ip t {{\n\tchain c {{\n{rules}\t}}\n}}\n")


# -- tables with an owner, extensions ---------------------------------------------------------------------------------

OWNED = """table inet firewalld {{ # {handle}progname firewalld
	flags owner,persist

	ct helper helper-tftp-udp {{
		type "tftp" protocol udp
		l3proto inet
	}}

	chain filter_INPUT {{
		type filter hook input priority filter + 10; policy accept;
		ct state {{ established, related }} accept
		iifname "lo" accept
		ct state invalid drop
		reject with icmpx admin-prohibited
	}}
}}
"""


@pytest.mark.parametrize("handle", ["", "handle 2 "])
def test_a_table_with_an_owner_goes_when_that_is_stopped(handle: str) -> None:
    one, invalid, helper = found(nft_text=OWNED.format(handle=handle))
    assert (one.depends_on, invalid.depends_on, helper.depends_on) == (
        ("ct state",),
        ("ct state",),
        ("ct helper object",),
    )
    for holder in (one, invalid, helper):
        assert (holder.owner, holder.remove) == ("firewalld", ())
        assert holder.advice == "stop firewalld, which owns the table: nobody else may change it"
    assert [holder.part_of_firewall for holder in (one, invalid)] == [True, False]


def test_json_alone_knows_that_there_is_an_owner() -> None:
    match = '{"match": {"left": {"ct": {"key": "state"}}}}'
    rule = f'{{"rule": {{"family": "ip", "table": "t", "chain": "c", "handle": 3, "expr": [{match}]}}}}'
    one = only(nft_json=f'{{"nftables": [{{"table": {{"family": "ip", "name": "t", "flags": ["owner"]}}}}, {rule}]}}')
    assert (one.owner, one.remove) == ("a program that was not recorded", ())


def test_extensions_of_an_nft_without_their_library() -> None:
    text = """table ip filter {
	chain FORWARD {
		oifname "eth0" counter packets 3 bytes 180 # xt_MASQUERADE
		oifname "docker0" # xt_conntrack counter packets 0 bytes 0 accept
		iifname "br0" meta l4proto udp # xt_udp counter packets 518 bytes 34994 accept
		iifname "# xt_conntrack" accept
	}
}
"""
    assert [one.depends_on for one in found(nft_text=text)] == [("-j MASQUERADE",), ("-m conntrack",)]


def test_modules_from_outside_the_kernels_tree_may_hold_and_prove_nothing() -> None:
    rules = found(
        iptables_legacy=saved("-A INPUT -p udp -j FULLCONENAT", "-A INPUT -m ndpi --proto bittorrent -j DROP"),
        nft_text='table inet fw4 {\n\tchain srcnat_wan {\n\t\tmeta nfproto ipv4 fullcone comment "!fw4"\n\t}\n}\n',
    )
    assert [one.depends_on for one in rules] == [("-j FULLCONENAT",), ("-m ndpi",), ("fullcone",)]
    assert not any(one.certain for one in rules)
    assert held_families(rules) == frozenset()
    assert only(iptables_legacy=saved("-A INPUT -m ndpi --proto x -m state --state NEW -j DROP")).certain


# -- IPVS, Open vSwitch, tc -------------------------------------------------------------------------------------------

IP_VS = """IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
{protocol}  {address}:{port} rr{space}
  -> C0000202:0015      {forward}    1      0          0{space}
FWM  00000001 rr{space}
  -> C0000203:0000      Masq    1      0          0{space}
"""
V6 = "[2001:0db8:0000:0000:0000:0000:0000:0001]"


@pytest.mark.parametrize(
    ("address", "port", "forward", "remove", "families"),
    [
        ("C0000201", "0015", "Masq", "ipvsadm -D -t 192.0.2.1:21", ("ip",)),
        (V6, "0015", "Masq", "ipvsadm -D -t [2001:db8::1]:21", ("ip6",)),
        ("C0000201", "0015", "Route", None, ()),
        ("C0000201", "0050", "Masq", None, ()),
    ],
)
def test_a_service_for_ftp_with_nat(
    address: str, port: str, forward: str, remove: str | None, families: tuple[str, ...]
) -> None:
    text = IP_VS.format(protocol="TCP", address=address, port=port, forward=forward, space=" ")
    services = found(ip_vs=text)
    assert [" ".join(one.remove) for one in services] == ([remove] if remove else [])
    assert held_families(services) == frozenset(families)


def test_what_is_not_of_ip_vs_is_refused() -> None:
    with pytest.raises(ValueError, match="ip_vs line 1"):
        found(ip_vs="TCP nonsense\n")


SWITCH = "openvswitch 1 {uses} {users} Live 0x0\nvport_vxlan 1 0 - Live 0x0\nnf_conntrack 1 1 openvswitch, Live 0x0\n"


@pytest.mark.parametrize(
    ("kernel", "holds"), [((4, 17), False), ((4, 18), True), ((6, 11, 9), True), ((6, 12), False), ((7, 2), False)]
)
def test_open_vswitch_holds_by_being_loaded(kernel: tuple[int, ...], holds: bool) -> None:
    modules = found(kernel, modules=SWITCH.format(uses=0, users="-"))
    assert [one.rule for one in modules] == ["openvswitch"] * holds
    assert held_families(modules) == (frozenset({"ip", "ip6"}) if holds else frozenset())


def test_open_vswitch_is_unloaded_after_its_ports_and_without_bridges() -> None:
    assert only(modules=SWITCH.format(uses=1, users="vport_vxlan,")).remove == (
        *("modprobe", "-r"),
        *("vport_vxlan", "openvswitch"),
    )
    with_bridges = only(modules=SWITCH.format(uses=3, users="vport_vxlan,"))
    assert (with_bridges.remove, with_bridges.advice) == ((), "remove its bridges, then run modprobe -r openvswitch")


FILTERS = """dev lo ingress
dev lo egress
filter protocol ip pref 1 flower chain 0
filter protocol ip pref 1 flower chain 0 handle 0x1
  eth_type ipv4
  ip_proto tcp
  ct_state -trk
  not_in_hw
\taction order 1: ct commit zone 0 pipe
\t index 1 ref 1 bind 1

dev eth0 ingress
filter protocol all pref 49152 matchall chain 2
filter protocol all pref 49152 matchall chain 2 handle 0x1
  not_in_hw
\taction order 1: ctinfo zone 0 pipe
\t index 1 ref 1 bind 1
\taction order 2: ct clear pipe
"""


def test_filters_of_tc_track_without_hooks() -> None:
    first, second = found(tc_filters=FILTERS)
    assert " ".join(first.remove) == "tc filter del dev lo egress protocol ip pref 1 handle 0x1 flower"
    assert (
        first.rule
        == "flower protocol ip pref 1 eth_type ipv4 ip_proto tcp ct_state -trk not_in_hw action ct commit zone 0 pipe"
    )
    assert (
        " ".join(second.remove) == "tc filter del dev eth0 ingress chain 2 protocol all pref 49152 handle 0x1 matchall"
    )
    assert (first.families, second.families, first.hooks) == (("ip",), ("ip", "ip6"), False)
    assert held_families((first, second)) == frozenset()


def test_flows_of_open_vswitch_track_without_hooks() -> None:
    match = "recirc_id(0),in_port(2),eth(),eth_type(0x0800),ipv4(frag=no)"
    head = f"{match}, packets:5, bytes:490, used:0.5s"
    text = f"{head}, actions:ct(commit,zone=1),recirc(0x1)\n{head}, actions:3\n{head}, actions:ct_clear,3\n"
    one = only(ovs_flows=text)
    assert (
        one.rule
        == "recirc_id(0),in_port(2),eth(),eth_type(0x0800),ipv4(frag=no), actions:ct(commit,zone=1),recirc(0x1)"
    )
    assert (one.families, one.hooks, one.remove) == (("ip",), False, ())


# -- firewalls --------------------------------------------------------------------------------------------------------

ACCEPT = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
USER = "-A U -m conntrack --ctstate ESTABLISHED -j ACCEPT"


@pytest.mark.parametrize(
    ("policy", "rules", "firewall"),
    [
        ("DROP", (ACCEPT,), True),
        ("ACCEPT", (ACCEPT,), False),
        ("ACCEPT", (ACCEPT, "-A INPUT -j REJECT"), True),
        ("ACCEPT", ("-A INPUT -s 192.0.2.1/32 -j DROP", ACCEPT), False),
        ("ACCEPT", (":R - [0:0]", ACCEPT, "-A INPUT -j R", "-A R -j DROP"), True),
        ("DROP", (":U - [0:0]", "-A INPUT -j U", USER), True),
        ("ACCEPT", (":U - [0:0]", "-A INPUT -j U", "-A INPUT -j DROP", USER), True),
        ("ACCEPT", (":U - [0:0]", "-A INPUT -j DROP", "-A INPUT -j U", USER), False),
        ("DROP", (":U - [0:0]", USER), False),
        ("DROP", (":A - [0:0]", "-A INPUT -m state --state ESTABLISHED -j A", "-A A -j ACCEPT"), True),
        ("DROP", ("-A INPUT -m conntrack --ctstate INVALID -j DROP",), False),
    ],
)
def test_what_accepts_before_a_drop_is_part_of_a_firewall(policy: str, rules: tuple[str, ...], firewall: bool) -> None:
    assert only(iptables_legacy=saved(*rules, policy=policy)).part_of_firewall is firewall


NFT_FIREWALL = """table inet filter {{
	chain input {{
		type filter hook input priority filter; policy {policy};
		{rule} # handle 4
		{more} # handle 5
	}}
	chain last {{
		reject # handle 6
	}}
}}
"""


@pytest.mark.parametrize(
    ("policy", "rule", "more", "firewall"),
    [
        ("drop", "ct state established,related accept", "counter", True),
        ("accept", "ct state established,related accept", "counter", False),
        ("accept", "ct state established accept", "jump last", True),
        ("accept", "ct state established accept", 'iifname "drop"', False),
        ("drop", "ct state vmap { established : accept, invalid : drop }", "counter", True),
    ],
)
def test_a_firewall_of_nftables_in_text(policy: str, rule: str, more: str, firewall: bool) -> None:
    assert only(nft_text=NFT_FIREWALL.format(policy=policy, rule=rule, more=more)).part_of_firewall is firewall


@pytest.mark.parametrize(("policy", "firewall"), [("drop", True), ("accept", False)])
def test_a_firewall_of_nftables_in_json(policy: str, firewall: bool) -> None:
    chain = f'{{"chain": {{"family": "ip", "table": "t", "name": "c", "hook": "input", "policy": "{policy}"}}}}'
    match = '{"match": {"left": {"ct": {"key": "state"}}, "right": "established"}}, {"accept": null}'
    rule = f'{{"rule": {{"family": "ip", "table": "t", "chain": "c", "handle": 3, "expr": [{match}]}}}}'
    text = f'{{"nftables": [{{"table": {{"family": "ip", "name": "t"}}}}, {chain}, {rule}]}}'
    assert only(nft_json=text).part_of_firewall is firewall
