"""Three proofs side by side: what each says, when they contradict each other, and what explains it."""

from __future__ import annotations

import pytest

from lab.core.evidence import Evidence, Snapshot
from lab.core.facts import Facts
from lab.core.finding import Finding
from lab.core.proofs import prove

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
