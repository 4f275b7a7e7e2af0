"""`lab inspect` of real guests: at a scenario's state it says what the lab finds when it drives a load there, by the
recorder, which loads no module and writes no setting; and the scenario of that record gives the same finding, by the
same holders.

LAB_TEST_INSPECT=all runs it for every variant of every shipped scenario (three quarters of an hour, emulated).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.core.inspecting.inspection import Inspection
from lab.core.scenario import with_sources
from lab.host.inspecting.scenario_file import write_scenario
from lab.host.scenario_files import load_scenario
from tests.vm.conftest import Guests, Ran
from tests.vm.host_records import (
    LATER,
    PROTOCOLS,
    TRACKED,
    as_recorded,
    recorded,
    recording,
    said_of_load,
    shipped_variants,
)

log = logging.getLogger(__name__)

QUICK = {
    "pristine": {},
    "nat-present": {"iptables": "nft"},
    "wrong-backend-flushed": {"iptables": "legacy"},
    "nat-notrack": {"iptables": "legacy"},
    "unhooked-chain": {},
    "nat-flushed-always-on": {"iptables": "legacy"},
    "max-raised": {"iptables": "nft"},
}
# whose record's scenario gives another finding, and why
DIFFERENT = {
    "bridge-untracked": "the bridge that passes the hooks by is not carried: the load of the scenario crosses none",
    "nat-ports-exhausted": "its rule is for what passes through: a record does not say what does; the load does not",
    "rule-under-load": "it is recorded before the rule comes",
    "tc-act-ct": "the filter that tracks is not carried",
}
NFT_NOTRACK = """
version = 1
name = "nft-notrack"
summary = "Chains of nft keep every packet out before conntrack, and a rule needs it. Is it tracked?"
[[state]]
file = { path = "/root/rules.nft", text = '''
table inet kept {
    chain before { type filter hook prerouting priority -300; notrack; }
    chain sent { type filter hook output priority raw + 5; counter notrack; }
    ct helper file { type "ftp" protocol tcp; }
    chain later {
        type filter hook input priority filter
        ct state established accept
        tcp dport 21 ct helper set "file"
    }
}
''' }
[[state]]
run = ["nft", "-f", "/root/rules.nft"]
[conntrack]
max = 100
[load]
connections = 300
"""


def chosen_variants() -> list[tuple[str, dict[str, Any]]]:
    """The scenarios to look at, each with its axes."""
    if os.environ.get("LAB_TEST_INSPECT") != "all":
        return [(name, dict(axes)) for name, axes in QUICK.items()]
    return [(variant.scenario.name, dict(variant.axes)) for variant in shipped_variants()]


@pytest.mark.parametrize(("name", "axes"), chosen_variants(), ids=str)
def test_it_says_what_the_lab_finds(
    guests: Guests, shipped: Callable[[str], str], tmp_path: Path, name: str, axes: dict[str, Any]
) -> None:
    moment = LATER.get(name, "state")
    text = as_recorded(name, shipped(name))
    chosen = {key: str(value) for key, value in axes.items()}
    settings = guests.jobs(text, **chosen)[0].plan.settings
    job = guests.jobs(recording(text, "zipapp", settings, moment), **chosen)[0]
    ran = asyncio.run(guests.run_async(job))
    inspection, record = recorded(ran, tmp_path, moment)
    attached, answer = said_of_load(inspection, job.plan.machine.path, PROTOCOLS.get(job.plan.load.kind, "tcp"))
    again = made_again(guests, inspection, tmp_path)
    held = [places(result["holders"] or []) for result in (ran.result, again.result)]
    row = (name, axes, ran.result["finding"], attached.word, again.result["finding"], held[0] == held[1])
    log.info("%s %s: %s, inspect says %s, and its scenario gives %s, same holders %s", *row)
    if name not in DIFFERENT:
        assert again.result["finding"] == ran.result["finding"], again.result["reason"]
    if name == "rule-under-load":
        return  # its finding is of what is done during the load
    if answer is None and not all(holder.hooks for holder in attached.holders):
        return  # a filter or flow tracks what passes it: whether that is all, nobody can see; and it is not carried
    if ran.result["finding"] in TRACKED:
        assert answer is TRACKED[ran.result["finding"]], [str(proof) for proof in attached.proofs]
    if any(proof.source == "bridge" for proof in attached.proofs):
        return  # the scenario of a record has no bridge for its load to cross
    assert held[1] == held[0]
    assert record.stat().st_size < 100_000


def made_again(guests: Guests, inspection: Inspection, folder: Path) -> Ran:
    """The scenario of a record, run: with fewer connections, where they are held and no more than that."""
    path = folder / "again.toml"
    write_scenario(inspection, path)
    text = with_sources(path.read_text(), load_scenario(path))
    if 'kind = "hold"' in text:
        text = text.replace("connections = 2000", "connections = 300").replace("max = 1000\n", "max = 100\n")
    return guests.run(text)


def places(holders: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Where holders are, and what they need; a rule's words differ with its counters."""
    return sorted((one["backend"], one["family"], one["table"], one["chain"], *one["depends_on"]) for one in holders)


