"""Which expectation speaks for a cell."""

from __future__ import annotations

import pytest

from lab.core.facts import Facts
from lab.core.scenario import Scenario, parse_scenario
from lab.core.scenario.condition import Condition
from lab.core.scenario.expectation import FINDINGS, Expectation, expected_for

SCENARIO = """
version = 1
name = "flushed"
summary = "What is expected where?"
[matrix]
iptables = ["legacy", "nft"]
size = [64, 1000]
[[expect]]
kernel = "<3.18"
iptables = "nft"
finding = "state-refused"
[[expect]]
kernel = "<4.14"
finding = "table-full"
because = "the hooks stay"
[[expect]]
target = "debian1[12]*"
size = 64
finding = "evicted"
[[expect]]
kernel = ">=5.1"
finding = "untracked"
"""


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return parse_scenario(SCENARIO, "flushed.toml")


@pytest.mark.parametrize(
    ("iptables", "size", "kernel", "target", "finding"),
    [
        ("nft", 64, "3.10.108", "debian12", "state-refused"),
        ("legacy", 64, "3.10.108", "debian12", "table-full"),
        ("nft", 64, "4.9.0-19-amd64", "debian12", "table-full"),
        ("nft", 64, "6.1.0-50", "debian12", "evicted"),
        ("nft", 64, "6.1.0-50", "debian12+kernel:/boot/x", "evicted"),
        ("nft", 64, "6.12.107", "debian13", "untracked"),
        ("nft", 1000, "6.1.0-50", "debian12", "untracked"),
        ("nft", 1000, "4.19.0", "debian12", None),
    ],
)
def test_the_first_that_matches_speaks(
    scenario: Scenario, iptables: str, size: int, kernel: str, target: str, finding: str | None
) -> None:
    expected = expected_for(scenario.expectations, {"iptables": iptables, "size": size}, Facts(target, kernel))
    assert (expected and expected.finding) == finding


def test_an_expectation_carries_its_reason(scenario: Scenario) -> None:
    expected = expected_for(scenario.expectations, {"iptables": "legacy", "size": 64}, Facts("debian12", "4.10.17"))
    assert expected is not None
    assert expected.because == "the hooks stay"


def test_a_release_that_is_none_is_an_error_only_where_a_kernel_is_asked_for(scenario: Scenario) -> None:
    with pytest.raises(ValueError, match="not a kernel release"):
        expected_for(scenario.expectations, {"iptables": "legacy", "size": 64}, Facts("debian12", "garbage"))
    assert Expectation("untracked").covers({}, Facts("debian12", "garbage"))


def test_a_target_glob_minds_capitals() -> None:
    condition = Condition(target="debian*")
    assert not Expectation("untracked", condition=condition).covers({}, Facts("Debian12", "6.1"))


def test_the_findings_are_those_of_the_design() -> None:
    assert FINDINGS == (
        "untracked",
        "tracked",
        "table-full",
        "evicted",
        "other-loss",
        "state-refused",
        "inconclusive",
    )
