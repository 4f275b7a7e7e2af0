"""The scenarios of firewall programs: sound, and with an expectation for every state of each program."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.core.facts import Facts
from lab.core.plan import Cell, Variant, plan_cell, requirement, variants
from lab.core.scenario.expectation import expected_for
from lab.host.scenario_files import load_scenario
from tests import ROOT

# fresh-install is of no program: it is what any distribution's own boot does, whatever that is
PATHS = sorted(path for path in (ROOT / "scenarios/programs").glob("*.toml") if path.stem != "fresh-install")
SCENARIOS = {path.stem: load_scenario(path) for path in PATHS}
VARIANTS = {variant.name: variant for scenario in SCENARIOS.values() for variant in variants(scenario)}
OLD = ("3.10.108", "4.9.0-19-amd64", "4.13.16")  # always on: what once tracked does so for ever
MEASURED = {
    "debian12": "6.1.0-50-cloud-amd64",
    "debian13": "6.12.117+deb13-cloud-amd64",
    "forky": "7.2.12+deb14-cloud-amd64",
}
BETWEEN = ("4.14.336", "4.19.0-27-amd64", "5.10.0-32-cloud-amd64")
MODULES = frozenset({"nf_conntrack", "nf_tables", "nft_ct", "nft_compat", "bridge", "veth", "openvswitch"})
# states in which the table fills, on debian12 and on newer releases; in all others nothing is tracked
FULL = {
    "docker-stopped": ("running published stopped purged",) * 2,
    "fail2ban-stopped": ("", ""),
    "firewalld-stopped": ("running killed", "running killed flushed"),
    "libvirt-network-destroyed": ("running daemon-stopped purged",) * 2,
    "netfilter-persistent-stopped": ("running stopped purged",) * 2,
    "nftables-service-stopped": ("running flushed purged",) * 2,
    "openvswitch-flow": ("ct", "ct"),
    "shorewall-stopped": ("running shorewall-stop purged",) * 2,
    "ufw-disabled": ("running", "running"),
}


def machine(target: str, kernel: str) -> Facts:
    versions = {"iptables": "1.8.9", "nft": "1.0.6"}
    return Facts(target, kernel, loadable=MODULES, builtin=frozenset(), versions=versions)


def finding(variant: Variant, facts: Facts) -> str | None:
    expected = expected_for(variant.scenario.expectations, variant.axes, facts)
    assert expected is None or expected.because
    return None if expected is None else expected.finding


def test_all_of_them_are_predicted() -> None:
    assert set(FULL) == set(SCENARIOS)


@pytest.mark.parametrize("target", MEASURED)
@pytest.mark.parametrize("name", FULL)
def test_expectations_follow_the_prediction(name: str, target: str) -> None:
    full = FULL[name][target != "debian12"].split()
    for variant in variants(SCENARIOS[name]):
        expected = "table-full" if variant.axes["state"] in full else "untracked"
        for kernel in (MEASURED[target], *BETWEEN):
            assert requirement(variant).unmet(machine(target, kernel)) is None
            assert finding(variant, machine(target, kernel)) == expected, variant.name


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_they_are_skipped_where_everything_that_once_tracked_stays(variant: Variant) -> None:
    assert all(requirement(variant).unmet(machine("debian12", kernel)) for kernel in OLD)


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_expectation_speaks_somewhere(name: str) -> None:
    spoken = {
        id(expected)
        for variant in variants(SCENARIOS[name])
        for target, kernel in MEASURED.items()
        if (expected := expected_for(SCENARIOS[name].expectations, variant.axes, machine(target, kernel)))
    }
    assert spoken == {id(expected) for expected in SCENARIOS[name].expectations}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_before_nothing_is_started_and_every_later_state_starts_it(variant: Variant) -> None:
    plans = {one.axes["state"]: plan_cell(Cell(one, "debian12")).steps for one in variants(variant.scenario)}
    state = variant.axes["state"]
    assert tuple(variant.scenario.matrix["state"][:2]) == ("before", "running")
    if state not in ("before", "running"):
        started = [step for step in plans["running"] if step not in plans["before"]]
        assert started
        assert [step for step in plans[state] if step in started] == started
        assert len(plans[state]) > len(plans["running"])


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_files_stay_short_to_read(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120] == []
    assert SCENARIOS[path.stem].summary.endswith("?")
