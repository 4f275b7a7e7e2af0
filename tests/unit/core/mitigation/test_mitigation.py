"""Mitigations: which commands, which plan, and what two machines' evidence means together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from lab.core.evidence import Snapshot
from lab.core.holders import Holder
from lab.core.holders.model import PART_OF_FIREWALL
from lab.core.judging.attribution import LoadEntries, Unattributed
from lab.core.judging.finding import Finding, Measured
from lab.core.judging.proofs import Proofs
from lab.core.mitigation import (
    OUTCOMES,
    Judged,
    Mitigation,
    called_for,
    command_words,
    mitigated,
    outcome,
    planned_commands,
    removal_of,
)
from lab.core.mitigation.ruleset import ListedRule, listed_rules, more_rules, stateless
from lab.core.plan import ExpectedRule, PlannedStep, RemoveStep
from lab.core.scenario import RunStep, UnloadStep
from lab.core.scenario.expectation import FINDING_EVIDENCE
from lab.guest.apply import apply_steps, run_command
from lab.guest.removal import mismatch
from lab.host.machines.playback import recorded_plan
from lab.host.results.records import to_json
from tests.recordings import GOLDEN
from tests.records import stored_plan
from tests.unit.host.publish.test_schemas import errors

CELLS = GOLDEN / "cells"
RULESETS = GOLDEN / "rulesets"

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
OTHER = replace(
    RULE,
    backend="nft",
    table="t",
    chain="c",
    number=None,
    handle=3,
    rule="ct state new",
    remove=("nft", "delete", "rule", "ip", "t", "c", "handle", "3"),
)
STUCK = replace(OTHER, handle=None, rule="ct state invalid", remove=())
MODULE = replace(
    RULE, kind="module", backend="kernel", number=None, rule="nf_conntrack_ipv4", remove=("modprobe", "-r", "a", "b")
)
MODULE6 = replace(MODULE, rule="nf_conntrack_ipv6")
LIMIT = replace(
    RULE,
    backend="iptables-legacy",
    table="filter",
    chain="INPUT",
    number=2,
    rule="-A INPUT -p tcp -m connlimit -j DROP",
    remove=("iptables-legacy", "-t", "filter", "-D", "INPUT", "2"),
)
LISTED = ListedRule("nft", "ip", "nat", "POSTROUTING", 4, "xt target MASQUERADE")
LISTED_OTHER = ListedRule("nft", "ip", "t", "c", 3, "ct state new counter packets 3 bytes 180")
UNRELATED = ListedRule("nft", "ip", "filter", "INPUT", 9, "tcp dport 22 accept")
REMOVAL = (RULE.remove,)


FIREWALL_RULE = replace(OTHER, rule="ct state established accept", part_of_firewall=True)


def counts(lost: int, of: int = 1000) -> Mapping[str, int]:
    held = of - lost
    return {"attempted": of, "held": held, "failed": 0, "lost": 0, "accepted": held, "stalled": lost, "untried": 0}


def reached(**worked: bool | None) -> Mapping[str, Any]:
    """What a guest tells of its peers."""
    return {"attempts": [{"way": way, "port": 22, "worked": one} for way, one in worked.items() if one is not None]}


def judged(
    finding: str,
    hooks: bool | None = None,
    holders: bool | None = None,
    held_by: tuple[Holder, ...] = (),
    notrack: bool = False,
    reason: str | None = None,
    lost: int | None = None,
    entries: int | None = None,
    newcomers: Mapping[str, int] | None = None,
    rules: tuple[ListedRule, ...] | None = None,
    peer: Mapping[str, Any] | None = None,
    before: tuple[Holder, ...] | None = None,
) -> Judged:
    said = reason or f"the numbers of {finding}"
    cause = "timeout" if finding == "other-loss" else None
    if lost is None:
        lost = 900 if finding in ("table-full", "other-loss") else 0
    found = Unattributed("for a test") if entries is None else LoadEntries(2, entries, entries, 0, False)
    measured = Measured(wanted=1000, connections=counts(lost), attribution=found, newcomers=newcomers)
    listed = (LISTED,) * (RULE in held_by) + (LISTED_OTHER,) * (OTHER in held_by)
    return Judged(
        Finding(finding, said, cause, measured),
        Proofs(hooks, holders, None, held_by, notrack),
        held_by if before is None else before,
        listed if rules is None else rules,
        peer,
    )


FULL = judged("table-full", True, True, (RULE,))
TRACKED = judged("tracked", True, True, (RULE,), entries=1000)
GONE = judged("untracked", False, False)

# -- what is to be done -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finding", FINDING_EVIDENCE)
def test_a_mitigation_is_called_for_where_conntrack_shows(finding: str) -> None:
    shows = finding in ("tracked", "table-full", "evicted")
    assert called_for(judged(finding)) is shows
    assert called_for(Judged(Finding(finding, "no proofs"), None)) is shows
    assert called_for(judged(finding, held_by=(RULE,))) is (shows or finding == "other-loss")


def steps(*held: Holder, rules: tuple[ListedRule, ...] = (LISTED_OTHER,)) -> tuple[object, ...]:
    return removal_of(judged("tracked", held_by=held, rules=rules)).steps


def test_the_steps_come_in_the_order_of_the_holders() -> None:
    expected = ExpectedRule(("nft", "-s", "-a", "list", "chain", "ip", "t", "c"), "c", None, 3, "ct state new counter")
    by_handle = RemoveStep(OTHER.remove, (expected,))
    assert steps(OTHER, RULE, MODULE) == (by_handle, RunStep(RULE.remove), UnloadStep(("a", "b")))
    assert steps() == ()


def test_a_rule_that_goes_by_its_number_is_named_by_its_text() -> None:
    expected = ExpectedRule(("iptables-legacy", "-t", "filter", "-S", "INPUT"), "INPUT", 2, None, LIMIT.rule)
    assert steps(LIMIT) == (RemoveStep(LIMIT.remove, (expected,)),)


def test_places_are_those_before_the_load() -> None:
    """A rule that came while the load ran shifts the numbers of what holds conntrack afterwards."""
    later = replace(LIMIT, number=3, remove=(*LIMIT.remove[:-1], "3"))
    (step,) = removal_of(judged("table-full", held_by=(later,), before=(LIMIT,))).steps
    assert isinstance(step, RemoveStep)
    assert step.argv == LIMIT.remove


def test_every_handle_in_a_command_has_its_text() -> None:
    """A set goes together with the rules that look into it, which hold nothing themselves."""
    words = "nft delete rule ip t c handle 3 ; delete rule ip t d handle 8 ; delete set ip t s"
    of_set = replace(OTHER, kind="object", rule="set s", remove=tuple(words.split()))
    (step,) = steps(of_set)
    assert isinstance(step, RemoveStep)
    assert [(one.chain, one.handle, one.rule) for one in step.expected] == [
        ("c", 3, "ct state new counter"),
        ("d", 8, ""),
    ]


def test_what_nothing_removes_has_no_step() -> None:
    assert steps(STUCK, RULE) == (RunStep(RULE.remove),)
    assert removal_of(judged("tracked", held_by=(STUCK, RULE))).stuck == (STUCK,)


def test_modules_are_removed_once() -> None:
    assert steps(MODULE, MODULE6) == (UnloadStep(("a", "b")),)


def test_two_rules_alike_are_removed_one_by_one() -> None:
    """`-D` with a rule's words removes the first that has them, and leaves the second, which holds as well."""
    assert steps(RULE, replace(RULE, number=2)) == (RunStep(RULE.remove), RunStep(RULE.remove))


