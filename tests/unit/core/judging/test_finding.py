"""Findings: of recorded cells of four kernels, of evidence made up for each rule, and what holds for any evidence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.core.evidence import UNKNOWN_MACHINE, EndTable, Evidence, Sample, Snapshot, parse_samples
from lab.core.facts import Facts
from lab.core.judging.finding import Finding, judge
from lab.core.judging.losses import CAUSES, losses
from lab.core.judging.rules import RULES
from lab.host.results.stored_cell import StoredCell
from tests.recordings import GOLDEN

CELLS = GOLDEN / "cells"
DROPS_UNKNOWN, NO_LOAD = None, None


@dataclass(frozen=True)
class Expected:
    """What a recorded cell shows, read off its evidence by hand."""

    finding: str
    held: int | None
    entries_peak: int | None
    drops: int | None
    message_logged: bool | None


ABSENT = Expected("untracked", 300, None, DROPS_UNKNOWN, False)
DETACHED = Expected("untracked", 300, 0, 0, False)
REFUSED = Expected("state-refused", NO_LOAD, None, DROPS_UNKNOWN, False)


def full(drops: int) -> Expected:
    return Expected("table-full", 100, 100, drops, True)


EXPECTED: Mapping[str, Expected] = {
    "pristine@debian11": ABSENT,
    "pristine@debian12": ABSENT,
    "pristine@debian13": ABSENT,
    "pristine@forky": ABSENT,
    "nat-present,iptables=legacy@debian11": full(150 + 231),
    "nat-present,iptables=legacy@debian12": full(90 + 114),
    "nat-present,iptables=legacy@debian13": full(152 + 142),
    "nat-present,iptables=legacy@forky": full(125 + 150),
    "nat-present,iptables=nft@debian11": full(127 + 93),
    "nat-present,iptables=nft@debian12": full(365 + 4),
    "nat-present,iptables=nft@debian13": full(178 + 159),
    "nat-present,iptables=nft@forky": full(111 + 209),
    "nat-flushed,iptables=legacy@debian11": DETACHED,
    "nat-flushed,iptables=legacy@debian12": DETACHED,
    "nat-flushed,iptables=legacy@debian13": DETACHED,
    "nat-flushed,iptables=legacy@forky": DETACHED,
    "nat-flushed,iptables=nft@debian11": DETACHED,
    "nat-flushed,iptables=nft@debian12": DETACHED,
    "nat-flushed,iptables=nft@debian13": DETACHED,
    "nat-flushed,iptables=nft@forky": DETACHED,
    "modules-blocked,iptables=legacy@debian11": REFUSED,
    "modules-blocked,iptables=nft@debian12": REFUSED,
    "modules-blocked,iptables=legacy@debian13": REFUSED,
    "modules-blocked,iptables=nft@forky": REFUSED,
    "nat-flushed-always-on,iptables=nft@debian11": full(111 + 139),
    "nat-flushed-always-on,iptables=legacy@debian12": full(183 + 172),
    "nat-flushed-always-on,iptables=nft@debian13": full(239 + 146),
    "nat-flushed-always-on,iptables=legacy@forky": full(200),
}

# -- recorded cells ---------------------------------------------------------------------------------------------------


def test_every_recorded_cell_is_in_the_table() -> None:
    assert {path.name for path in CELLS.iterdir() if path.is_dir()} == set(EXPECTED)


@pytest.mark.parametrize("cell", EXPECTED)
def test_a_recorded_cell_gives_its_finding(cell: str) -> None:
    finding = judge(StoredCell(CELLS / cell).evidence())
    measured = finding.measured
    held = measured.connections["held"] if measured.connections else None
    seen = Expected(finding.name, held, measured.entries_peak, measured.drops, measured.message_logged)
    assert seen == EXPECTED[cell], finding.reason


def test_the_recorded_cells_come_from_four_kernels() -> None:
    releases = {StoredCell(CELLS / cell).evidence().kernel_release for cell in EXPECTED}
    assert releases == {
        "5.10.0-32-cloud-amd64",
        "6.1.0-50-cloud-amd64",
        "6.12.107+deb13-cloud-amd64",
        "7.2.12+deb14-cloud-amd64",
    }


def test_a_reason_quotes_its_numbers() -> None:
    reason = judge(StoredCell(CELLS / "nat-present,iptables=nft@debian12").evidence()).reason
    for words in ("100 of 100 entries", "dropped 369 packets", "after 0.50 s", "100 of 300", "200 stalled", "logged"):
        assert words in reason


def test_a_refusal_quotes_the_command_and_what_it_said() -> None:
    reason = judge(StoredCell(CELLS / "modules-blocked,iptables=legacy@debian11").evidence()).reason
    assert "`iptables-legacy --table nat --append POSTROUTING" in reason
    assert "status 3" in reason
    assert "Table does not exist" in reason


# -- evidence made up, rule by rule -----------------------------------------------------------------------------------

MAX = "net.netfilter.nf_conntrack_max"
TRACKER = "nf_conntrack 176128 2 nf_nat,xt_MASQUERADE, Live 0x0000000000000000\n"
FULL_MESSAGE = "4,900,5000000,-;nf_conntrack: nf_conntrack: table full, dropping packet\n"
NETSTAT = "TcpExt: ListenOverflows ListenDrops TCPReqQFullDrop\nTcpExt: {} {} 0\n"


def snapshot(modules: str = TRACKER, **texts: str) -> Snapshot:
    return Snapshot({"modules": modules, "modules_after": modules, "sys_module": "", **texts})


def sample(seconds: float, entries: int | None = 0, table_max: int | None = 100, **counters: int | None) -> Sample:
    """A sample whose `drop` and `early_drop` are 0 unless said otherwise; None is a column that is not there."""
    columns = {"drop": 0, "early_drop": 0, "insert_failed": 0, **counters}
    return Sample(seconds, entries, table_max, {name: value for name, value in columns.items() if value is not None})


def load(
    held: int = 300,
    *,
    wanted: int = 300,
    accepted: int | None = None,
    attempted: int | None = None,
    failed: int = 0,
    lost: int = 0,
    ended: str = "all-held",
    **errors: int,
) -> dict[str, Any]:
    """A load's result; `errors` are those of the client."""
    progress = {
        "attempted": wanted if attempted is None else attempted,
        "held": held,
        "failed": failed,
        "lost": lost,
        "accepted": held if accepted is None else accepted,
    }
    stalled = progress["attempted"] - held - failed - lost
    client = {"errors": errors, "stalled": {"examined": min(stalled, 25), "syn_retransmitted": min(stalled, 25)}}
    return {
        "ended": ended,
        "connections": wanted,
        "progress": progress,
        "clients": [client],
        "servers": [{"errors": {}}],
    }


