"""The rules of a recorded state: their places, and what must be there before one is removed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.core.evidence import Snapshot
from lab.core.mitigation.ruleset import listed_rules, more_rules, stateless
from lab.guest.apply import apply_steps
from lab.guest.removal import mismatch
from tests.unit.core.mitigation.made import (
    LISTED_OTHER,
    RULESETS,
)

CHAIN = """table inet t {
	chain c { # handle 1
		type filter hook input priority filter; policy drop;
		ct state established counter accept # handle 7
		tcp dport { 22,
				80 } ct state new accept comment "a } b" # handle 17
		accept # handle 9
	}
}
"""
SAVED = "-P INPUT ACCEPT\n-A INPUT -p icmp -j ACCEPT\n-A INPUT -p tcp -m connlimit -j DROP\n-A INPUTS -j RETURN\n"


@pytest.mark.parametrize(
    ("listing", "number", "handle", "rule", "there"),
    [
        (CHAIN, None, 7, "ct state established counter accept", None),
        (CHAIN, None, 17, 'tcp dport { 22, 80 } ct state new accept comment "a } b"', None),
        (CHAIN, None, 9, "accept", None),
        (CHAIN, None, 7, "accept", "it is `ct state established counter accept`"),
        (CHAIN, None, 8, "accept", "there is none"),
        (CHAIN, None, 9, "", "it is `accept`"),
        (SAVED, 2, None, "-A INPUT -p tcp -m connlimit -j DROP", None),
        (SAVED, 1, None, "-A INPUT -p tcp -m connlimit -j DROP", "it is `-A INPUT -p icmp -j ACCEPT`"),
        (SAVED, 3, None, "-A INPUTS -j RETURN", "there is none"),
        (SAVED, 0, None, "-A INPUTS -j RETURN", "there is none"),
    ],
)
def test_the_rule_at_a_place_is_known_by_its_text(
    listing: str, number: int | None, handle: int | None, rule: str, there: str | None
) -> None:
    found = mismatch(listing, {"number": number, "handle": handle, "chain": "INPUT", "rule": rule})
    assert (found is None) is (there is None)
    assert there is None or ("is another one" in str(found) and there in str(found))


@pytest.mark.parametrize(("text", "ran"), [("-A INPUT -j A", True), ("-A INPUT -j B", False)])
def test_another_rule_at_the_place_is_not_removed(tmp_path: Path, text: str, ran: bool) -> None:
    expected = {"listing": ["echo", "-A INPUT -j A"], "chain": "INPUT", "number": 1, "handle": None, "rule": text}
    outcomes: list[dict[str, Any]] = []
    step = {"kind": "remove", "argv": ["touch", str(tmp_path / "ran")], "expected": [expected, expected]}
    assert apply_steps([step], outcomes.append) is ran
    assert (tmp_path / "ran").exists() is ran
    assert ran or "the rule at that place is another one" in outcomes[0]["stderr"]


def test_a_chain_that_cannot_be_listed_loses_no_rule(tmp_path: Path) -> None:
    expected = {"listing": ["false"], "chain": "INPUT", "number": 1, "handle": None, "rule": ""}
    step = {"kind": "remove", "argv": ["touch", str(tmp_path / "ran")], "expected": [expected]}
    assert apply_steps([step], lambda ended: None) is False
    assert not (tmp_path / "ran").exists()


def test_what_a_rule_has_counted_is_none_of_its_text() -> None:
    assert stateless("ip saddr 10.0.0.1  counter packets 7 bytes 420 accept") == "ip saddr 10.0.0.1 counter accept"
    assert stateless("quota over 25 mbytes used 1200 bytes drop") == "quota over 25 mbytes drop"
    assert stateless('comment "counter of packets 7"') == 'comment "counter of packets 7"'


def snapshot(**texts: str) -> Snapshot:
    names = {"ruleset_nft": "ruleset.nft", "legacy": "iptables-legacy-save", "legacy6": "ip6tables-legacy-save"}
    missing = {names[name]: f"{name} is not loaded" for name in names if name not in texts}
    return Snapshot({names[name]: text for name, text in texts.items()}, missing)


def test_the_rules_of_a_state_are_read_with_their_places() -> None:
    found = listed_rules(snapshot(ruleset_nft=CHAIN, legacy="*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j A\nCOMMIT\n"))
    assert found is not None
    assert [(rule.backend, rule.family, rule.table, rule.chain, rule.place) for rule in found] == [
        ("iptables-legacy", "ip", "filter", "INPUT", 1),
        ("nft", "inet", "t", "c", 7),
        ("nft", "inet", "t", "c", 17),
        ("nft", "inet", "t", "c", 9),
    ]
    assert found[2].text == 'tcp dport { 22, 80 } ct state new accept comment "a } b"'


@pytest.mark.parametrize("recorded", sorted(RULESETS.glob("*/*/nft.txt")) or sorted(RULESETS.rglob("nft*.txt")))
def test_every_rule_of_a_recorded_ruleset_is_read(recorded: Path) -> None:
    text = recorded.read_text()
    found = listed_rules(snapshot(ruleset_nft=text))
    assert found is not None
    opened = ("chain ", "table ", "set ", "map ", "ct ", "counter ", "quota ", "limit ", "synproxy ", "flowtable ")
    lines = [line.strip() for line in text.splitlines() if "# handle " in line]
    with_bracket = [line for line in lines if line.startswith(opened) and "{ # handle" in line]
    assert len(found) == len(lines) - len(with_bracket)


def test_a_ruleset_that_was_not_recorded_is_unknown() -> None:
    assert listed_rules(None) is None
    assert listed_rules(Snapshot()) is None
    cut = snapshot(ruleset_nft=CHAIN)
    assert listed_rules(replace(cut, errors={**cut.errors, "ruleset.nft": "truncated"})) is None
    assert listed_rules(snapshot()) == ()


def test_rules_differ_by_chain_and_text_and_number() -> None:
    counted = replace(LISTED_OTHER, place=8, text="ct state new counter packets 9 bytes 9")
    assert more_rules([LISTED_OTHER, counted], [counted]) == (counted,)
    assert more_rules([LISTED_OTHER], [counted]) == ()
    assert more_rules([LISTED_OTHER], [replace(counted, chain="d")]) == (LISTED_OTHER,)
