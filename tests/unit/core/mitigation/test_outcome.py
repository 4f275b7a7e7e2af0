"""Mitigations: what two machines' evidence means together."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest

from lab.core.holders.model import PART_OF_FIREWALL
from lab.core.judging.finding import Finding
from lab.core.mitigation.judged import Judged
from lab.core.mitigation.outcome import OUTCOMES, outcome
from lab.core.result import Mitigation
from lab.core.scenario.expectation import FINDING_EVIDENCE
from lab.host.results.records import to_json
from tests.unit.core.mitigation.made import (
    FIREWALL_RULE,
    FULL,
    GONE,
    LIMIT,
    LISTED,
    OTHER,
    REMOVAL,
    RULE,
    STUCK,
    TRACKED,
    UNRELATED,
    counts,
    judged,
    reached,
)
from tests.unit.host.publish.test_schemas import errors


@dataclass(frozen=True)
class Case:
    """Two machines, the outcome, and words of the reason."""

    first: Judged
    second: Judged
    outcome: str
    words: str


def unbegun(one: Judged, untried: int) -> Judged:
    """The same with a load that began only some of its connections, of which a tenth was held."""
    begun = 1000 - untried
    share = {**counts(begun * 9 // 10, begun), "untried": untried}
    return replace(one, finding=replace(one.finding, measured=replace(one.finding.measured, connections=share)))


def unaccepted(one: Judged) -> Judged:
    """The same with a load that connected, but whose other side never accepted."""
    share = {**(one.finding.measured.connections or {}), "accepted": 0}
    return replace(one, finding=replace(one.finding, measured=replace(one.finding.measured, connections=share)))


ALL_WORK = reached(**{"in": True, "out": True, "forwarded": True})
NO_REPLIES = reached(**{"in": True, "out": False, "forwarded": True})
LATE = {"connections": 50, "held": 0}

CASES = {
    "detached, by all": Case(FULL, GONE, "fixes", "the kernel's hooks and the rulesets"),
    "no entry of the load": Case(FULL, judged("untracked", None, False, entries=0), "fixes", "the rulesets say"),
    "untracked, nothing more known": Case(
        FULL, judged("untracked", None, False), "unknown", "neither the load's entries"
    ),
    "some entries of the load": Case(FULL, judged("untracked", None, False, entries=287), "hides", "still tracked"),
    "detached after a loss of another kind": Case(
        judged("other-loss", True, True, (RULE,)), judged("untracked", False, False), "fixes", "of untracked"
    ),
    "hooks are still there": Case(FULL, judged("untracked", True, False), "hides", "but the kernel's hooks say that"),
    "holders are still there": Case(FULL, judged("untracked", None, True), "hides", "but the rulesets say that"),
    "hooks there, passed by": Case(FULL, judged("untracked", True, True, notrack=True), "hides", "hooks and the rule"),
    "notrack, and nothing known": Case(FULL, judged("untracked", notrack=True), "hides", "rules with notrack"),
    "still tracked": Case(FULL, judged("tracked", True, True), "hides", "still tracked: the numbers of tracked"),
    "tracked as before": Case(TRACKED, judged("tracked", True, True, entries=1000), "no effect", "tracked as before"),
    "half of it tracked": Case(
        TRACKED, judged("tracked", True, True, entries=500), "better", "had 1000 entries before, 500 after"
    ),
    "tracked, then full": Case(TRACKED, judged("table-full", True, True), "worse", "0 of 1000, then 900 of 1000"),
    "still full": Case(FULL, judged("table-full", True, True), "no effect", "conntrack is still attached"),
    "still full, but for chance": Case(FULL, judged("table-full", True, True, lost=905), "no effect", "but for chance"),
    "less full": Case(FULL, judged("table-full", True, True, lost=500), "better", "900 of 1000, then 500 of 1000"),
    "evicted as before": Case(
        judged("evicted", held_by=(RULE,)), judged("evicted"), "no effect", "as before: the numbers of evicted"
    ),
    "evicted, then tracked": Case(judged("evicted", held_by=(RULE,)), judged("tracked"), "hides", "still tracked"),
    "as many lost, but not to conntrack": Case(
        FULL, judged("other-loss", False, False), "unknown", "but to another reason than the table now"
    ),
    "all lost now": Case(
        FULL, judged("other-loss", False, False, lost=1000), "worse", "900 of 1000, then 1000 of 1000"
    ),
    "one lost where none was": Case(TRACKED, judged("other-loss", False, False, lost=1), "unknown", "may be chance"),
    "lost to another reason in both": Case(
        judged("other-loss", True, True, (RULE,)), judged("other-loss", False, False), "unknown", "another reason than"
    ),
    "what was never begun tells nothing": Case(
        unbegun(judged("table-full", True, True, (RULE,), lost=900), 0),
        unbegun(judged("table-full", True, True, lost=900), 990),
        "no effect",
        "900 of 1000, then 9 of 10",
    ),
    "held, but never accepted": Case(
        FULL, unaccepted(judged("other-loss", False, False, lost=0)), "worse", "900 of 1000, then 1000 of 1000"
    ),
    "newcomers are lost": Case(
        judged("tracked", True, True, (RULE,), newcomers={"connections": 50, "held": 50}),
        judged("untracked", False, False, newcomers=LATE),
        "worse",
        "0 of 1050, then 50 of 1050",
    ),
    "others get through as before": Case(
        replace(FULL, peer=ALL_WORK), replace(GONE, peer=ALL_WORK), "fixes", "between two others (TCP ports 22)"
    ),
    "what never worked need not": Case(
        replace(FULL, peer=NO_REPLIES), replace(GONE, peer=NO_REPLIES), "fixes", "what worked before still does"
    ),
    "replies are cut": Case(
        replace(FULL, peer=ALL_WORK), replace(GONE, peer=NO_REPLIES), "worse", "from this host to another one"
    ),
    "replies are cut, and all are lost": Case(
        replace(FULL, peer=ALL_WORK),
        replace(judged("other-loss", False, False, lost=1000), peer=NO_REPLIES),
        "worse",
        "more is lost than before",
    ),
    "whether replies are cut was not seen": Case(
        replace(FULL, peer=ALL_WORK), replace(GONE, peer={"error": "no veth"}), "unknown", "with other hosts still work"
    ),
    "a rule came back": Case(
        FULL, judged("table-full", True, True, (RULE,)), "no effect", "came back, held again by `-A POSTROUTING"
    ),
    "a rule came back while the load ran": Case(
        FULL, judged("tracked", True, True, (RULE,), before=(), rules=()), "no effect", "came back, held again by"
    ),
    "a rule came back at the end": Case(
        FULL, judged("untracked", None, True, (RULE,), before=(), rules=()), "unknown", "came back, held again by"
    ),
    "another one holds it": Case(FULL, judged("tracked", True, True, (OTHER,)), "unknown", "did not hold it before"),
    "another rule is gone": Case(
        judged("table-full", held_by=(RULE,), rules=(LISTED, UNRELATED)), GONE, "unknown", "`tcp dport 22 accept`"
    ),
    "another rule has come": Case(
        FULL, judged("untracked", False, False, rules=(UNRELATED,)), "unknown", "of filter INPUT has come"
    ),
    "the rules were not recorded": Case(FULL, replace(GONE, rules_before=None), "unknown", "could not be recorded"),
    "a command failed": Case(
        FULL, judged("state-refused", reason="`nft` ended with status 1"), "unknown", "end: `nft` ended with status 1"
    ),
    "lost twice": Case(
        FULL, judged("inconclusive", reason="the machine was lost: panic\nKernel panic"), "unknown", "lost: panic"
    ),
    "skipped": Case(FULL, judged("skipped"), "unknown", "of skipped"),
    "one holder stays for want of a command": Case(
        judged("table-full", True, True, (RULE, STUCK)),
        judged("table-full", True, True, (STUCK,)),
        "unknown",
        "no command is known that removes `ct state invalid` of nft, and without that connections are still lost",
    ),
    "a part of a firewall stays": Case(
        judged("table-full", True, True, (RULE, FIREWALL_RULE)),
        judged("table-full", True, True, (FIREWALL_RULE,)),
        "unknown",
        f"`ct state established accept` of nft: {PART_OF_FIREWALL}, and without that connections are still lost",
    ),
    "fixed, though one holder had no command": Case(
        judged("table-full", held_by=(RULE, STUCK)), judged("untracked", False, False), "fixes", "of untracked"
    ),
}


def document(found: Mitigation) -> Any:
    """As it is stored."""
    return json.loads(json.dumps(to_json(found)))


@pytest.mark.parametrize("name", CASES)
def test_an_outcome(name: str) -> None:
    case = CASES[name]
    found = outcome(case.first, case.second, REMOVAL)
    assert (found.outcome, found.finding, found.commands) == (case.outcome, case.second.finding.name, REMOVAL)
    assert case.words in found.reason
    assert case.second.finding.reason.splitlines()[0] in found.reason, "the numbers are quoted"
    assert "\n" not in found.reason
    assert errors(document(found), "results", "mitigation") == []


def test_every_outcome_has_a_case() -> None:
    assert {case.outcome for case in CASES.values()} == set(OUTCOMES)


def test_only_a_positive_proof_fixes() -> None:
    proofs = list(product((True, False, None), repeat=2))
    for first, second, (hooks, held), notrack, entries in product(
        ("tracked", "table-full", "evicted", "other-loss"), FINDING_EVIDENCE, proofs, (True, False), (None, 0, 3)
    ):
        later = judged(second, hooks, held, notrack=notrack, entries=entries)
        found = outcome(judged(first, held_by=(RULE,)), later, REMOVAL)
        assert found.outcome in OUTCOMES
        if found.outcome == "fixes":
            assert (second, hooks is True, held is True) == ("untracked", False, False)
            assert entries == 0 or (hooks is False and entries is None)


UNTRIED = {
    "no command": (judged("table-full", True, True, (STUCK,)), "removes `ct state invalid` of nft"),
    "nothing held": (judged("table-full", True, False), "nothing was found that holds conntrack"),
    "rulesets unknown": (replace(judged("table-full", True, None), held_before=None), "could not be recorded"),
    "no proofs": (Judged(Finding("table-full", "full"), None), "could not be recorded"),
    "never run": (FULL, "without a second machine"),
    "part of a firewall": (judged("table-full", True, True, (FIREWALL_RULE,)), PART_OF_FIREWALL),
}


@pytest.mark.parametrize("name", UNTRIED)
def test_what_was_not_tried_is_unknown(name: str) -> None:
    first, words = UNTRIED[name]
    found = outcome(first, None, ())
    assert (found.outcome, found.finding, found.commands) == ("unknown", None, ())
    assert words in found.reason
    assert errors(document(found), "results", "mitigation") == []


def test_where_a_firewall_holds_it_there_is_other_advice() -> None:
    found = outcome(judged("table-full", True, True, (FIREWALL_RULE,)), None, ())
    assert [kept.reason for kept in found.kept] == [PART_OF_FIREWALL]
    text = " ".join(found.advice)
    assert all(words in text for words in ("nf_conntrack_max", "notrack", "whole ruleset"))


def test_a_handle_is_told_to_be_the_guests() -> None:
    by_number = outcome(judged("tracked", held_by=(LIMIT, OTHER)), None, ()).advice
    assert any("nft -a list chain ip t c" in line for line in by_number)
    assert any("iptables-legacy -t filter -S INPUT" in line for line in by_number)


def test_a_guest_may_say_anything_of_its_peers() -> None:
    odd: list[Any] = [None, 7, {}, {"way": ["in"], "port": 22, "worked": True}, {"way": "in", "port": "22"}]
    for told in ({"attempts": odd}, {"attempts": "all"}, {}, None):
        assert outcome(replace(FULL, peer=told), replace(GONE, peer=told), REMOVAL).outcome == "fixes"


def test_the_outcomes_are_those_of_the_schema() -> None:
    for name in OUTCOMES:
        for finding in (*FINDING_EVIDENCE, None):
            assert errors(document(Mitigation(name, "so it is", REMOVAL, finding)), "results", "mitigation") == []
    old: dict[str, Any] = {"outcome": "fixes", "reason": "so it is", "commands": [], "finding": None}
    assert errors(old, "results", "mitigation") == []
    assert errors(document(Mitigation("cures", "so it is", (), None)), "results", "mitigation")
    assert errors(document(Mitigation("fixes", "", (), None)), "results", "mitigation")
