"""What belongs to the load: its entries in the table, drops between samples, and the kernel's message by its place."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from lab.core.evidence import Evidence, Sample, Snapshot
from lab.core.judging.attribution import LoadEntries, Unattributed, attribute
from lab.core.judging.finding import judge
from lab.core.judging.messages import messages
from lab.core.judging.rises import resets, steps, total
from lab.core.kernel import kmsg
from tests.unit.core.judging.test_finding import FULL, SHORT, TRACKED, load, sample

STATEFUL = (
    "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n"
    "*raw\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
)
NOTRACK = STATEFUL.replace(":OUTPUT ACCEPT [0:0]\n", ":OUTPUT ACCEPT [0:0]\n-A OUTPUT -p tcp -j CT --notrack\n")


def look(own: int, others: int = 0, cut: bool = False, error: str | None = None, port: int = 7777) -> dict[str, Any]:
    groups = [["tcp", "ESTABLISHED", port, own]] if own else []
    rows = {"ipv4": own + others, "ipv6": 0}
    return {"seconds": 1.0, "load": own, "rows": rows, "groups": groups, "cut": cut, "error": error}


def looked(evidence: Evidence, *looks: dict[str, Any], held_resent: int | None = 0) -> Evidence:
    """The evidence, of a load during which the table was looked at."""
    content = {**(evidence.load or {}), "looks": [look(0), *looks]}
    content["clients"] = [{**content["clients"][0], "held_resent": held_resent}]
    return replace(evidence, load=content)


def ruled(text: str, evidence: Evidence) -> Evidence:
    """The evidence, with rules of iptables-legacy before and after."""
    errors = dict.fromkeys(("iptables-nft-save", "ruleset.nft", "ruleset.json"), "nf_tables is not loaded")
    texts = {"modules": "nf_conntrack 1 1 - Live 0x0\n", "iptables-legacy-save": text}
    rules = Snapshot(texts, errors)
    return replace(evidence, before=rules, after=rules)


def clash(entries: int, failed: int) -> Sample:
    counters = {"entries": entries, "drop": failed, "early_drop": 0, "insert_failed": failed}
    return Sample(1.0, entries, 300, counters)


def late(wanted: int, held: int) -> dict[str, int]:
    return {"connections": wanted, "attempted": wanted, "held": held, "failed": 0, "lost": 0, "accepted": held}


GROWN = replace(TRACKED, samples=(sample(0.0, 40, 5000), sample(1.0, 340, 5000)))
STEADY = replace(TRACKED, samples=(sample(0.0, 3000, 5000), sample(1.0, 3000, 5000)))
BRIM = (sample(0.0, 0, 300), sample(0.5, 300, 300), sample(1.0, 300, 300, drop=7))

# evidence -> the finding, and words of its reason
CASES: Mapping[str, tuple[Evidence, str, str]] = {
    "entries of somebody else": (
        looked(GROWN, look(0, 300)),
        "untracked",
        "had no entry of the 300 connections; of anything else there were at most 300",
    ),
    "old entries go as the load's come": (
        looked(STEADY, look(300, 2700)),
        "tracked",
        "all 300 connections had entries of their own",
    ),
    "a part": (
        looked(GROWN, look(150, port=7781)),
        "tracked",
        "150 of 300 connections had entries of their own at the fullest moment (50%, to port 7781)",
    ),
    "entries that were gone at the end": (looked(GROWN, look(300), look(0)), "tracked", "all 300 connections"),
    "a table that cannot be read": (looked(GROWN, look(0, error="ENOENT")), "inconclusive", "cannot be read (ENOENT)"),
    "a table that was read in part": (
        looked(GROWN, look(0, 9, cut=True)),
        "inconclusive",
        "could not be read to its end",
    ),
    "no entry although rules hold conntrack": (
        ruled(STATEFUL, looked(GROWN, look(0))),
        "inconclusive",
        "the rulesets before and after the load hold conntrack",
    ),
    "no entry, and notrack explains it": (ruled(NOTRACK, looked(GROWN, look(0))), "untracked", "no entry of the 300"),
    "a full table that others fill and drop in": (
        looked(replace(TRACKED, samples=BRIM), look(0, 300)),
        "untracked",
        "the drop counter rose by 7, for packets that were not the load's",
    ),
    "a table that the load fills to the brim, and others drop in": (
        looked(replace(TRACKED, samples=BRIM), look(300)),
        "tracked",
        "for packets that were not the load's",
    ),
    "the same, and a connection had to try again": (
        looked(replace(TRACKED, samples=BRIM), look(300), held_resent=1),
        "table-full",
        "300 of 300 connections were held",
    ),
    "others are evicted, the load is whole": (
        looked(replace(TRACKED, samples=(sample(0, 0, 300), sample(1, 300, 300, early_drop=9))), look(300)),
        "tracked",
        "9 entries were evicted, none of the load's",
    ),
    "old entries make room for the load's": (
        looked(replace(TRACKED, samples=(sample(0, 50, 300), sample(1, 300, 300, early_drop=50))), look(300)),
        "evicted",
        "50 entries were evicted",
    ),
    "the load's own are evicted": (
        looked(replace(TRACKED, samples=(sample(0, 0, 300), sample(1, 300, 300, early_drop=9))), look(291)),
        "evicted",
        "9 entries were evicted",
    ),
    "a clash at the brim": (
        looked(replace(TRACKED, samples=(sample(0, 0, 300), clash(300, 3))), look(300)),
        "tracked",
        "the drop counter rose by 3",
    ),
    "lost, untracked, and others' drops": (
        looked(replace(SHORT, samples=BRIM, load=load(200, ended="no-movement")), look(0, 300)),
        "inconclusive",
        "whose packets these were cannot be told",
    ),
    "the load's own address was there before": (
        replace(GROWN, load={**load(), "looks": [look(3), look(300)]}),
        "inconclusive",
        "were there before it began",
    ),
    "newcomers that were lost": (
        looked(replace(TRACKED, load={**load(), "newcomers": late(50, 48)}), look(300)),
        "other-loss",
        "of 50 newcomers 48 got through",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_number_counts_only_if_it_is_the_loads(name: str) -> None:
    evidence, expected, words = CASES[name]
    finding = judge(evidence)
    assert (finding.name, words in finding.reason) == (expected, True), finding.reason


def test_a_recording_without_looks_is_judged_by_the_count() -> None:
    assert attribute({}) == Unattributed("this recording has no look at the table", recorded=False)
    assert judge(GROWN).name == "tracked"
    assert judge(STEADY).name == "untracked"


def test_the_fullest_look_and_the_last_count() -> None:
    found = attribute({"looks": [look(0, 2), look(8, 5), look(3, 9)]})
    assert found == LoadEntries(3, 8, 3, 9, False, (("tcp", "ESTABLISHED", 7777, 8),))


@pytest.mark.parametrize(
    "damage", [{"load": -1}, {"load": "7"}, {"load": True}, {"cut": None}, {"rows": {"ipv4": None}}]
)
def test_a_look_that_is_none_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        attribute({"looks": [{**look(1), **damage}]})
    assert judge(replace(TRACKED, load={**load(), "looks": [{**look(1), **damage}]})).name == "inconclusive"


# -- ports of which nothing got through -------------------------------------------------------------------------------


def by_port(*ports: list[int]) -> Evidence:
    """200 of 300 held, 100 stalled, in a table that others fill, and that drops."""
    content = load(200, ended="no-movement")
    content["clients"] = [{**content["clients"][0], "ports": list(ports)}]
    return looked(replace(SHORT, load=content, samples=(sample(0, 0, 300), sample(1, 300, 300, drop=900))), look(200))


def test_want_of_room_strikes_at_all_ports_alike() -> None:
    finding = judge(by_port([7777, 100, 50], [7778, 100, 50]))
    assert finding.name == "table-full"
    assert [(loss.cause, loss.connections) for loss in finding.losses] == [("full table", 100)]


def test_a_port_of_which_nothing_got_through_is_not_for_want_of_room() -> None:
    finding = judge(by_port([7777, 100, 0], [7778, 100, 0], [7779, 0, 100]))
    assert (finding.name, finding.cause) == ("other-loss", "a filter of ports")
    assert [(loss.cause, loss.connections) for loss in finding.losses] == [("a filter of ports", 100)]
    assert "every connect to port 7779 and not those to others" in finding.losses[0].detail


def test_few_tries_may_all_have_met_a_full_table() -> None:
    assert judge(by_port([7777, 199, 96], [7778, 1, 0], [7779, 0, 4])).name == "table-full"


# -- counters, step by step -------------------------------------------------------------------------------------------


def test_drops_count_in_the_interval_in_which_the_table_was_full() -> None:
    samples = (
        sample(0, 0),
        sample(1, 50, drop=5),
        sample(2, 100, drop=9),
        sample(3, 100, drop=10),
        sample(4, 5, drop=12),
    )
    assert [(step.full, step.drop) for step in steps(samples)] == [(False, 5), (True, 4), (True, 1), (True, 2)]
    assert total(samples, "drop") == 12
    assert judge(replace(FULL, samples=samples)).measured.dropped_for_room == 7


def test_a_step_back_is_a_reset_and_hides_nothing_that_came_before_or_after() -> None:
    samples = (sample(0, 0, drop=3), sample(1, 100, drop=9), sample(2, 0, drop=1), sample(3, 100, drop=4))
    assert (total(samples, "drop"), resets(samples)) == (10, 1)
    assert "the counters began again once" in judge(replace(FULL, samples=samples)).reason


def test_counters_of_a_module_that_came_meanwhile_began_at_zero() -> None:
    samples = (Sample(0.0, None, None, None), sample(1, 100, drop=4), sample(2, 100, drop=6))
    assert total(samples, "drop") == 6


def test_entries_and_max_are_quoted_from_one_sample() -> None:
    samples = (sample(0, 0, 5000), sample(1, 1500, 200, drop=3), sample(2, 1600, 100_000, drop=3))
    assert "its max (1500 of 200 entries)" in judge(replace(FULL, samples=samples)).reason


# -- the kernel's message ---------------------------------------------------------------------------------------------

TEXT = "4,{},{},-;nf_conntrack: nf_conntrack: table full{}, dropping packet\n"


def log(*lines: str) -> str:
    return "".join(
        line if line.startswith("4,") else f"5,{number},{number},-;{line}\n"
        for number, line in enumerate(lines, start=10)
    )


def test_a_message_counts_by_its_place_among_the_marks() -> None:
    old, during = TEXT.format(11, 11, ""), TEXT.format(13, 13, " in netns 4026532171")
    whole = log("a cell begins", old, kmsg.LOAD_BEGINS, during, kmsg.LOAD_ENDS)
    found = messages(Evidence(kernel_log=whole))
    assert (found.during, found.before, found.namespaces) == (True, True, (4026532171,))
    found = messages(Evidence(kernel_log=log("a cell begins", old, kmsg.LOAD_BEGINS, kmsg.LOAD_ENDS)))
    assert (found.during, found.before) == (False, True)
    after = log("a cell begins", kmsg.LOAD_BEGINS, kmsg.LOAD_ENDS, TEXT.format(13, 13, ""))
    assert (messages(Evidence(kernel_log=after)).during, messages(Evidence(kernel_log=after)).before) == (False, False)


def test_a_message_beside_no_drops_is_another_namespaces() -> None:
    during = log(kmsg.LOAD_BEGINS, TEXT.format(11, 11, " in netns 4026532171"), kmsg.LOAD_ENDS)
    finding = judge(replace(looked(TRACKED, look(0)), kernel_log=during))
    assert finding.name == "untracked"
    assert "full table of another network namespace (net namespace 4026532171)" in finding.reason


def test_an_old_message_is_said_to_be_old() -> None:
    text = log(TEXT.format(10, 10, ""), kmsg.LOAD_BEGINS, kmsg.LOAD_ENDS)
    finding = judge(replace(FULL, kernel_log=text))
    assert "was not logged during the load, but before it" in finding.reason
    assert finding.measured.message_logged is False


def test_a_finding_can_be_sent_from_the_process_that_judged() -> None:
    for evidence, _, _ in CASES.values():
        finding = judge(evidence)
        assert pickle.loads(pickle.dumps(finding)) == finding
