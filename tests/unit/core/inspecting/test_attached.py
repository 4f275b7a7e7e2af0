"""Is a namespace tracked? Each proof by itself, what is missing, and contradictions."""

from __future__ import annotations

import pytest

from lab.core.inspecting.attached import Attached
from tests.unit.core.inspecting.hosts import MASQUERADE, MODULES, STATEFUL, inspected, look, sysctl

HOOKS = "family ip {\n\thook prerouting {\n\t\t-0000000200 ipv4_conntrack_in [nf_conntrack]\n\t}\n}\n"
NO_HOOKS = "family ip {\n\thook input {\n\t\t-0000000225 apparmor_ip_postroute\n\t}\n}\n"


def proof(attached: Attached, source: str) -> bool | None:
    return {one.source: one.attached for one in attached.proofs}[source]


def test_nothing_is_no() -> None:
    found = look().attached
    assert (found.answer, found.families, found.gaps) == (False, (), ())


def test_a_rule_holds_its_family() -> None:
    found = look(own={"iptables-legacy-save": MASQUERADE}).attached
    assert (found.answer, found.families) == (True, ("ip",))
    assert "MASQUERADE" in {one.source: one.evidence for one in found.proofs}["holders"]


@pytest.mark.parametrize(
    ("name", "why"),
    [("ruleset.nft", "nft: ENOENT"), ("iptables-legacy-save", "not recorded"), ("ovs.flows", "?")],
)
def test_what_was_not_read_is_unknown_and_never_none(name: str, why: str) -> None:
    modules = "nf_tables 1 0 - Live 0x0\nopenvswitch 1 1 - Live 0x0\n" if name == "ovs.flows" else ""
    host = {"modules": modules, "modules.builtin": "nft_ct\n", "uname": "6.12.0\n"}
    found = look(host, {f"{name}.error": f"{why}\n"}).attached
    assert found.answer is None
    assert [gap.what for gap in found.gaps]


def test_use_counts_prove_what_no_program_showed() -> None:
    host = {"modules": "nf_tables 1 0 - Live 0x0\n"}
    assert look(host, {"ruleset.nft.error": "nft: ENOENT\n"}).attached.answer is False
    host = {"modules": "nf_tables 1 0 - Live 0x0\nnft_masq 1 2 - Live 0x0\n"}
    found = look(host, {"ruleset.nft.error": "nft: ENOENT\n"}).attached
    assert (found.answer, proof(found, "uses"), proof(found, "holders")) == (True, True, None)


@pytest.mark.parametrize("modules", ["nft_ct 1 2 - Live 0x0\n", "xt_MASQUERADE 1 1 - Live 0x0\nxt_CT 1 1 - Live 0x0\n"])
def test_rules_that_were_not_read_may_keep_every_packet_out(modules: str) -> None:
    """notrack uses the module of `ct`, and holds nothing; beside a rule that holds it there is nothing to track."""
    errors = {"ruleset.nft.error": "nft: ENOENT\n", "iptables-legacy-save.error": "not collected\n"}
    found = look({"modules": f"nf_tables 1 0 - Live 0x0\nip_tables 1 0 - Live 0x0\n{modules}"}, errors).attached
    assert (found.answer, proof(found, "uses")) == (None, None)


def test_uses_elsewhere_prove_nothing_of_one_of_several_namespaces() -> None:
    found = inspected({"modules": "xt_REDIRECT 1 3 - Live 0x0\n"}, {}, n5={}).looks[0].attached
    assert (found.answer, proof(found, "uses")) == (False, None)
    assert "xt_REDIRECT has 3 uses, 0 of them seen" in str(found.proofs)


def test_uses_that_rules_explain_are_no_news() -> None:
    found = inspected({"modules": MODULES}, {"iptables-legacy-save": MASQUERADE})
    assert not any(one.hidden for one in found.uses or ())
    assert proof(found.looks[0].attached, "uses") is None


