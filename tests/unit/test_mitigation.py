"""Mitigations: which commands, which plan, and what two machines' findings and proofs mean together."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import product

import pytest

from lab.core.expectation import FINDING_EVIDENCE
from lab.core.finding import Finding
from lab.core.holders import Holder
from lab.core.mitigation import (
    OUTCOMES,
    RULES,
    Judged,
    Mitigation,
    called_for,
    commands,
    mitigated,
    outcome,
    planned_commands,
)
from lab.core.plan import PlannedStep
from lab.core.proofs import Proofs
from lab.core.scenario import RunStep, UnloadStep
from lab.host.provision.replay import recorded_plan
from tests.recordings import GOLDEN
from tests.unit.test_schemas import errors

CELLS = GOLDEN / "cells"

RULE = Holder(
    kind="rule",
    backend="iptables-nft",
    family="ip",
    table="nat",
    chain="POSTROUTING",
    handle=None,
    number=1,
    rule="-A POSTROUTING -j MASQUERADE",
    depends_on=("-j MASQUERADE",),
    reachable=True,
    families=("ip",),
    remove=("iptables-nft", "-t", "nat", "-D", "POSTROUTING", "-j", "MASQUERADE"),
)
OTHER = replace(RULE, backend="nft", number=None, handle=3, rule="ct state new", remove=("nft", "delete", "rule", "3"))
STUCK = replace(OTHER, handle=None, rule="ct state invalid", remove=())
MODULE = replace(RULE, kind="module", backend="kernel", rule="nf_conntrack_ipv4", remove=("modprobe", "-r", "a", "b"))
MODULE6 = replace(MODULE, rule="nf_conntrack_ipv6")
REMOVAL = (RULE.remove,)


def judged(
    finding: str,
    hooks: bool | None = None,
    holders: bool | None = None,
    held_by: tuple[Holder, ...] = (),
    notrack: bool = False,
    reason: str | None = None,
) -> Judged:
    said = reason or f"the numbers of {finding}"
    cause = "timeout" if finding == "other-loss" else None
    return Judged(Finding(finding, said, cause), Proofs(hooks, holders, None, held_by, notrack))


FULL = judged("table-full", True, True, (RULE,))
TRACKED = judged("tracked", True, True, (RULE,))

# -- what is to be done -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finding", FINDING_EVIDENCE)
def test_a_mitigation_is_called_for_where_conntrack_shows(finding: str) -> None:
    shows = finding in ("tracked", "table-full", "evicted")
    assert called_for(judged(finding)) is shows
    assert called_for(Judged(Finding(finding, "no proofs"), None)) is shows
    assert called_for(judged(finding, held_by=(RULE,))) is (shows or finding == "other-loss")


def test_the_commands_come_in_the_order_of_the_holders() -> None:
    assert commands((OTHER, RULE, MODULE)) == (OTHER.remove, RULE.remove, MODULE.remove)
    assert commands(()) == ()


def test_what_nothing_removes_has_no_command() -> None:
    assert commands((STUCK, RULE)) == (RULE.remove,)
    assert commands((STUCK,)) == ()


def test_modules_are_removed_once() -> None:
    assert commands((MODULE, MODULE6)) == (MODULE.remove,)


def test_two_rules_alike_are_removed_one_by_one() -> None:
    """`-D` with a rule's words removes the first that has them, and leaves the second, which holds as well."""
    assert commands((RULE, replace(RULE, number=2))) == (RULE.remove, RULE.remove)


def test_the_second_plan_is_the_first_with_more_steps() -> None:
    plan = recorded_plan(CELLS / "nat-present,iptables=nft@debian13")
    second = mitigated(plan, (RULE.remove, OTHER.remove, MODULE.remove))
    assert second.steps[: len(plan.steps)] == plan.steps
    assert second.steps[len(plan.steps) :] == (
        PlannedStep("mitigation[0]", RunStep(RULE.remove)),
        PlannedStep("mitigation[1]", RunStep(OTHER.remove)),
        PlannedStep("mitigation[2]", UnloadStep(("a", "b"))),
    )
    assert replace(second, steps=plan.steps) == plan
    stored = json.loads(json.dumps(second.to_json()))
    assert [step["key"] for step in stored["steps"]] == ["state[0]", "mitigation[0]", "mitigation[1]", "mitigation[2]"]
    assert planned_commands(stored) == (RULE.remove, OTHER.remove, MODULE.remove)
    assert planned_commands(plan.to_json()) == ()


# -- what came of it --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Two machines, the outcome, and words of the reason."""

    first: Judged
    second: Judged
    outcome: str
    words: str


