"""The scenarios that come with the lab: sound, and with an expectation for every kernel, era by era."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab.core.facts import Facts
from lab.core.judging.cell_result import cell_result
from lab.core.judging.finding import Finding
from lab.core.plan import Cell, Variant, plan_cell, requirement, variants
from lab.core.plan.plan import MAX_SYSCTL
from lab.core.result import CellResult, exit_status
from lab.core.scenario import Scenario, placeholder_values
from lab.core.scenario.expectation import FINDINGS, Expectation, expected_for
from lab.host.scenario_files import load_scenario
from tests import ROOT
from tests.records import stored_plan

PATHS = sorted((ROOT / "scenarios").glob("*.toml"))

# The eras, and in each what sets its kernels apart. Of the long-term lines 4.9, 4.14 and 4.19 a late release, and at
# the end an early one: those of before the end of 2018 search for entries to evict as 4.18 does.
KERNELS = (
    *("3.10.108", "3.13.11"),  # before generation IDs
    *("3.18.140", "4.4.302", "4.6.7"),
    *("4.7.10",),  # evicts from one bucket only
    *("4.8.17", "4.9.0-19-amd64", "4.10.17", "4.13.16"),  # module_blacklist; the last that are always on
    *("4.14.336", "4.16.18", "4.17.19", "4.18.20"),  # on demand; one nat table; chains that hold conntrack
    *("4.19.0-27-amd64", "5.0.21"),
    *("5.1.0", "5.10.0-32-cloud-amd64", "6.1.0-50-cloud-amd64"),  # enable_hooks
    *("6.12.107+deb13-cloud-amd64", "7.2.12+deb14-cloud-amd64"),
    *("4.9.137", "4.14.67", "4.19.2"),  # long-term lines, before the end of 2018
)
LETTERS = {
    "n": "untracked",
    "t": "tracked",
    "Y": "table-full",
    "e": "evicted",
    "o": "other-loss",
    "r": "state-refused",
    "s": "skipped",
}

# A letter per kernel, in a userspace with iptables 1.8.9.
LEGACY_FULL, NFT_FULL = "YY YYY Y YYYY YYYY YY YYYYY YYY", "ss YYY Y YYYY YYYY YY YYYYY YYY"
LEGACY_NONE, NFT_NONE = "nn nnn n nnnn nnnn nn nnnnn nnn", "ss nnn n nnnn nnnn nn nnnnn nnn"
LEGACY_OLD, NFT_OLD = "YY YYY Y YYYY nnnn nn nnnnn Ynn", "ss YYY Y YYYY nnnn nn nnnnn Ynn"
LEGACY_FITS, NFT_FITS = "tt ttt t tttt tttt tt ttttt ttt", "ss ttt t tttt tttt tt ttttt ttt"
PREDICTED = {
    "pristine": LEGACY_NONE,
    "module-only": LEGACY_NONE,
    "filter-listed,iptables=legacy": LEGACY_NONE,
    "filter-listed,iptables=nft": NFT_NONE,
    "nat-listed,iptables=legacy": LEGACY_OLD,
    "nat-listed,iptables=nft": NFT_NONE,
    "nat-present,iptables=legacy": LEGACY_FULL,
    "nat-present,iptables=nft": NFT_FULL,
    "nat-notrack,iptables=legacy": LEGACY_NONE,
    "nat-notrack,iptables=nft": NFT_NONE,
    "nat-flushed,iptables=legacy": LEGACY_OLD,
    "nat-flushed,iptables=nft": NFT_OLD,
    "nat-filter-flushed,iptables=legacy": LEGACY_FULL,
    "nat-filter-flushed,iptables=nft": NFT_FULL,
    "nat-flushed-unloaded,iptables=legacy": LEGACY_NONE,
    "nat-flushed-unloaded,iptables=nft": NFT_NONE,
    "nat-flushed-always-on,iptables=legacy": "rY YYY Y YYYY nnnn nn YYYYY Ynn",
    "nat-flushed-always-on,iptables=nft": "ss YYY Y YYYY nnnn nn YYYYY Ynn",
    "wrong-backend-flushed,iptables=legacy": "ss YYY Y YYYY YYYY YY YYYYY YYY",
    "wrong-backend-flushed,iptables=nft": "ss YYY Y YYYY YrrY YY YYYYY YYY",
    "reattached,iptables=legacy": LEGACY_FULL,
    "reattached,iptables=nft": NFT_FULL,
    "nft-flushed,flush=flush-table": "ss YYY Y YYYY nnYn nn nnnnn Ynn",
    "nft-flushed,flush=delete-table": NFT_OLD,
    "nft-flushed,flush=flush-ruleset": NFT_OLD,
    "stateful-present,iptables=legacy,match=state": LEGACY_FULL,
    "stateful-present,iptables=legacy,match=conntrack": LEGACY_FULL,
    "stateful-present,iptables=nft,match=state": NFT_FULL,
    "stateful-present,iptables=nft,match=conntrack": NFT_FULL,
    "stateful-flushed,iptables=legacy,match=state": LEGACY_OLD,
    "stateful-flushed,iptables=legacy,match=conntrack": LEGACY_OLD,
    "stateful-flushed,iptables=nft,match=state": NFT_OLD,
    "stateful-flushed,iptables=nft,match=conntrack": NFT_OLD,
    "orphan-chain,iptables=legacy": LEGACY_FULL,
    "orphan-chain,iptables=nft": NFT_FULL,
    "unhooked-chain": NFT_FULL,
    "modules-blacklisted,iptables=legacy": LEGACY_FULL,
    "modules-blacklisted,iptables=nft": NFT_FULL,
    "modules-blacklisted-cmdline,iptables=legacy": "YY YYY Y rrrr rrrr rr rrrrr rrr",
    "modules-blacklisted-cmdline,iptables=nft": "ss YYY Y rrrr rrrr rr rrrrr rrr",
    "modules-blocked,iptables=legacy": "rr rrr r rrrr rrrr rr rrrrr rrr",
    "modules-blocked,iptables=nft": "ss rrr r rrrr rrrr rr rrrrr rrr",
    "max-raised,iptables=legacy": LEGACY_FITS,
    "max-raised,iptables=nft": NFT_FITS,
    "max-reset,iptables=legacy": LEGACY_FITS,
    "max-reset,iptables=nft": NFT_FITS,
    "max-zero": "ss ttt t tttt tttt tt ttttr ttt",
    "buckets-raised,iptables=legacy": LEGACY_FITS,
    "buckets-raised,iptables=nft": NFT_FITS,
    "timeouts-lowered,iptables=legacy,timeouts=default": LEGACY_FULL,
    "timeouts-lowered,iptables=legacy,timeouts=lowered": LEGACY_FITS,
    "timeouts-lowered,iptables=nft,timeouts=default": NFT_FULL,
    "timeouts-lowered,iptables=nft,timeouts=lowered": NFT_FITS,
    "orphaned-entries,iptables=legacy": LEGACY_FULL,
    "orphaned-entries,iptables=nft": NFT_FULL,
    "unreplied-evicted,iptables=legacy,buckets=512": "ee eee Y YeYY eYYY ee eeeee YYY",
    "unreplied-evicted,iptables=nft,buckets=512": "ss eee Y YeYY eYYY ee eeeee YYY",
    "unreplied-evicted,iptables=legacy,buckets=262144": "ee eee Y YYYY YYYY YY YYYYY YYY",
    "unreplied-evicted,iptables=nft,buckets=262144": "ss eee Y YYYY YYYY YY YYYYY YYY",
    "udp-refused,iptables=legacy": "ee eee Y YYYY YYYY YY YYYYY YYY",
    "udp-refused,iptables=nft": "ss eee Y YYYY YYYY YY YYYYY YYY",
    "forwarded-nat,iptables=legacy": LEGACY_FULL,
    "forwarded-nat,iptables=nft": NFT_FULL,
    "remote-notrack,iptables=legacy": LEGACY_NONE,
    "bridge-tracked,iptables=legacy": LEGACY_FULL,
    "bridge-untracked,iptables=legacy": LEGACY_NONE,
    "published-port,iptables=legacy": LEGACY_FULL,
    "ipv6-only,iptables=legacy": LEGACY_FULL,
    "container-table,iptables=legacy": LEGACY_FULL,
    "udp-forwarded,iptables=legacy": "ee eee Y YYYY YYYY YY YYYYY YYY",
    "dns-answered,iptables=legacy": "ee eee Y YYYY YYYY YY YYYYY YYY",
    "half-closed,iptables=legacy": LEGACY_FULL,
    "rule-under-load,iptables=legacy": LEGACY_FULL,
    "hash-too-small,iptables=legacy": "tt ttt t tttt tttt tt ttooo ttt",
    "nat-ports-exhausted,iptables=legacy": "oo ooo o oooo oooo oo ooooo ooo",
    "flowtable": "ss sss s ssss sYYY YY YYYYY ssY",
    "openvswitch-loaded": "nn nnn n nnnn nnnY YY YYYnn nnY",
    "tc-act-ct": LEGACY_FITS,  # these machines have every module, whatever their kernel
}
SCENARIOS = {path.stem: load_scenario(path) for path in PATHS}
VARIANTS = {variant.name: variant for scenario in SCENARIOS.values() for variant in variants(scenario)}
EXPECTATIONS = [(name, index) for name, one in SCENARIOS.items() for index in range(len(one.expectations))]

LEGACY_MODULES = frozenset({"ip_tables", "iptable_filter", "iptable_nat"})
NFT_MODULES = frozenset({"nf_tables", "nft_compat", "nft_ct", "nft_masq"})
OF_PATHS = frozenset({"veth", "bridge", "nft_flow_offload", "openvswitch", "act_ct", "cls_flower"})
MODULES = LEGACY_MODULES | NFT_MODULES | OF_PATHS | {"nf_conntrack", "xt_CT"}


def machine(kernel: str, iptables: str = "1.8.9", without: frozenset[str] = frozenset()) -> Facts:
    """A machine whose kernel has as modules all that scenarios ask for."""
    versions = {"iptables": iptables, "nft": "1.0.6"}
    return Facts("debian12", kernel, loadable=MODULES - without, builtin=frozenset(), versions=versions)


def outcome(variant: Variant, facts: Facts) -> str | None:
    """What is to come of a variant on a machine; None where nothing is expected."""
    if requirement(variant).unmet(facts):
        return "skipped"
    expected = expected_for(variant.scenario.expectations, variant.axes, facts)
    return None if expected is None else expected.finding


def cases(scenario: Scenario) -> Iterator[tuple[Variant, Facts, Expectation]]:
    """Every variant on every kernel, with a new userspace and an old one, and the expectation that speaks for it."""
    for variant in variants(scenario):
        for kernel in KERNELS:
            for iptables in ("1.8.9", "1.8.7"):
                facts = machine(kernel, iptables)
                expected = expected_for(scenario.expectations, variant.axes, facts)
                if expected is not None and not requirement(variant).unmet(facts):
                    yield variant, facts, expected


def result(variant: Variant, facts: Facts, finding: str) -> CellResult:
    """A cell's result, had this been found."""
    plan = stored_plan(json.loads(json.dumps(plan_cell(Cell(variant, facts.target)).to_json())))
    expected = expected_for(variant.scenario.expectations, variant.axes, facts)
    return cell_result(plan, Finding(finding, "It was found."), None, expected, facts, ())


