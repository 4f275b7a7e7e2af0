"""Three proofs side by side: what each says, when they contradict each other, and what explains it."""

from __future__ import annotations

import pytest

from lab.core.evidence import Evidence, Snapshot
from lab.core.facts import Facts
from lab.core.judging.finding import Finding
from lab.core.judging.proofs import Proofs, prove

NAT = "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n"
RAW = "*raw\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j CT --notrack\nCOMMIT\n"
NO_NFT = dict.fromkeys(("iptables-nft-save", "ruleset.nft", "ruleset.json"), "nf_tables is not loaded")


def evidence(rules: str) -> Evidence:
    texts = {"modules": "nf_conntrack 188416 1 xt_MASQUERADE, Live 0x0000000000000000\n", "iptables-legacy-save": rules}
    return Evidence(after=Snapshot(texts, NO_NFT), facts=Facts("debian12", "6.1.0"))


def test_a_rule_that_holds_and_connections_that_were_tracked_agree() -> None:
    proofs = prove(evidence(NAT), Finding("table-full", "it was"))
    assert (proofs.hooks, proofs.holders, proofs.behaviour) == (None, True, True)
    assert proofs.disagreement is None


def test_a_rule_that_holds_and_connections_that_were_not_tracked_disagree() -> None:
    proofs = prove(evidence(NAT), Finding("untracked", "it was not"))
    assert proofs.disagreement is not None
    assert "the rulesets say" in proofs.disagreement


def test_notrack_explains_why_nothing_was_tracked() -> None:
    proofs = prove(evidence(NAT + RAW), Finding("untracked", "it was not"))
    assert (proofs.holders, proofs.behaviour, proofs.notrack) == (True, False, True)
    assert proofs.disagreement is None


def test_notrack_explains_nothing_where_connections_were_tracked() -> None:
    proofs = prove(evidence(RAW), Finding("tracked", "it was"))
    assert (proofs.holders, proofs.behaviour, proofs.notrack) == (False, True, True)
    assert proofs.disagreement is not None


@pytest.mark.parametrize(
    ("name", "text", "notrack"),
    [
        ("iptables-legacy-save", "-A OUTPUT -j CT --notrack", True),
        ("iptables-nft-save", "-A OUTPUT -j NOTRACK", True),
        ("ruleset.nft", "\t\tip saddr 127.0.0.1 notrack # handle 4\n", True),
        ("ruleset.json", '{"rule": {"expr": [{"notrack": null}]}}', True),
        ("ruleset.nft", "\tchain notracking {\n", False),
        ("iptables-legacy-save", "-A OUTPUT -j CT --zone 1", False),
    ],
)
def test_notrack_in_every_backends_words(name: str, text: str, notrack: bool) -> None:
    assert prove(Evidence(after=Snapshot({name: text})), Finding("tracked", "it was")).notrack is notrack


FTP = """IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0000201:0015 rr
  -> C0000202:0015      Masq    1      0          0
"""
FILTER = "dev lo egress\nfilter protocol ip pref 1 flower chain 0 handle 0x1\n\taction order 1: ct commit zone 0 pipe\n"
LIST = (
    "family ip {\n\thook prerouting {\n\t\t0000000000 apparmor_ip_postroute\n\t}\n}\n"  # real, and without the tracker
)


def proven(finding: str, modules: str = "", **texts: str) -> Proofs:
    names = {name.replace("_", "."): text for name, text in texts.items() if name != "ip_vs"}
    more = {"ip_vs": texts["ip_vs"]} if "ip_vs" in texts else {}
    errors = {**NO_NFT, "iptables-legacy-save": "ip_tables is not loaded"}
    after = Snapshot({"modules": modules, **names, **more}, errors)
    return prove(Evidence(after=after, facts=Facts("debian12", "6.1.0")), Finding(finding, "it was"))


def test_a_service_of_ipvs_is_a_proof() -> None:
    assert proven("tracked", ip_vs=FTP).holders is True


def test_a_filter_that_tracks_without_hooks_contradicts_no_list_of_hooks() -> None:
    proofs = proven("tracked", tc_filters=FILTER, hooks_nft=LIST)
    assert (proofs.hooks, proofs.holders, proofs.disagreement) == (False, None, None)
    assert [one.backend for one in proofs.held_by] == ["tc"]
    assert proven("tracked", hooks_nft=LIST).disagreement is not None


@pytest.mark.parametrize(
    ("modules", "answer"),
    [
        ("", False),
        ("ip_vs 1 1 ip_vs_rr, Live 0x0\n", False),  # its scheduler's use: there is no service
        ("ip_vs 1 3 ip_vs_rr, Live 0x0\n", None),
        ("act_ct 1 1 - Live 0x0\n", None),
        ("openvswitch 1 2 - Live 0x0\n", None),
    ],
)
def test_what_an_old_run_did_not_record_is_unknown(modules: str, answer: bool | None) -> None:
    release = Facts("debian13", "6.12.1")
    after = Snapshot({"modules": modules}, {**NO_NFT, "iptables-legacy-save": "ip_tables is not loaded"})
    assert prove(Evidence(after=after, facts=release), Finding("tracked", "it was")).holders is answer


@pytest.mark.parametrize(
    ("ports", "sysctl", "explained"), [("lab-c0", "0", True), ("lab-c0", "1", False), ("docker0", "0", False)]
)
def test_a_bridge_whose_frames_pass_no_hooks_explains_why_nothing_was_tracked(
    ports: str, sysctl: str, explained: bool
) -> None:
    bridge = f"/proc/sys/net/bridge/bridge-nf-call-iptables: {sysctl}\n/sys/class/net/{ports}/brport/port_no: 0x1\n"
    proofs = proven("untracked", bridge=bridge, ip_vs=FTP)
    assert (proofs.disagreement is None) is explained


@pytest.mark.parametrize(("port", "explained"), [("lab-c0", True), ("vnet0", False)])
def test_a_bridge_of_open_vswitch_explains_why_nothing_was_tracked(port: str, explained: bool) -> None:
    datapaths = f"system@ovs-system:\n  flows: 1\n  port 0: ovs-system (internal)\n  port 1: {port}\n"
    proofs = proven("untracked", **{"ovs.datapaths": datapaths, "ip_vs": FTP})
    assert (proofs.disagreement is None) is explained