CASES = {
    "detached, by all": Case(FULL, judged("untracked", False, False), "fixes", "the kernel's hooks and the rulesets"),
    "detached, no list of hooks": Case(FULL, judged("untracked", None, False), "fixes", "the rulesets say"),
    "untracked, nothing more known": Case(FULL, judged("untracked"), "fixes", "is unknown"),
    "detached after a loss of another kind": Case(
        judged("other-loss", True, True, (RULE,)), judged("untracked", False, False), "fixes", "of untracked"
    ),
    "the notrack rules that stay hide nothing": Case(
        FULL, judged("untracked", None, False, notrack=True), "fixes", "not attached any more"
    ),
    "hooks are still there": Case(FULL, judged("untracked", True, False), "hides", "but the kernel's hooks say that"),
    "holders are still there": Case(FULL, judged("untracked", None, True), "hides", "but the rulesets say that"),
    "hooks there, passed by": Case(FULL, judged("untracked", True, True, notrack=True), "hides", "hooks and the rule"),
    "notrack, and nothing known": Case(FULL, judged("untracked", notrack=True), "hides", "rules with notrack"),
    "still tracked": Case(FULL, judged("tracked", True, True), "hides", "still tracked: the numbers of tracked"),
    "evicted, then tracked": Case(judged("evicted", held_by=(RULE,)), judged("tracked"), "hides", "still tracked"),
    "tracked as before": Case(TRACKED, judged("tracked", True, True), "no effect", "tracked as before"),
    "tracked, then full": Case(TRACKED, judged("table-full", True, True), "no effect", "of table-full"),
    "still full": Case(FULL, judged("table-full", True, True), "no effect", "conntrack is still attached"),
    "now evicted": Case(FULL, judged("evicted"), "no effect", "still lost: the numbers of evicted"),
    "lost, but not to conntrack": Case(
        FULL, judged("other-loss", False, False), "no effect", "conntrack is not attached any more"
    ),
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
        "no command is known that removes `ct state invalid` of nft, and without that connections are still lost: the",
    ),
    "one holder stays, and it hides": Case(
        judged("table-full", held_by=(RULE, STUCK)), judged("tracked"), "unknown", "`ct state invalid` of nft"
    ),
    "fixed, though one holder had no command": Case(
        judged("table-full", held_by=(RULE, STUCK)), judged("untracked", False, False), "fixes", "of untracked"
    ),
    "failed, and one holder had no command": Case(
        judged("table-full", held_by=(RULE, STUCK)), judged("state-refused"), "unknown", "tried to its end"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_outcome(name: str) -> None:
    case = CASES[name]
    found = outcome(case.first, case.second, REMOVAL)
    assert (found.outcome, found.finding, found.commands) == (case.outcome, case.second.finding.name, REMOVAL)
    assert case.words in found.reason
    assert case.second.finding.reason.splitlines()[0] in found.reason, "the numbers are quoted"
    assert "\n" not in found.reason


def test_every_outcome_has_a_case() -> None:
    assert {case.outcome for case in CASES.values()} == set(OUTCOMES)


def test_some_rule_speaks_of_every_pair_of_machines() -> None:
    proofs = list(product((True, False, None), repeat=2))
    for first, second, (hooks, holders), notrack in product(
        ("tracked", "table-full", "evicted", "other-loss"), FINDING_EVIDENCE, proofs, (True, False)
    ):
        found = outcome(judged(first, held_by=(RULE,)), judged(second, hooks, holders, notrack=notrack), REMOVAL)
        assert found.outcome in OUTCOMES
        if found.outcome == "fixes":
            assert (second, hooks is True, holders is True) == ("untracked", False, False)
    assert len(RULES) == 5


UNTRIED = {
    "no command": (judged("table-full", True, True, (STUCK,)), "removes `ct state invalid` of nft"),
    "nothing held": (judged("table-full", True, False), "nothing was found that holds conntrack"),
    "rulesets unknown": (judged("table-full", True, None), "could not be recorded"),
    "no proofs": (Judged(Finding("table-full", "full"), None), "could not be recorded"),
    "never run": (FULL, "without a second machine"),
}


@pytest.mark.parametrize("name", UNTRIED)
def test_what_was_not_tried_is_unknown(name: str) -> None:
    first, words = UNTRIED[name]
    found = outcome(first, None, ())
    assert (found.outcome, found.finding, found.commands) == ("unknown", None, ())
    assert words in found.reason


def test_the_outcomes_are_those_of_the_schema() -> None:
    for name in OUTCOMES:
        for finding in (*FINDING_EVIDENCE, None):
            assert errors(Mitigation(name, "so it is", REMOVAL, finding).to_json(), "results", "mitigation") == []
    assert errors(Mitigation("cures", "so it is", (), None).to_json(), "results", "mitigation")
    assert errors(Mitigation("fixes", "", (), None).to_json(), "results", "mitigation")