def test_all_of_them_are_predicted() -> None:
    assert set(PREDICTED) == set(VARIANTS)


@pytest.mark.parametrize("name", PREDICTED)
def test_expectations_follow_the_prediction(name: str) -> None:
    found = {kernel: outcome(VARIANTS[name], machine(kernel)) for kernel in KERNELS}
    letters = PREDICTED[name].replace(" ", "")
    assert found == {kernel: LETTERS[letter] for kernel, letter in zip(KERNELS, letters, strict=True)}


@pytest.mark.parametrize("name", ["nat-flushed,iptables=nft", "nat-flushed-always-on,iptables=nft"])
def test_the_chains_that_an_old_iptables_leaves_hold_conntrack_in_4_17(name: str) -> None:
    assert outcome(VARIANTS[name], machine("4.17.19", iptables="1.8.7")) == "table-full"
    assert outcome(VARIANTS[name], machine("4.17.19", iptables="1.8.8")) == "untracked"
    assert outcome(VARIANTS[name], machine("4.18.20", iptables="1.8.7")) == "untracked"


@pytest.mark.parametrize(("backend", "modules"), [("legacy", LEGACY_MODULES), ("nft", NFT_MODULES)])
def test_a_kernel_without_a_backend_skips_what_needs_it(backend: str, modules: frozenset[str]) -> None:
    facts = machine(KERNELS[-1], without=modules)
    skipped = {name for name, variant in VARIANTS.items() if outcome(variant, facts) == "skipped"}
    needs_both = {name for name in VARIANTS if name.startswith("wrong-backend-flushed")}
    names = ("unhooked-chain", "nft-flushed", "max-zero", "flowtable")
    without_axis = {name for name in VARIANTS if name.startswith(names)}
    of_backend = {name for name, variant in VARIANTS.items() if variant.axes.get("iptables") == backend}
    assert skipped == of_backend | needs_both | (without_axis if backend == "nft" else set())