def setting(after: str = "100", wanted: int = 100, before: str | None = "65536", error: str | None = None) -> Any:
    return {"wanted": wanted, "before": before, "after": after, "error": error}


TRACKED = Evidence(
    settings={MAX: setting("5000", 5000)},
    steps=({"argv": ["true"], "exit_status": 0, "stdout": "", "stderr": ""},),
    reached=True,
    before=snapshot(netstat=NETSTAT.format(0, 0)),
    after=snapshot(netstat=NETSTAT.format(0, 0)),
    samples=(sample(0.0, 0, 5000), sample(1.0, 300, 5000)),
    load=load(),
    kernel_log="",
    facts=Facts("debian12", "6.1.0-50-cloud-amd64"),
)
SHORT = replace(TRACKED, load=load(200, ended="no-movement"), samples=(sample(0, 0, 5000), sample(9, 200, 5000)))
FULL = replace(
    TRACKED,
    settings={MAX: setting()},
    samples=(sample(0.0), sample(0.5, 100, drop=4), sample(1.5, 100, drop=40)),
    load=load(100, ended="table-full"),
    kernel_log=FULL_MESSAGE,
)
# as 6.19 and newer refuse it
REFUSED_SETTING = {
    "values": {"net.netfilter.nf_conntrack_max": "0"},
    "exit_status": 1,
    "stdout": "",
    "stderr": "net.netfilter.nf_conntrack_max: EINVAL",
}
STEP = {"argv": ["modprobe", "nf_conntrack"], "exit_status": 1, "stdout": "", "stderr": "FATAL: no"}
NO_CONNTRACK = replace(
    TRACKED,
    settings={MAX: setting("", before=None, error="ENOENT")},
    before=snapshot("ext4 1 0 - Live 0x0\n"),
    after=snapshot("ext4 1 0 - Live 0x0\n"),
    samples=(Sample(0.0, None, None, None), Sample(1.0, None, None, None)),
)
SLEEPY = "nf_nat 57344 0 - Live 0x0\nnf_conntrack 176128 1 nf_nat, Live 0x0\n"


