"""The known cases: each is found by its own evidence, and leads to a page and a scenario that are there."""

from __future__ import annotations

import re

import pytest

from lab.core.inspecting.cases import CASES
from tests import ROOT
from tests.unit.core.inspecting.hosts import MASQUERADE, STATEFUL, inspected, stat, sysctl

NFT_PROGRAM = {"iptables.program": "/usr/sbin/xtables-nft-multi\n"}
WATCHED = {"iptables-legacy-save": STATEFUL, "sysctl": sysctl(10), "later/sysctl": sysctl(10), "later/at": "12.0\n"}
ROW = "ipv4 2 tcp 6 100 {} src=- dst=- sport=1 dport=2 src=- dst=- sport=2 dport=1 [ASSURED] use=1\n"
ORPHAN = "*nat\n:POSTROUTING ACCEPT [0:0]\n:mine - [0:0]\n-A mine -j MASQUERADE\nCOMMIT\n"
OWNED = "table inet t { # progname httpd\n\tflags owner\n\tchain c {\n\t\tct state new accept\n\t}\n}\n"
FULLCONE = "*nat\n-A POSTROUTING -j FULLCONENAT\nCOMMIT\n"
MESSAGE = "4,1,900000000,-;nf_conntrack: nf_conntrack: table full, dropping packet\n"


def counted(**later: int) -> dict[str, str]:
    return {**WATCHED, "stat_nf_conntrack": stat(10), "later/stat_nf_conntrack": stat(10, **later)}


# the host's texts, the namespace's, and the first case that is found
FOUND: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "another namespace's table is full": ({"kmsg": MESSAGE}, {"stat_nf_conntrack": stat(0)}),
    "max is too small for what is tracked": ({}, counted(drop=4)),
    "the hash table is too small": ({}, counted(drop=4, insert_failed=4, chainlength=4)),
    "unreplied entries are evicted to make room": ({}, counted(early_drop=4)),
    "ended connections fill the table": ({}, {**WATCHED, "entries": ROW.format("TIME_WAIT") * 3}),
    "the option that tracks always": (
        {"modprobe.d": "/a: options nf_conntrack enable_hooks=1\n", "modules": "nf_conntrack 1 0 - Live 0x0\n"},
        {},
    ),
    "the classic: modules that stay attached": (
        {"uname": "3.10.0\n", "modules": "nf_conntrack_ipv4 1 0 - Live 0x0\n"},
        {},
    ),
    "Open vSwitch attaches conntrack by being loaded": (
        {"modules": "openvswitch 1 0 - Live 0x0\n"},
        {},
    ),
    "rules in the backend that `iptables` does not show": (NFT_PROGRAM, {"iptables-legacy-save": MASQUERADE}),
    "a table that its owner keeps": ({}, {"ruleset.nft": OWNED}),
    "rules that no packet reaches": ({}, {"iptables-legacy-save": ORPHAN}),
    "nat rules": ({}, {"iptables-legacy-save": MASQUERADE}),
    "rules that match the state": ({}, {"iptables-legacy-save": STATEFUL}),
    "a rule of which nobody can know": ({}, {"iptables-legacy-save": FULLCONE}),
    "entries that outlived their rules": ({}, {"sysctl": sysctl(7)}),
    "loaded, and not attached": ({"sys_module": "nf_conntrack\n"}, {}),
    "nothing at all": ({}, {}),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_case_is_found_by_its_evidence(name: str) -> None:
    look = inspected(*FOUND[name]).looks[0]
    assert [case.name for case in look.cases][:1] == [name]
    assert look.cases[0].evidence


def test_no_case_is_claimed_without_evidence() -> None:
    found = inspected({}, {"iptables-legacy-save.error": "?", "sysctl": sysctl(0)}).looks[0]
    assert [case.name for case in found.cases] == ["nothing at all"] or found.attached.answer is None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_its_page_and_its_scenario_are_there(case: tuple[str, object, str, str, str, str]) -> None:
    _, _, scenario, page, fix, _ = case
    file, _, anchor = page.partition("#")
    text = (ROOT / "docs" / file).read_text()
    heads = [
        re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-")
        for line in text.splitlines()
        if line[:1] == "#"
    ]
    assert not anchor or anchor in heads
    assert not scenario or (ROOT / "scenarios" / f"{scenario}.toml").is_file()
    assert fix