def test_the_script_sees_what_the_zipapp_sees(guests: Guests, shipped: Callable[[str], str], tmp_path: Path) -> None:
    text = as_recorded("nat-present", shipped("nat-present"))
    ran = guests.run(recording(text, "script", {}), iptables="nft")
    inspection, _ = recorded(ran, tmp_path)
    assert inspection.looks[0].attached.answer is True
    (holder,) = inspection.looks[0].attached.holders
    assert (holder.backend, holder.depends_on) == ("iptables-nft", ("-j MASQUERADE",))
    assert inspection.looks[0].table.table_max


def test_chains_of_nft_before_conntrack_keep_all_out(guests: Guests, tmp_path: Path) -> None:
    ran = guests.run(recording(NFT_NOTRACK, "zipapp", {}))
    inspection, _ = recorded(ran, tmp_path)
    assert ran.result["finding"] == "untracked"
    assert inspection.looks[0].attached.answer is False
    # four: both of notrack, the match, and the object, not the rule that names it
    assert [(one.uses, one.seen) for one in inspection.uses or () if one.modules == ("nft_ct",)] == [(4, 4)]


IPSET = """
version = 1
name = "ipset"
summary = "Rules of both backends look into sets and at the state. Is everything tracked?"
[[state]]
run = ["ipset", "create", "banned", "hash:ip", "maxelem", "5000", "timeout", "600"]
[[state]]
run = ["ipset", "add", "banned", "192.0.2.7"]
[[state]]
run = ["ipset", "create", "ports", "bitmap:port", "range", "0-1000"]
[[state]]
run = [
    "iptables-legacy", "-A", "INPUT", "-m", "set", "--match-set", "banned", "src", "-m", "conntrack",
    "--ctstate", "NEW", "-j", "DROP",
]
[[state]]
run = [
    "iptables-nft", "-A", "INPUT", "-m", "set", "--match-set", "ports", "dst", "-m", "state",
    "--state", "NEW", "-j", "DROP",
]
[conntrack]
max = 100
[load]
connections = 300
"""


def test_sets_of_a_host_are_made_again(guests: Guests, tmp_path: Path) -> None:
    job = guests.jobs(IPSET)[0]
    ran = guests.run(recording(IPSET, "zipapp", job.plan.settings))
    inspection, _ = recorded(ran, tmp_path)
    again = made_again(guests, inspection, tmp_path)
    text = (tmp_path / "again.toml").read_text()
    assert '"ipset", "create", "-exist", "banned", "hash:ip"' in text
    assert '"bitmap:port", "range", "0-1000"' in text
    assert "#   what is in set banned" in text
    assert (ran.result["finding"], again.result["finding"]) == ("table-full", "table-full"), again.result["reason"]
    assert len(again.result["holders"]) == 2
    assert places(again.result["holders"]) == places(ran.result["holders"])


FULL = """
version = 1
name = "full"
summary = "A host that drops: is its record's scenario one that drops, although its max is beyond a load's?"
[[state]]
run = ["iptables-nft", "--append", "INPUT", "--match", "conntrack", "--ctstate", "NEW", "--jump", "ACCEPT"]
[conntrack]
max = 3000
[load]
connections = 4000
"""


def test_a_host_that_drops_has_a_scenario_that_drops(guests: Guests, tmp_path: Path) -> None:
    ran = guests.run(recording(FULL, "zipapp", {}, "held"))
    inspection, _ = recorded(ran, tmp_path, "held")
    assert (ran.result["finding"], inspection.looks[0].table.table_max) == ("table-full", 3000)
    path = tmp_path / "again.toml"
    assert write_scenario(inspection, path).size.startswith("scaled with the load: ")
    again = guests.run(with_sources(path.read_text(), load_scenario(path)))
    assert (again.result["finding"], again.result["expected"]) == ("table-full", "table-full")
    assert places(again.result["holders"]) == places(ran.result["holders"])