def test_a_part_of_a_firewall_is_not_removed() -> None:
    removal = removal_of(judged("tracked", held_by=(FIREWALL_RULE, RULE)))
    assert (removal.steps, removal.removed, removal.kept) == ((RunStep(RULE.remove),), (RULE,), (FIREWALL_RULE,))


def service(number: int) -> Holder:
    rule = f'-A KUBE-SVC -m comment --comment "a {number}\'s" -j DNAT --to-destination 10.0.0.1:{number}'
    words = ("-m", "comment", "--comment", f"a {number}'s", "-j", "DNAT")
    return replace(RULE, number=number, rule=rule, remove=("iptables-nft", "-t", "nat", "-D", "KUBE-SVC", *words))


def test_many_rules_of_iptables_go_in_few_transactions() -> None:
    many = [service(number) for number in range(1, 1001)]
    found = steps(*many)
    assert 1 < len(found) < 10
    texts = []
    for step in found:
        assert isinstance(step, RunStep)
        assert step.argv[:2] == ("sh", "-c")
        assert len(step.argv[2].encode()) < 128 * 1024, "MAX_ARG_STRLEN"
        assert step.argv[2].endswith("COMMIT | iptables-nft-restore --noflush")
        texts += run_command(["sh", "-c", step.argv[2].rpartition(" | ")[0]], 10, 10**6)["stdout"].splitlines()
    assert [line for line in texts if line.startswith("-D")] == [f"-D{one.rule[2:]}" for one in many]
    assert texts.count("*nat") == texts.count("COMMIT") == len(found)


