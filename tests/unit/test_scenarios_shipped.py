"""The scenarios that come with the lab: sound, and with an expectation for every kernel, era by era."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.core.expectation import expected_for
from lab.core.plan import Cell, Variant, plan_cell, variants
from lab.host.scenario_files import load_scenario

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").glob("*.toml"))
# one of each era: before nf_tables; before generation IDs; always-on; on demand but always wanted; on demand; the
# release whose nft chains hold conntrack; before and after enable_hooks; Debian's
KERNELS = (
    "3.10.108",
    "3.13.11",
    "3.18.140",
    "4.9.0-19-amd64",
    "4.10.17",
    "4.14.0",
    "4.17.19",
    "4.19.0-27-amd64",
    "5.0.21",
    "5.1.0",
    "5.10.0-32-cloud-amd64",
    "6.1.0-50-cloud-amd64",
    "6.12.107+deb13-cloud-amd64",
    "7.2.12+deb14-cloud-amd64",
)
FINDING_OF_LETTER = {"n": "untracked", "Y": "table-full", "r": "state-refused"}

# a letter per kernel, in a userspace with iptables 1.8.9
PREDICTED = {
    "pristine": "nnnnnnnnnnnnnn",
    "filter-listed,iptables=legacy": "nnnnnnnnnnnnnn",
    "filter-listed,iptables=nft": "rrnnnnnnnnnnnn",
    "nat-listed,iptables=legacy": "YYYYYnnnnnnnnn",
    "nat-listed,iptables=nft": "rrnnnnnnnnnnnn",
    "nat-present,iptables=legacy": "YYYYYYYYYYYYYY",
    "nat-present,iptables=nft": "rrYYYYYYYYYYYY",
    "nat-flushed,iptables=legacy": "YYYYYnnnnnnnnn",
    "nat-flushed,iptables=nft": "rrYYYnnnnnnnnn",
    "nat-flushed-unloaded,iptables=legacy": "nnnnnnnnnnnnnn",
    "nat-flushed-unloaded,iptables=nft": "rrnnnnnnnnnnnn",
    "modules-blacklisted,iptables=legacy": "YYYYYYYYYYYYYY",
    "modules-blacklisted,iptables=nft": "rrYYYYYYYYYYYY",
    "modules-blocked,iptables=legacy": "rrrrrrrrrrrrrr",
    "modules-blocked,iptables=nft": "rrrrrrrrrrrrrr",
    "nat-flushed-always-on,iptables=legacy": "rYYYYnnnnYYYYY",
    "nat-flushed-always-on,iptables=nft": "rrYYYnnnnYYYYY",
}
VARIANTS = {variant.name: variant for path in SCENARIOS for variant in variants(load_scenario(path))}


def test_all_of_them_are_predicted() -> None:
    assert set(PREDICTED) == set(VARIANTS)


@pytest.mark.parametrize("name", PREDICTED)
def test_expectations_follow_the_prediction(name: str) -> None:
    variant = VARIANTS[name]
    found = [expected_for(variant.scenario, variant.axes, kernel, "debian12") for kernel in KERNELS]
    assert [one and one.finding for one in found] == [FINDING_OF_LETTER[letter] for letter in PREDICTED[name]]


@pytest.mark.parametrize("name", ["nat-flushed,iptables=nft", "nat-flushed-always-on,iptables=nft"])
def test_the_chains_that_debian11_leaves_hold_conntrack_in_4_17(name: str) -> None:
    variant = VARIANTS[name]
    expected = expected_for(variant.scenario, variant.axes, "4.17.19", "debian11+kernel:/boot/vmlinuz-4.17.19")
    assert expected is not None
    assert expected.finding == "table-full"


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_kernel_has_an_expectation_with_a_reason(variant: Variant) -> None:
    for kernel in KERNELS:
        expected = expected_for(variant.scenario, variant.axes, kernel, "debian13")
        assert expected is not None, kernel
        assert expected.because, kernel


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_plan_can_be_made_of_each(variant: Variant) -> None:
    plan = plan_cell(Cell(variant, "debian12"))
    assert "{iptables}" not in json.dumps(plan.to_json())
    assert plan.settings == {"net.netfilter.nf_conntrack_max": 100}
    assert plan.load.connections == 20_000


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_files_stay_short_to_read(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120] == []
    assert sum(line.lstrip().startswith("#") for line in lines) <= 2
