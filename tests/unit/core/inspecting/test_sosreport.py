"""A sosreport's files: which are wanted, and what of it is known."""

from __future__ import annotations

import pytest

from lab.core.errors import ScenarioError
from lab.core.inspecting.inspection import Look, inspect
from lab.core.inspecting.sosreport import sosreport_record, wanted

LIST = "Chain POSTROUTING (policy ACCEPT 0 packets, 0 bytes)\n pkts bytes target prot opt in out source destination\n"
RULE = "0 0 MASQUERADE  all  --  *      eth0    0.0.0.0/0            0.0.0.0/0\n"
BASE = {
    "sos_commands/kernel/uname_-a": "Linux web1 5.14.0-427.el9.x86_64 #1 SMP x86_64 GNU/Linux\n",
    "proc/modules": "nf_tables 1 1 - Live 0x0\nip_tables 1 0 - Live 0x0\n",
}
NFT = "sos_commands/firewall_tables/nft_-a_list_ruleset"
NAT = "sos_commands/firewall_tables/iptables_-t_nat_-nvL"


def look(**more: str) -> Look:
    return inspect(
        sosreport_record({f"sosreport-x/{path}": text for path, text in {**BASE, **more}.items()}, "x")
    ).looks[0]


@pytest.mark.parametrize(
    ("path", "is_wanted"),
    [
        ("sosreport-a/sos_commands/kernel/lsmod", True),
        ("sosreport-a/sos_commands/networking/ip6tables_-t_raw_-nvL", True),
        ("sosreport-a/sos_commands/networking/ip_netns_exec_blue_iptables-save", True),
        ("sosreport-a/sos_commands/networking/namespaces/blue/ip_netns_exec_blue_conntrack_-S", True),
        ("sosreport-a/proc/4711/net/ip_tables_names", True),
        ("sosreport-a/usr/lib/modprobe.d/a.conf", True),
        ("sosreport-a/sys/module/nf_conntrack/parameters/hashsize", True),
        ("sosreport-a/var/log/journal/x", False),
        ("sosreport-a/etc/shadow", False),
        ("sosreport-a/sos_commands/networking/ip_addr", False),
    ],
)
def test_only_what_says_something_is_read(path: str, is_wanted: bool) -> None:
    assert wanted(path) is is_wanted


def test_a_listing_is_of_the_backend_that_has_its_tables() -> None:
    in_nft = "table ip nat { # handle 1\n}\n"
    assert look(**{NAT: LIST + RULE}).attached.holders[0].backend == "iptables-legacy"
    assert look(**{NAT: LIST + RULE, NFT: in_nft}).attached.holders[0].backend == "iptables-nft"


def test_absent_is_unknown_and_never_none() -> None:
    found = look(**{NFT: ""})
    assert found.attached.answer is None
    assert any("legacy rules of IPv4" in gap.what for gap in found.attached.gaps)


def test_no_table_in_the_kernels_list_is_none() -> None:
    names = {"proc/9/net/ip_tables_names": "", "proc/9/net/ip6_tables_names": ""}
    assert look(**{NFT: "", **names}).attached.answer is False
    names["proc/9/net/ip_tables_names"] = "nat\n"
    found = look(**{NFT: "", **names})
    assert found.attached.answer is None
    assert "lists nat" in str(found.attached.gaps[0])


def test_a_program_that_failed_is_no_ruleset() -> None:
    assert look(**{NFT: "bash: nft: command not found\n"}).attached.answer is None
    assert look(**{NAT: "iptables v1.8: Permission denied\n", NFT: ""}).attached.answer is None


def test_what_is_built_in_is_not_absent_for_lack_of_a_module() -> None:
    with_config = {
        "proc/modules": "x 1 0 - Live 0x0\n",
        "boot/config-5.14.0": "CONFIG_IP_NF_IPTABLES=y\nCONFIG_NF_TABLES=y\n",
    }
    assert look(**with_config).attached.answer is None
    assert look(**{"proc/modules": "x 1 0 - Live 0x0\n"}).attached.answer is False


def test_a_report_of_nothing_is_said() -> None:
    with pytest.raises(ScenarioError, match="without any text"):
        sosreport_record({"sosreport-x/sos_commands/kernel/lsmod": ""}, "x")


# as a sosreport of Debian 12 has them: sos asked the other backend
LEGACY = {
    "proc/modules": (
        "nf_tables 303104 0 - Live 0x0\nnfnetlink 20480 1 nf_tables, Live 0x0\niptable_nat 16384 1 - Live 0x0\n"
        "xt_MASQUERADE 20480 {uses} - Live 0x0\nnf_nat 57344 2 iptable_nat,xt_MASQUERADE, Live 0x0\n"
        "nf_conntrack 188416 2 nf_nat,xt_MASQUERADE, Live 0x0\nip_tables 36864 1 iptable_nat, Live 0x0\n"
        "x_tables 61440 3 ip_tables,iptable_nat,xt_MASQUERADE, Live 0x0\n"
    ),
    "proc/132/net/ip_tables_names": "nat\n",
    "proc/slabinfo": (
        "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize>\nnet_namespace {others} 0 4224\n"
    ),
    "sos_commands/networking/nft_list_ruleset": "",
    "sos_commands/networking/iptables_-t_nat_-nvL": LIST,
}


