"""Conditions on a machine, and what a scenario needs: a table of machines against what they are asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.core.facts import Facts
from lab.core.kernel.version import parse_version_spec
from lab.core.scenario.condition import ALWAYS, BACKEND_NEEDS, Condition, ConfigSpec, Requirement, parse_config_spec

KNOWN = Facts(
    "debian12",
    "6.1.0-50-cloud-amd64",
    {"NF_CONNTRACK": "m", "NF_TABLES": "y"},
    frozenset({"nf_conntrack", "nf_tables", "nft_compat", "ip_tables", "iptable_filter", "iptable_nat", "veth"}),
    frozenset({"overlay"}),
    {"iptables": "1.8.9", "nft": "1.0.6"},
)
UNKNOWN = Facts("debian12")


def version(text: str) -> Condition:
    return Condition(iptables_version=parse_version_spec(text))


# condition -> what is not so on KNOWN
CONDITIONS = {
    ALWAYS: None,
    Condition(kernel=parse_version_spec("<6.2")): None,
    Condition(kernel=parse_version_spec("<4.14")): "the kernel is 6.1.0-50-cloud-amd64, not <4.14",
    Condition(target="debian*"): None,
    Condition(target="forky"): "the target is debian12, not forky",
    version(">=1.8.8"): None,
    version(">=1.8.10"): "iptables is 1.8.9, not >=1.8.10",
    Condition(nft_version=parse_version_spec("<1.0")): "nft is 1.0.6, not <1.0",
    Condition(config=(ConfigSpec("NF_CONNTRACK", ("m",)),)): None,
    Condition(config=(ConfigSpec("NF_TABLES", ("m",)),)): "the kernel has CONFIG_NF_TABLES=y, not m",
    Condition(config=(ConfigSpec("NF_NAT", ("y", "m")),)): "the kernel has CONFIG_NF_NAT=n, not y|m",
}


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_a_condition_on_a_known_machine(condition: Condition) -> None:
    assert condition.unmet(KNOWN) == CONDITIONS[condition]
    assert condition.stated == (condition != ALWAYS)


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_a_condition_on_an_unknown_machine_is_an_error_unless_the_target_decides(condition: Condition) -> None:
    if condition.target is not None or condition == ALWAYS:
        assert condition.unmet(UNKNOWN) == CONDITIONS[condition]
    else:
        with pytest.raises(ValueError, match=r"unknown|never told"):
            condition.unmet(UNKNOWN)


def test_what_is_known_decides_before_what_is_unknown() -> None:
    condition = replace(version("<1.0"), target="forky")
    assert condition.unmet(UNKNOWN) == "the target is debian12, not forky"


@pytest.mark.parametrize(("text", "spec"), [("NF_NAT=m", ("m",)), ("CONFIG_NF_NAT=m|y", ("m", "y"))])
def test_an_option_as_it_is_written(text: str, spec: tuple[str, ...]) -> None:
    assert parse_config_spec(text) == ConfigSpec("NF_NAT", spec)
    assert str(parse_config_spec(text)) == text.removeprefix("CONFIG_")


@pytest.mark.parametrize("text", ["", "NF_NAT", "NF_NAT=", "nf_nat=m", "NF_NAT=m|", "NF NAT=m", "NF_NAT=m y"])
def test_what_is_no_option(text: str) -> None:
    with pytest.raises(ValueError, match="no option with a value"):
        parse_config_spec(text)


REQUIREMENTS = [
    (Requirement(), KNOWN, None),
    (Requirement(modules=("overlay", "veth")), KNOWN, None),
    (Requirement(modules=("act_ct",)), KNOWN, "the kernel has no act_ct"),
    # of others than these it was not said whether it has them
    (Requirement(modules=("dummy",)), replace(KNOWN, about=("act_", "nf_")), None),
    (Requirement(modules=("act_ct",)), replace(KNOWN, about=("act_", "nf_")), "the kernel has no act_ct"),
    (Requirement(loadable=("nf_conntrack",)), KNOWN, None),
    (Requirement(loadable=("overlay",)), KNOWN, "overlay is built into the kernel"),
    (Requirement(loadable=("act_ct",)), KNOWN, "the kernel has no act_ct"),
    (Requirement(version("<1.8")), KNOWN, "iptables is 1.8.9, not <1.8"),
    (Requirement(backends=("legacy", "nft")), KNOWN, None),
    (
        Requirement(backends=("nft",)),
        replace(KNOWN, kernel_release="3.10.108"),
        "iptables-nft does not work here: the kernel is 3.10.108, not >=3.18",
    ),
    (
        Requirement(backends=("legacy",)),
        replace(KNOWN, loadable=frozenset({"ip_tables"})),
        "iptables-legacy does not work here: the kernel has no iptable_filter",
    ),
    # what is unknown is no reason to skip: the state will tell
    (Requirement(version("<1.8"), ("act_ct",), ("overlay",), tuple(BACKEND_NEEDS)), UNKNOWN, None),
]


@pytest.mark.parametrize(("requirement", "facts", "phrase"), REQUIREMENTS)
def test_why_a_scenario_cannot_be_had(requirement: Requirement, facts: Facts, phrase: str | None) -> None:
    assert requirement.unmet(facts) == phrase