# evidence -> the finding, and words of its reason
def end_table(entries: int, drop: int) -> Mapping[str, EndTable]:
    return {"client": EndTable(entries, {"drop": drop, "early_drop": 0, "insert_failed": 0})}


# of 300 connections 200 were dropped by the client's own table, which no other knows of
END_FULL = replace(
    TRACKED,
    settings={MAX: setting()},
    samples=tuple(
        replace(sample(seconds), ends=end_table(entries, drop))
        for seconds, entries, drop in ((0.0, 0, 0), (0.5, 100, 120), (1.5, 100, 400))
    ),
    load=load(100, ended="no-movement"),
)
DEAD = replace(FULL, load={**load(), "exchange": {"asked": 300, "answered": 100}})
MADE_UP: Mapping[str, tuple[Evidence, str, str]] = {
    "no path": (
        replace(TRACKED, path_error="`ip link add lab-br0 type bridge` ended with 2: Unknown device type"),
        "inconclusive",
        "could not be made: `ip link add lab-br0 type bridge` ended with 2",
    ),
    "a step under the load": (
        replace(TRACKED, load={**load(), "during": {"reached": False, "steps": [STEP]}}),
        "inconclusive",
        "under the load",
    ),
    "a full table of an end": (END_FULL, "table-full", "network namespace lab-client reached its max (100 of 100"),
    "open and dead": (DEAD, "table-full", "300 of 300 connections were held, 200 open and dead"),
    "tracked": (TRACKED, "tracked", "entries went from 0 to at most 300 (max 5000)"),
    "lost": (replace(FULL, lost="QEMU ended with status -9"), "inconclusive", "QEMU ended with status -9"),
    "refused step": (replace(TRACKED, reached=False, steps=(STEP,)), "state-refused", "status 1: FATAL: no"),
    "refused in silence": (
        replace(TRACKED, reached=False, steps=({**STEP, "stderr": ""},)),
        "state-refused",
        "it printed nothing",
    ),
    "not refused though it should": (
        replace(TRACKED, reached=False, steps=({**STEP, "exit_status": 0},)),
        "state-refused",
        "should have been refused, but succeeded",
    ),
    "refused file": (
        replace(TRACKED, reached=False, steps=({"path": "/etc/x", "exit_status": 1, "stderr": "EROFS"},)),
        "state-refused",
        "`/etc/x` ended with status 1: EROFS",
    ),
    "refused without any step": (
        replace(TRACKED, reached=False, steps=(), settings=None),
        "inconclusive",
        "not recorded",
    ),
    "state not reached": (replace(TRACKED, reached=None), "inconclusive", "not applied to its end"),
    "no evidence before": (replace(TRACKED, before=None), "inconclusive", "was not recorded"),
    "nothing set": (replace(TRACKED, settings=None), "inconclusive", "was not recorded"),
    "observer effect before": (
        replace(TRACKED, before=snapshot("", modules_after=SLEEPY)),
        "inconclusive",
        "the state before the load was recorded, by the recording or by something else: nf_conntrack, nf_nat",
    ),
    "observer effect after": (
        replace(TRACKED, after=snapshot("nf_conntrack 1 0 - Live 0x0\n", modules_after=SLEEPY)),
        "inconclusive",
        "the state after the load was recorded, by the recording or by something else: nf_nat",
    ),
    "max not set": (replace(TRACKED, settings={MAX: setting("65536")}), "inconclusive", "set to 100: it is 65536"),
    "max refused": (replace(TRACKED, settings={MAX: setting(error="EPERM")}), "inconclusive", "EPERM"),
    "timeout refused": (
        replace(TRACKED, settings={"net.netfilter.x": setting(error="EINVAL")}),
        "inconclusive",
        "net.netfilter.x could not be set",
    ),
    "load without an end": (replace(TRACKED, load=None), "inconclusive", "the load did not end"),
    "load not driven": (
        replace(TRACKED, load={"ended": "not-driven", "error": "server 1 crashed"}),
        "inconclusive",
        "server 1 crashed",
    ),
    "no samples": (replace(TRACKED, samples=()), "inconclusive", "no samples"),
    "table full": (FULL, "table-full", "dropped 40 packets, the first after 0.50 s"),
    "table full in silence": (replace(FULL, kernel_log=""), "table-full", "message was not logged"),
    "table full, log unknown": (replace(FULL, kernel_log=None), "table-full", "message is unknown"),
    "evicted": (
        replace(FULL, samples=(sample(0), sample(1, 100, early_drop=7)), load=load(300)),
        "evicted",
        "7 entries were evicted",
    ),
    "evicted between two samples": (
        replace(FULL, samples=(sample(0), sample(1, 98, early_drop=7)), load=load(300)),
        "evicted",
        "(the fullest has 98 of 100 entries) and 7 entries were evicted",
    ),
    "evicted and dropped between two samples": (
        replace(FULL, samples=(sample(0), sample(1, 98, early_drop=7, drop=1))),
        "table-full",
        "dropped 1 packets",
    ),
    "evicted and dropped": (
        replace(FULL, samples=(sample(0), sample(1, 100, early_drop=7, drop=1))),
        "table-full",
        "dropped 1 packets",
    ),
    "no table to read": (
        replace(TRACKED, samples=(sample(0, None), sample(1, None))),
        "inconclusive",
        "nf_conntrack_count cannot be read",
    ),
    "table came during the load": (
        replace(TRACKED, samples=(Sample(0, None, None, None), sample(1, 300, 5000))),
        "inconclusive",
        "nf_conntrack_count cannot be read",
    ),
    "full without a drop column": (
        replace(FULL, samples=(sample(0, drop=None), sample(1, 100, drop=None))),
        "inconclusive",
        "drop counter cannot be read",
    ),
    "full without any column": (
        replace(FULL, samples=(Sample(0, 0, 100, None), Sample(1, 100, 100, None))),
        "inconclusive",
        "drop counter cannot be read",
    ),
    "evicted, drops unknown": (
        replace(FULL, samples=(sample(0, drop=None), sample(1, 100, drop=None, early_drop=3)), load=load(300)),
        "inconclusive",
        "drop counter cannot be read",
    ),
    "short, drops unknown": (
        replace(SHORT, samples=(sample(0, 0, 5000, drop=None), sample(1, 200, 5000, drop=None))),
        "inconclusive",
        "drop counter cannot be read",
    ),
    "full, counters reset": (
        replace(FULL, samples=(sample(0, drop=9), sample(1, 100, drop=0)), kernel_log=""),
        "inconclusive",
        "drop counter began again",
    ),
    "absent": (NO_CONNTRACK, "untracked", "nf_conntrack is not loaded, and not built into"),
    "absent, not all held": (replace(NO_CONNTRACK, load=load(200, ended="no-movement")), "other-loss", "unknown"),
    "built in": (
        replace(NO_CONNTRACK, after=snapshot("", sys_module="nf_conntrack\n")),
        "inconclusive",
        "cannot be read",
    ),
    "absent before, afterwards unknown": (replace(NO_CONNTRACK, after=None), "inconclusive", "cannot be read"),
    "present, unused": (
        replace(TRACKED, samples=(sample(0), sample(1))),
        "untracked",
        "entries went from 0 to at most 0",
    ),
    "held in spite of drops": (
        replace(TRACKED, samples=(sample(0, 0, 5000), sample(1, 300, 5000, drop=2))),
        "tracked",
        "the drop counter rose by 2",
    ),
    "still moving at the deadline": (
        replace(SHORT, load=load(200, ended="deadline")),
        "inconclusive",
        "fell short within its time: 200 of 300",
    ),
    "a setting that is refused": (
        replace(TRACKED, reached=False, steps=(REFUSED_SETTING,)),
        "state-refused",
        "`net.netfilter.nf_conntrack_max=0` ended with status 1: net.netfilter.nf_conntrack_max: EINVAL",
    ),
    "a step that did not end": (
        Evidence(reached=False, steps=({"argv": ["sleep", "9"], "exit_status": 124, "stdout": "", "stderr": ""},)),
        "inconclusive",
        "`sleep 9` did not end in time",
    ),
    "a refused step whose program is missing": (
        replace(TRACKED, steps=({"argv": ["nosuch"], "exit_status": 127, "stdout": "", "stderr": ""},)),
        "inconclusive",
        "`nosuch` is not in this machine",
    ),
    "never tried": (
        replace(SHORT, load=load(200, attempted=200, ended="no-movement")),
        "inconclusive",
        "100 untried",
    ),
    "skipped": (
        replace(TRACKED, skipped="the kernel has no iptable_nat", steps=(), reached=None),
        "skipped",
        "has no iptable_nat",
    ),
    "a hole in the log": (
        replace(FULL, kernel_log="", kernel_log_holes={"overwritten": 1}),
        "table-full",
        "is unknown",
    ),
    "a cut log": (replace(FULL, kernel_log="", kernel_log_holes={"truncated": True}), "table-full", "is unknown"),
    "a log without holes": (
        replace(FULL, kernel_log="", kernel_log_holes={"overwritten": 0, "truncated": False}),
        "table-full",
        "was not logged",
    ),
    "the max was written back": (
        replace(
            TRACKED,
            settings={MAX: setting("100")},
            after=snapshot("", processes="7 1 /usr/sbin/pve-firewall start\n", modules_after=""),
        ),
        "tracked",
        "it went from 100 to 5000; running besides: `/usr/sbin/pve-firewall start`",
    ),
    "a flood that is refused": (
        replace(
            FULL,
            samples=(sample(0.0), sample(0.5, 100, drop=4), sample(1.5, 100, drop=200)),
            load={**load(100, failed=200), "kind": "udp", "servers": [], "clients": [{"errors": {"EPERM": 200}}]},
        ),
        "table-full",
        "100 of 300 datagrams were sent, 200 failed; the kernel's message was logged; EPERM 200 times",
    ),
    "newcomers to a table of half-open entries": (
        replace(
            FULL,
            samples=(sample(0), sample(1, 100, early_drop=7)),
            load={
                **load(300),
                "kind": "half-open",
                "newcomers": {"connections": 50, "attempted": 50, "held": 48, "accepted": 48},
            },
        ),
        "evicted",
        "300 of 300 SYNs were sent; of 50 newcomers 48 got through",
    ),
    "what the table costs": (
        replace(
            TRACKED,
            after=snapshot(
                slabinfo="slabinfo - version: 2.1\n"
                "# name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables\n"
                "nf_conntrack 20000 20480 256 16 1 : tunables 0 0 0\n",
                sysctl="/proc/sys/net/netfilter/nf_conntrack_buckets: 32768\n",
            ),
        ),
        "tracked",
        "kernel memory: 5.0 MiB for entries of 256 bytes, 0.2 MiB for 32768 buckets",
    ),
    "connections that come and go": (
        replace(TRACKED, load={**load(300), "kind": "churn", "open_peak": 12}),
        "tracked",
        "300 of 300 connections were opened and closed; at most 12 were open at once",
    ),
    "dropped below max": (
        replace(SHORT, samples=(sample(0, 0, 5000), sample(1, 200, 5000, drop=3))),
        "other-loss",
        "conntrack drop below max (drop rose by 3, entries reached 200)",
    ),
}