def with_legacy(uses: int, others: int, **more: str) -> Look:
    texts = {path: text.format(uses=uses, others=others) for path, text in LEGACY.items()}
    return look(**{**texts, **more})


def test_modules_that_no_rule_uses_say_that_there_is_none() -> None:
    found = with_legacy(0, 0).attached
    assert found.answer is False
    assert "no module is in use for legacy rules of IPv4" in found.proofs[1].evidence
    assert with_legacy(0, 7).attached.answer is False


def test_where_conntrack_is_not_there_no_rule_needs_it() -> None:
    modules = {"proc/modules": "ip_tables 36864 1 iptable_filter, Live 0x0\niptable_filter 16384 1 - Live 0x0\n"}
    names = {"proc/9/net/ip_tables_names": "filter\n"}
    assert look(**modules, **names).attached.answer is None, "it may be built in"
    known = {"sys/module/ip_tables/refcnt": "1\n"}
    found = look(**modules, **names, **known).attached
    assert (found.answer, found.proofs[1].evidence[:16]) == (False, "conntrack is nei")
    built_in = {"sys/module/nf_conntrack/parameters/hashsize": "65536\n"}
    assert look(**modules, **names, **known, **built_in).attached.answer is None


def test_a_module_in_use_says_that_there_is_a_rule_where_there_is_one_namespace_only() -> None:
    found = with_legacy(1, 0).attached
    assert found.answer is True
    assert any("xt_MASQUERADE has 1 use, 0 of them seen in rules" in proof.evidence for proof in found.proofs)
    assert with_legacy(1, 7).attached.answer is None


def test_what_is_missing_is_asked_for_and_read_where_it_was_added() -> None:
    (gap,) = with_legacy(1, 7).attached.gaps
    name = "sos_commands/networking/iptables-legacy-save"
    assert f"as root on that host: iptables-legacy-save > {name}, into the sosreport" in str(gap)
    assert wanted(f"sosreport-a/{name}")
    saved = {name: "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n"}
    found = with_legacy(1, 7, **saved).attached
    assert [one.backend for one in found.holders] == ["iptables-legacy"]
    assert not found.gaps


@pytest.mark.parametrize(
    ("timer", "answer"), [(431999, True), (431991, True), (431990, None), (432001, None), (100, None)]
)
def test_a_connection_whose_packets_renewed_its_entry_is_tracked(timer: int, answer: bool | None) -> None:
    row = (
        f"ipv4 2 tcp 6 {timer} ESTABLISHED src=- dst=- sport=1 dport=22 src=- dst=- sport=22 dport=1 [ASSURED] use=1\n"
    )
    sysctl = "net.netfilter.nf_conntrack_tcp_timeout_established = 432000\n"
    more = {"proc/132/net/nf_conntrack": row, "sos_commands/kernel/sysctl_-a": sysctl}
    assert with_legacy(1, 7, **more).attached.answer is answer
    saved = {"sos_commands/networking/iptables-legacy-save": "*nat\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n"}
    assert with_legacy(0, 7, **more, **saved).attached.answer is False, "from before a removal"


LINKS = """\
2: br0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP mode DEFAULT group default
    link/ether 02:00:00:00:01:01 brd ff:ff:ff:ff:ff:ff promiscuity 0
    bridge forward_delay 1500 nf_call_iptables {call} nf_call_ip6tables 0 nf_call_arptables 0
3: vnet0@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master br0 state UP
    veth
    bridge_slave state forwarding priority 32 cost 2 port_id 0x8001 port_no 0x1 designated_port 32769
4: cut
    bridge_slave port_no
"""
MASQUERADE = "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n"


@pytest.mark.parametrize(
    ("sysctl", "call", "said"),
    [("kernel.pid_max = 1", 1, True), ("net.bridge.bridge-nf-call-iptables = 0", 0, True),
     ("net.bridge.bridge-nf-call-iptables = 0", 1, False), ("net.bridge.bridge-nf-call-iptables = 1", 0, False)],
)  # fmt: skip
def test_ports_of_bridges_are_known(sysctl: str, call: int, said: bool) -> None:
    more = {
        "sos_commands/networking/ip_-s_-d_link": LINKS.format(call=call),
        "sos_commands/networking/iptables-legacy-save": MASQUERADE,
        "sos_commands/kernel/sysctl_-a": f"{sysctl}\nnet.netfilter.nf_conntrack_max = 9\n",
    }
    proofs = with_legacy(1, 7, **more).attached.proofs
    named = [one.evidence for one in proofs if one.source == "bridge"]
    assert named == (["frames that a bridge forwards (vnet0) pass by the hooks of ip"] if said else [])


def test_a_bridge_is_named_where_only_traffic_tells_that_it_is_tracked() -> None:
    row = "ipv4 2 tcp 6 431999 ESTABLISHED src=- dst=- sport=1 dport=22 src=- dst=- sport=22 dport=1 [ASSURED] use=1\n"
    more = {
        "sos_commands/networking/ip_-s_-d_link": LINKS.format(call=0),
        "sos_commands/kernel/sysctl_-a": "net.netfilter.nf_conntrack_tcp_timeout_established = 432000\n",
        "proc/132/net/nf_conntrack": row,
    }
    found = with_legacy(1, 7, **more).attached
    assert (found.answer, "bridge" in {one.source for one in found.proofs}) == (True, True)