def test_the_kernels_list_of_hooks_counts() -> None:
    found = look(own={"hooks.nft": HOOKS}).attached
    assert found.answer is None
    assert found.disagreement == "hooks say yes, holders say no"
    assert look(own={"hooks.nft": HOOKS, "iptables-legacy-save": MASQUERADE}).attached.answer is True
    assert look(own={"hooks.nft": NO_HOOKS}).attached.answer is False


def test_entries_that_rise_prove_it_and_those_that_do_not_say_nothing() -> None:
    rising = {"sysctl": sysctl(5), "later/sysctl": sysctl(9), "later/at": "12.0\n"}
    found = look({"modules.builtin": "nft_ct\n"}, {**rising, "ruleset.nft.error": "?"}).attached
    assert (found.answer, proof(found, "behaviour")) == (True, True)
    still = {**rising, "later/sysctl": sysctl(5)}
    assert proof(look(own=still).attached, "behaviour") is None


def test_a_text_that_cannot_be_read_is_unknown_with_its_line() -> None:
    found = look(own={"iptables-legacy-save": "*nat\nhello\nCOMMIT\n", "ip6tables-legacy-save": STATEFUL}).attached
    assert (found.answer, found.families) == (True, ("ip6",))
    assert [str(gap) for gap in found.gaps] == [
        "iptables-legacy-save: iptables-legacy ip line 2: 'hello' is not of iptables-save"
    ]


def test_the_old_kernels_modules_track_in_every_namespace() -> None:
    host = {"uname": "3.10.0-1160.el7.x86_64\n", "modules": "nf_conntrack_ipv4 1 0 - Live 0x0\n"}
    assert [one.attached.answer for one in inspected(host, {}, n5={}).looks] == [True, True]


def test_an_unknown_release_is_no_reason_to_say_no() -> None:
    host = {"uname": ""}
    assert look(host).attached.answer is None
    assert look(host, {"iptables-legacy-save": MASQUERADE}).attached.answer is True


@pytest.mark.parametrize(("passes", "said"), [(1, False), (0, True), (None, True)])
def test_frames_of_a_bridge_that_pass_by_the_hooks_are_named(passes: int | None, said: bool) -> None:
    host = {"bridge_ports": "/sys/class/net/vnet0/brport/port_no: 0x1\n/sys/class/net/eth0/brport/port_no: 0x2\n"}
    settings = "" if passes is None else f"/proc/sys/net/bridge/bridge-nf-call-iptables: {passes}\n"
    found = look(host, {"iptables-legacy-save": MASQUERADE, "bridge": settings}).attached
    assert found.answer is True
    named = [one.evidence for one in found.proofs if one.source == "bridge"]
    assert named == (["frames that a bridge forwards (vnet0, eth0) pass by the hooks of ip"] if said else [])


def test_a_bridge_of_its_own_setting_hands_its_frames_over() -> None:
    host = {"bridge_ports": "/sys/class/net/vnet0/brport/port_no: 0x1\n"}
    own = "/sys/class/net/br0/bridge/nf_call_iptables: 1\n"
    for loaded, said in (("/proc/sys/net/bridge/bridge-nf-call-iptables: 0\n", False), ("", True)):
        found = look(host, {"iptables-legacy-save": MASQUERADE, "bridge": loaded + own}).attached
        assert ("bridge" in {one.source for one in found.proofs}) is said, "br_netfilter is loaded, or is not"


def test_a_bridge_where_nothing_is_tracked_is_not_named() -> None:
    host = {"bridge_ports": "/sys/class/net/vnet0/brport/port_no: 0x1\n"}
    assert "bridge" not in {one.source for one in look(host).attached.proofs}


def test_frames_of_open_vswitch_pass_by_the_hooks() -> None:
    shown = "system@ovs-system:\n  lookups: hit:0 missed:0 lost:0\n  port 0: ovs-system (internal)\n  port 1: vnet0\n"
    found = look(own={"iptables-legacy-save": MASQUERADE, "ovs.datapaths": shown}).attached
    assert [one.evidence for one in found.proofs if one.source == "bridge"] == [
        "frames that a bridge forwards (vnet0) pass by the hooks of ip"
    ]