@pytest.mark.parametrize("name", MADE_UP)
def test_evidence_made_up_for_a_rule(name: str) -> None:
    evidence, expected, words = MADE_UP[name]
    finding = judge(evidence)
    assert (finding.name, words in finding.reason) == (expected, True), finding.reason


def test_every_rule_decides_somewhere() -> None:
    decided = set()
    for evidence, _, _ in MADE_UP.values():
        measured = judge(evidence).measured
        lost = losses(evidence, measured)
        decided.add(next(rule for rule in RULES if rule(evidence, measured, lost) is not None))
    assert decided == set(RULES)


# -- what lost the connections ----------------------------------------------------------------------------------------


def backlog(overflows: int, dropped: int) -> Evidence:
    return replace(SHORT, after=snapshot(netstat=NETSTAT.format(overflows, dropped)))


def failing(error: str, count: int) -> dict[str, Any]:
    """A load whose connects failed so often with one errno."""
    result = load(200, failed=count)
    result["clients"][0]["errors"] = {error: count}
    return result


LOSSES: Mapping[str, tuple[Evidence, str, str]] = {
    **{
        error: (replace(SHORT, load=failing(error, 100)), cause, f"{error} 100 times")
        for error, cause in CAUSES.items()
    },
    "an unknown errno": (replace(SHORT, load=load(200, attempted=209, failed=9, EPROTO=9)), "EPROTO", "EPROTO 9 times"),
    "the commonest errno": (
        replace(SHORT, load=load(200, failed=100, EMFILE=10, EADDRNOTAVAIL=90)),
        "ephemeral ports",
        "EMFILE 10 times, EADDRNOTAVAIL 90 times",
    ),
    "lost": (
        replace(SHORT, load=load(200, lost=100)),
        "closed by the other side",
        "100 established connections were closed",
    ),
    "overflows": (backlog(240, 240), "accept backlog", "TcpExt.ListenOverflows rose by 240"),
    "unaccepted": (
        replace(SHORT, load=load(300, accepted=280, ended="no-movement")),
        "unknown",
        "20 connected and were not accepted",
    ),
    "unanswered": (SHORT, "unknown", "25 of 25 stalled connects sent their SYN again"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_another_loss_names_its_cause(name: str) -> None:
    evidence, cause, words = LOSSES[name]
    finding = judge(evidence)
    assert (finding.name, finding.cause) == ("other-loss", cause), finding.reason
    assert words in finding.reason


def test_an_overflow_that_nobody_could_count_is_said_to_be_unknown() -> None:
    finding = judge(replace(backlog(12, 12), after=None))
    assert (finding.name, finding.cause) == ("other-loss", "unknown")
    assert "whether the accept queue overflowed is unknown" in finding.reason
    assert "overflowed" not in judge(SHORT).reason


def test_the_errors_of_servers_count_too() -> None:
    result = load(200)
    result["servers"] = [{"errors": {"EMFILE": 3}}, {}]
    assert judge(replace(SHORT, load=result)).cause == "file descriptors"


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_a_max_that_changed_meanwhile_is_told_with_every_value() -> None:
    samples = (sample(0, 0, 100), sample(0.5, 100, 200), sample(1, 100, 100, drop=5))
    measured = judge(replace(FULL, samples=samples)).measured
    assert (measured.max_changed, measured.table_max) == ((100, 200), 100)
    assert judge(FULL).measured.max_changed == ()


def test_a_table_is_full_by_the_max_of_that_moment() -> None:
    samples = (sample(0, 0, 50), sample(1, 99, 100, drop=5), sample(2, 99, 500, drop=9))
    finding = judge(replace(FULL, samples=samples, load=load(99)))
    assert (finding.name, finding.measured.reached_max) == ("other-loss", False)


def test_a_max_of_zero_is_no_bound() -> None:
    evidence = replace(TRACKED, settings={}, samples=(sample(0, 0, 0), sample(1, 300, 0)))
    assert judge(evidence).name == "tracked"


def test_what_cannot_be_counted_is_none_and_never_zero() -> None:
    measured = judge(replace(NO_CONNTRACK, kernel_log=None)).measured
    unknown = (
        measured.drops,
        measured.early_drops,
        measured.insert_failed,
        measured.entries_before,
        measured.entries_peak,
        measured.new_entries,
        measured.table_max,
        measured.first_drop_seconds,
        measured.message_logged,
    )
    assert unknown == (None,) * 9


def test_a_counter_that_wraps_goes_on_counting() -> None:
    samples = (sample(0, drop=2**32 - 1), sample(1, 100, drop=4))
    assert judge(replace(FULL, samples=samples)).measured.drops == 5


# -- garbage ----------------------------------------------------------------------------------------------------------

GARBAGE: Mapping[str, Evidence] = {
    "modules": replace(NO_CONNTRACK, before=snapshot("not a module list\n")),
    "netstat": replace(SHORT, after=snapshot(netstat="TcpExt: A B\nTcpExt: 1\n")),
    "kernel log": replace(FULL, kernel_log="no record\nat all\n"),
    "steps": replace(TRACKED, reached=False, steps=({"argv": 7},)),
    "settings": replace(TRACKED, settings={MAX: {"before": None}}),
    "settings of a kind": replace(TRACKED, settings={MAX: "100"}),
    "progress": replace(TRACKED, load={**load(), "progress": {"held": 300}}),
    "progress of a kind": replace(TRACKED, load={**load(), "progress": [300]}),
    "infinite progress": replace(TRACKED, load={**load(), "progress": {**load()["progress"], "held": float("inf")}}),
    "clients": replace(SHORT, load={**load(200), "clients": {"a": 1}}),
    "errors": replace(SHORT, load={**load(200), "servers": [{"errors": {"EMFILE": "many"}}]}),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_inconclusive_and_never_a_traceback(name: str) -> None:
    finding = judge(GARBAGE[name])
    assert finding.name == "inconclusive"
    assert "cannot be read" in finding.reason


# -- what holds for any evidence --------------------------------------------------------------------------------------


def verdict(finding: Finding) -> tuple[Any, ...]:
    return finding.name, finding.reason, finding.cause, finding.measured


HEADER = "entries drop early_drop insert_failed"
numbers = st.integers(0, 3)
raw_samples = st.fixed_dictionaries(
    {
        "seconds": st.sampled_from([0, 0.5, 1]),
        "count": st.none() | st.integers(0, 100).map(str),
        "max": st.none() | st.sampled_from(["100", "50"]),
        "stat": st.none()
        | st.tuples(numbers, numbers, numbers).map(lambda row: f"{HEADER}\n0 {row[0]:x} {row[1]:x} {row[2]:x}\n")
        | numbers.map(lambda entries: f"entries searched\n{entries:x} 0\n"),
        "attempted": numbers,
        "held": numbers,
        "failed": numbers,
        "lost": numbers,
        "accepted": numbers,
    }
)


@given(raws=st.lists(raw_samples, min_size=2, max_size=8), data=st.data())
def test_the_order_of_samples_in_the_file_never_matters(raws: list[dict[str, Any]], data: st.DataObject) -> None:
    """Those of the same time, too: all times here are among three."""
    shuffled = data.draw(st.permutations(raws))
    for evidence in (TRACKED, FULL, SHORT):
        first, second = (
            judge(replace(evidence, samples=parse_samples(map(json.dumps, order)))) for order in (raws, shuffled)
        )
        assert verdict(first) == verdict(second)


EVIDENCE_FILES = sorted(
    {str(path.relative_to(CELLS / cell)) for cell in EXPECTED for path in (CELLS / cell).rglob("*")}
)
# one cell of each finding that the recorded cells have, and the two that are untracked for different reasons
REPRESENTATIVES = (
    "pristine@forky",
    "nat-present,iptables=nft@debian13",
    "nat-flushed,iptables=legacy@debian11",
    "modules-blocked,iptables=nft@debian12",
)


@pytest.mark.parametrize("cell", REPRESENTATIVES)
def test_without_a_file_the_finding_is_the_same_or_inconclusive(cell: str, tmp_path: Path) -> None:
    """What is missing was not seen; it must not be taken for a zero, nor for the absence of conntrack."""
    whole = judge(StoredCell(CELLS / cell).evidence())
    for name in EVIDENCE_FILES:
        if not (CELLS / cell / name).exists():
            continue
        folder = tmp_path / name.replace("/", "_")
        shutil.copytree(CELLS / cell, folder)
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
        partly = judge(StoredCell(folder).evidence())
        assert partly.name in (whole.name, "inconclusive"), f"without {name}: {partly.reason}"
        assert_known_values_agree(partly, whole, name)


def assert_known_values_agree(partly: Finding, whole: Finding, name: str) -> None:
    for field in ("drops", "early_drops", "insert_failed", "entries_before", "entries_peak", "table_max"):
        known = getattr(partly.measured, field)
        assert known is None or known == getattr(whole.measured, field), f"without {name} {field} became {known}"
    if partly.name != "inconclusive":
        assert partly.cause == whole.cause


def blind(snapshot: Snapshot | None, names: Sequence[str]) -> Snapshot | None:
    return None if snapshot is None else Snapshot({k: v for k, v in snapshot.texts.items() if k not in names})


Blinding = Callable[[Evidence], Evidence]
BLINDINGS: Mapping[str, Blinding] = {
    "settings": lambda evidence: replace(evidence, settings=None),
    "steps": lambda evidence: replace(evidence, steps=(), reached=None),
    "before": lambda evidence: replace(evidence, before=None),
    "after": lambda evidence: replace(evidence, after=None),
    "modules": lambda evidence: replace(evidence, before=blind(evidence.before, ["modules"])),
    "sys_module": lambda evidence: replace(evidence, after=blind(evidence.after, ["sys_module"])),
    "samples": lambda evidence: replace(evidence, samples=()),
    "load": lambda evidence: replace(evidence, load=None),
    "log": lambda evidence: replace(evidence, kernel_log=None),
    "counters": lambda evidence: replace(
        evidence, samples=tuple(replace(one, counters=None) for one in evidence.samples)
    ),
    "entries": lambda evidence: replace(
        evidence, samples=tuple(replace(one, entries=None) for one in evidence.samples)
    ),
    "release": lambda evidence: replace(evidence, facts=UNKNOWN_MACHINE),
}
CONCLUSIVE = sorted(name for name, (_, finding, _) in MADE_UP.items() if finding != "inconclusive")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(CONCLUSIVE), blinded=st.sets(st.sampled_from(sorted(BLINDINGS)), min_size=1))
def test_what_was_not_seen_never_makes_another_finding(name: str, blinded: set[str]) -> None:
    """Less evidence leads to the same finding or to `inconclusive`, whatever is missing."""
    evidence, expected, _ = MADE_UP[name]
    for one in blinded:
        evidence = BLINDINGS[one](evidence)
    assert judge(evidence).name in (expected, "inconclusive")