def test_many_rules_of_nft_go_in_one_transaction_and_each_is_checked() -> None:
    many = [replace(OTHER, handle=one, remove=(*OTHER.remove[:-1], str(one))) for one in range(1, 31)]
    (step,) = steps(*many)
    assert isinstance(step, RemoveStep)
    assert step.argv[0] == "nft"
    assert step.argv[1].split(" ; ") == [" ".join(one.remove[1:]) for one in many]
    assert [one.handle for one in step.expected] == list(range(1, 31))


def test_by_number_the_last_rule_goes_first_within_a_transaction() -> None:
    many = [replace(LIMIT, number=one, remove=(*LIMIT.remove[:-1], str(one))) for one in range(20, 0, -1)]
    (step,) = steps(*many)
    assert isinstance(step, RemoveStep)
    places = [word for word in step.argv[2].split("'") if word.startswith("-D INPUT ")]
    assert places == [f"-D INPUT {one}" for one in range(20, 0, -1)]


def test_the_second_plan_is_the_first_with_more_steps() -> None:
    plan = recorded_plan(CELLS / "nat-present,iptables=nft@debian13")
    removal = removal_of(judged("tracked", held_by=(RULE, OTHER, MODULE)))
    second = mitigated(plan, removal)
    assert second.steps[: len(plan.steps)] == plan.steps
    more = [PlannedStep(f"mitigation[{index}]", step) for index, step in enumerate(removal.steps)]
    assert second.steps[len(plan.steps) :] == tuple(more)
    assert replace(second, steps=plan.steps) == plan
    stored = json.loads(json.dumps(second.to_json()))
    assert errors(stored, "plan") == []
    assert planned_commands(stored_plan(stored)) == (RULE.remove, OTHER.remove, MODULE.remove)
    assert planned_commands(stored_plan(json.loads(json.dumps(plan.to_json())))) == ()


# -- a rule and its place ---------------------------------------------------------------------------------------------

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


# -- what came of it --------------------------------------------------------------------------------------------------


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
    for first, second, (hooks, holders), notrack, entries in product(
        ("tracked", "table-full", "evicted", "other-loss"), FINDING_EVIDENCE, proofs, (True, False), (None, 0, 3)
    ):
        later = judged(second, hooks, holders, notrack=notrack, entries=entries)
        found = outcome(judged(first, held_by=(RULE,)), later, REMOVAL)
        assert found.outcome in OUTCOMES
        if found.outcome == "fixes":
            assert (second, hooks is True, holders is True) == ("untracked", False, False)
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


def test_of_a_command_with_hundreds_of_rules_people_read_the_ends() -> None:
    assert command_words(RULE.remove) == " ".join(RULE.remove)
    text = command_words(("sh", "-c", "first " + "-D c rule\n" * 1000 + " last"))
    assert text.startswith("sh -c 'first -D c rule")
    assert text.endswith(" last'")
    assert "[9,419 characters, which mitigation/plan.json has]" in text
    assert len(text) < 700


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
