"""Facts of kernels: their page is current, and a scenario that shows one expects what the row says."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.core.facts import Facts
from lab.core.kernel.facts import BEGIN, END, FACTS, KernelFact, facts_table, with_facts
from lab.core.kernel.version import parse_version_spec
from lab.host.publish.documents import outdated
from lab.host.scenario_files import load_scenario
from tests import ROOT
from tests.facts import scenario_path

SHOWN = [one for one in FACTS if one.scenario or one.trial]


def test_the_page_is_current() -> None:
    assert Path("docs/kernels.md") not in outdated(ROOT)


def test_a_page_without_marks_is_no_page() -> None:
    with pytest.raises(ValueError, match="lacks the marks"):
        with_facts("text")
    again = with_facts(f"a\n{BEGIN}\nold\n{END}\nb\n")
    assert again.startswith(f"a\n{BEGIN}\n| what |") and again.endswith(f"{END}\nb\n") and "old\n" not in again
    assert with_facts(again) == again


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.what)
def test_a_row_is_whole(fact: KernelFact) -> None:
    parse_version_spec(fact.kernel)
    assert all(text and "|" not in text and "\n" not in text for text in (fact.what, fact.before, fact.after))
    assert facts_table([fact]).count("\n") == 3


def test_rows_stand_in_the_order_of_kernels() -> None:
    versions = [tuple(map(int, fact.since.split("."))) for fact in FACTS]
    assert versions == sorted(versions)


@pytest.mark.parametrize("fact", SHOWN, ids=lambda fact: fact.scenario or fact.trial)
def test_a_scenario_that_shows_a_fact_expects_another_finding_on_either_side(fact: KernelFact) -> None:
    read = load_scenario(scenario_path(fact))
    *series, last = map(int, fact.since.split("."))
    before, after = (".".join(map(str, (*series, number, 0)[:3])) for number in (last - 1, last))
    conditions = [one.condition.kernel for one in read.expectations] + [read.requires.condition.kernel]
    stated = [spec for spec in conditions if spec is not None]
    assert stated, "the scenario says nothing of kernels"
    assert any(
        (one.unmet(Facts("t", kernel_release=before)) is None) != (one.unmet(Facts("t", kernel_release=after)) is None)
        for one in [*(expected.condition for expected in read.expectations), read.requires.condition]
    )


def test_every_trial_shows_a_fact() -> None:
    written = {path.stem for path in (ROOT / "tests" / "vm" / "facts").glob("*.toml")}
    assert written == {one.trial for one in FACTS if one.trial is not None}
    assert not any(one.scenario and one.trial for one in FACTS)