def test_what_is_about_loading_is_skipped_where_conntrack_is_built_in() -> None:
    facts = machine(KERNELS[-1], without=frozenset({"nf_conntrack"}))
    facts = replace(facts, builtin=frozenset({"nf_conntrack"}))
    skipped = {variant.scenario.name for variant in VARIANTS.values() if outcome(variant, facts) == "skipped"}
    about_modules = {"modules-blacklisted", "modules-blacklisted-cmdline", "modules-blocked", "module-only"}
    assert skipped == about_modules | {"nat-flushed-unloaded", "nat-flushed-always-on"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_skipped_on_a_machine_that_told_nothing(name: str) -> None:
    untold = Facts("debian12", KERNELS[-1])
    assert [variant.name for variant in variants(SCENARIOS[name]) if requirement(variant).unmet(untold)] == []


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_kernel_has_an_expectation_with_a_reason(variant: Variant) -> None:
    for kernel in KERNELS:
        expected = expected_for(variant.scenario.expectations, variant.axes, machine(kernel))
        assert expected is not None, kernel
        assert expected.because, kernel


@pytest.mark.parametrize(("name", "index"), EXPECTATIONS)
def test_each_expectation_speaks_somewhere_and_fails_what_it_does_not_expect(name: str, index: int) -> None:
    scenario = SCENARIOS[name]
    own = scenario.expectations[index]
    spoken_for = [(variant, facts) for variant, facts, expected in cases(scenario) if expected is own]
    assert spoken_for, "it never speaks"
    for wrong in (finding for finding in FINDINGS if finding != own.finding):
        changed = list(scenario.expectations)
        changed[index] = replace(own, finding=wrong)
        mutated = replace(scenario, expectations=tuple(changed))
        variant, facts = spoken_for[0]
        assert result(variant, facts, own.finding).as_expected is True
        assert result(replace(variant, scenario=mutated), facts, own.finding).as_expected is False
        assert exit_status([result(replace(variant, scenario=mutated), facts, own.finding)]) == 1


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_plan_can_be_made_of_each(variant: Variant) -> None:
    plan = plan_cell(Cell(variant, "debian12"))
    text = json.dumps(plan.to_json())
    assert [name for name in placeholder_values(variant.axes) if f"{{{name}}}" in text] == []
    assert plan.conntrack.max is not None or MAX_SYSCTL in text
    assert plan.load.connections >= 80


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_table_that_is_to_fill_is_smaller_than_its_load_and_no_smaller_than_100(name: str) -> None:
    scenario = SCENARIOS[name]
    table, load = scenario.conntrack.max or 0, scenario.load.connections
    if any(one.finding in ("table-full", "evicted") for one in scenario.expectations) and name != "reattached":
        assert 100 <= table < load


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_files_stay_short_to_read(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120] == []
    assert sum(line.lstrip().startswith("#") for line in lines) <= 2
    assert load_scenario(path).summary.endswith("?")
