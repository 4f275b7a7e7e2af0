"""Mitigations: which commands, in which plan."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lab.core.holders.find import holders
from lab.core.holders.model import Holder, Recorded
from lab.core.holders.quoting import saved_words
from lab.core.judging.finding import Finding
from lab.core.mitigation.judged import Judged
from lab.core.mitigation.outcome import called_for
from lab.core.mitigation.removal import mitigated, planned_commands, removal_of
from lab.core.mitigation.ruleset import ListedRule
from lab.core.plan import ExpectedRule, PlannedStep, RemoveStep
from lab.core.scenario import RunStep, UnloadStep
from lab.core.scenario.expectation import FINDING_EVIDENCE
from lab.guest.apply import run_command
from lab.host.machines.playback import recorded_plan
from tests.records import stored_plan
from tests.unit.core.mitigation.made import (
    CELLS,
    FIREWALL_RULE,
    LIMIT,
    LISTED_OTHER,
    MODULE,
    MODULE6,
    OTHER,
    RULE,
    STUCK,
    judged,
)
from tests.unit.host.publish.test_schemas import errors


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


FILTER = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m state --state NEW -j ACCEPT\nCOMMIT\n"


def services(count: int) -> str:
    """As iptables-save prints many rules, and words that have to be quoted."""
    chains = "".join(f":KUBE-SEP-{i} - [0:0]\n" for i in range(count))
    rules = "".join(f"-A KUBE-SEP-{i} -p tcp -j DNAT --to-destination 10.0.0.1:{i}\n" for i in range(count))
    rest = '-A POSTROUTING -m comment --comment "it\'s \\"here\\"" -j MASQUERADE\nCOMMIT\n'
    return f"*nat\n:POSTROUTING ACCEPT [0:0]\n{chains}{rules}{rest}"


def test_each_program_has_its_own_transaction_with_the_words_of_every_rule() -> None:
    found = holders(Recorded((6, 1), iptables_legacy=services(400) + FILTER, ip6tables_legacy=services(20)))
    ip, filtered, ip6 = steps(*found)
    assert filtered == RunStep(next(one.remove for one in found if one.table == "filter")), "few go by themselves"
    for step, program, family in ((ip, "iptables-legacy", "ip"), (ip6, "ip6tables-legacy", "ip6")):
        assert isinstance(step, RunStep)
        text, _, restore = step.argv[2].rpartition(" | ")
        assert restore == f"{program}-restore --noflush"
        first, *lines, last = run_command(["sh", "-c", text], 10, 10**6)["stdout"].splitlines()
        assert (first, last) == ("*nat", "COMMIT")
        its_own = [one for one in found if (one.family, one.table) == (family, "nat")]
        assert [saved_words(line) for line in lines] == [one.remove[3:] for one in its_own]


def test_a_word_with_a_line_end_is_removed_by_its_own_command() -> None:
    rule = '-A INPUT -m comment --comment "a\nb" -m state --state NEW -j ACCEPT\n'
    rest = "".join(f"-A INPUT -p tcp -m mark --mark {number} -m state --state NEW\n" for number in range(20))
    found = holders(Recorded((6, 1), iptables_legacy=f"*filter\n:INPUT ACCEPT [0:0]\n{rule}{rest}COMMIT\n"))
    alone, restored = steps(*found)
    assert alone == RunStep(found[0].remove) and "a\nb" in found[0].remove
    assert isinstance(restored, RunStep) and restored.argv[2].endswith("COMMIT | iptables-legacy-restore --noflush")


def test_a_module_has_a_step_of_its_own_behind_the_rules() -> None:
    rules = "".join(f"\t\tct mark {number} # handle {number}\n" for number in range(1, 21))
    text = f"table ip t {{\n\tchain c {{\n{rules}\t}}\n}}\n"
    found = holders(Recorded((6, 1), nft_text=text, modules="openvswitch 1 0 - Live 0x0\n"))
    (rules_at_once, module) = steps(*found)
    assert isinstance(rules_at_once, RemoveStep) and rules_at_once.argv[1].count("delete rule ip t c handle") == 20
    assert module == UnloadStep(("openvswitch",))


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
