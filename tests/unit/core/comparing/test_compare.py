"""What a comparison says: which findings changed, what is chance, what cannot be told, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.core.comparing.compare import compare
from lab.core.comparing.differences import Difference, meaning_differences
from lab.core.comparing.model import NUMBERS, ComparedCell, Comparison, Run
from lab.core.comparing.verdicts import outcomes
from lab.core.errors import ScenarioError
from lab.core.result import CellResult
from lab.core.scenario import parse_scenario, scenario_meaning
from lab.core.scenario.expectation import FINDING_EVIDENCE
from tests import ROOT
from tests.records import stored_manifest
from tests.unit.runs import DIGEST, OTHER_DIGEST, cell, manifest, repeated, run

SCHEMA = json.loads((ROOT / "lab/schemas/compare.schema.json").read_text())
OWN = "debian12+kernel:/tmp/linux.deb"


def one(base: list[CellResult], new: list[CellResult], **changes: Any) -> ComparedCell:
    """The comparison of one cell; `changes` are of NEW's manifest."""
    (found,) = compare(run(base), run(new, "results/two", **changes)).cells
    return found


def errors(comparison: Comparison) -> list[str]:
    document = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(document)]


# -- findings ---------------------------------------------------------------------------------------------------------

FULL, FREE = "table-full", "untracked"

# findings in BASE, in NEW -> verdict, exit status
VERDICTS: dict[str, tuple[list[str], list[str], str, int]] = {
    "one and one, the same": ([FREE], [FREE], "same", 0),
    "one and one, another": ([FREE], [FULL], "changed", 1),
    "all and all, the same": ([FREE] * 3, [FREE] * 5, "same", 0),
    "all and one, another": ([FREE] * 5, [FULL], "changed", 1),
    "all and all, another": ([FREE] * 2, [FULL] * 2, "changed", 1),
    "varied, and differs by more than chance": ([FREE] * 9 + [FULL], [FREE] + [FULL] * 9, "changed", 1),
    "varied, and may be chance": ([FREE] * 9 + [FULL], [FREE] * 7 + [FULL] * 3, "same", 0),
    "one flake of twenty": ([FREE] * 20, [FREE] * 19 + [FULL], "same", 0),
    "varied, too few to tell": ([FREE] * 3, [FREE] * 2 + [FULL], "unclear", 3),
    "varied, too few, in the same shares": ([FREE, FULL], [FREE, FULL], "same", 0),
    "varied, too few, in the same shares of others": ([FREE, FULL] * 2, [FULL, FREE], "same", 0),
    "one against varied": ([FREE], [FULL] * 4 + [FREE], "unclear", 3),
    "three findings": ([FREE] * 8, ["tracked"] * 4 + [FULL] * 4, "changed", 1),
    "inconclusive now": ([FREE], ["inconclusive"], "not-comparable", 3),
    "inconclusive before": (["inconclusive"], [FREE], "not-comparable", 3),
    "inconclusive in both": (["inconclusive"], ["inconclusive"], "not-comparable", 3),
    "skipped now": ([FREE], ["skipped"], "not-comparable", 3),
    "skipped in both": (["skipped"], ["skipped"], "no-finding", 0),
    "skipped, and inconclusive": (["skipped"], ["inconclusive"], "not-comparable", 3),
    "some inconclusive, the others the same": ([FREE] * 3, [FREE, "inconclusive", FREE], "unclear", 3),
    "some inconclusive, the others changed": ([FREE] * 3, [FULL, "inconclusive", FULL], "changed", 1),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_verdict_on_findings(name: str) -> None:
    base, new, verdict, status = VERDICTS[name]
    for ours, theirs in ((base, new), (new, base)):
        found = compare(run(repeated(ours)), run(repeated(theirs)))
        assert [cell.verdict for cell in found.cells] == [verdict]
        assert found.exit_status == status
        assert errors(found) == []


def test_a_verdict_says_how_many_of_how_many() -> None:
    assert one(repeated([FREE]), repeated([FULL])).reason == "untracked 1 of 1 became table-full 1 of 1"
    told = one(repeated([FREE] * 9 + [FULL]), repeated([FREE] + [FULL] * 9)).reason
    assert told == "untracked 9 of 10, table-full 1 of 10 became table-full 9 of 10, untracked 1 of 10 (p = 0.0011)"
    told = one(repeated([FREE] * 3), repeated([FREE, "inconclusive", FREE])).reason
    assert told.endswith("; 1 of 3 in NEW are inconclusive: it was inconclusive")
    assert one(repeated([FREE]), repeated(["skipped"])).reason == "NEW is skipped: it was skipped"
    assert outcomes({"b": 1, "a": 1, "c": 2, "d": 0}) == "c 2 of 4, a 1 of 4, b 1 of 4"


def test_what_the_scenario_expects_to_be_inconclusive_is_no_alarm() -> None:
    lost = cell("inconclusive", expected="inconclusive", as_expected=True)
    assert one([lost], [lost]).verdict == "no-finding"
    assert one([lost], [cell()]).verdict == "not-comparable"


def test_a_change_that_is_expected_is_a_change() -> None:
    old = cell(FULL, expected=FULL, as_expected=True, kernel_release="4.9.0")
    found = compare(run([old]), run([cell()]))
    assert (found.verdict, found.exit_status) == ("changed", 1)


def test_many_tests_are_corrected_for_being_many() -> None:
    # 9 of 10 against 3 of 10 is p = 0.02: enough alone, and for one among ten not
    base, new = [FREE] * 9 + [FULL], [FREE] * 3 + [FULL] * 7
    assert one(repeated(base), repeated(new)).verdict == "changed"
    names = [f"nat-flushed,axis={number}" for number in range(10)]
    ours = [cell for name in names for cell in repeated(base, variant=name)]
    others = [cell for name in names[1:] for cell in repeated(base, variant=name)]
    found = compare(run(ours), run(repeated(new, variant=names[0]) + others))
    assert found.verdict == "same"
    answer = found.cells[0].tests["finding"]
    assert answer.p_value == pytest.approx(0.01977, rel=1e-3)
    assert answer.corrected_p_value == pytest.approx(0.1977, rel=1e-3)
    # what needs no test takes no part in that
    certain = [cell(FREE, variant=name) for name in names[1:]]
    ours, theirs = ([*repeated(findings, variant=names[0]), *certain] for findings in (base, new))
    assert compare(run(ours), run(theirs)).verdict == "changed"


SAMPLES = st.lists(st.sampled_from(sorted(FINDING_EVIDENCE)), min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(SAMPLES, SAMPLES), min_size=1, max_size=3))
def test_a_comparison_reads_the_same_from_both_sides(samples: list[tuple[list[str], list[str]]]) -> None:
    base, new = (
        run([cell for number, pair in enumerate(samples) for cell in repeated(pair[side], variant=f"x,a={number}")])
        for side in (0, 1)
    )
    there, back = compare(base, new), compare(new, base)
    assert (there.verdict, there.exit_status) == (back.verdict, back.exit_status)
    for ours, theirs in zip(there.cells, back.cells, strict=True):
        assert (ours.verdict, ours.tests) == (theirs.verdict, theirs.tests)
        assert (ours.base, ours.new) == (theirs.new, theirs.base)
    assert errors(there) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(SAMPLES, min_size=1, max_size=4))
def test_nothing_differs_from_itself(samples: list[list[str]]) -> None:
    cells = [cell for number, findings in enumerate(samples) for cell in repeated(findings, variant=f"x,a={number}")]
    found = compare(run(cells), run(cells))
    assert found.verdict == ("unclear" if any("inconclusive" in findings for findings in samples) else "same")
    assert found.differences == ()
    assert not any(answer.differs for cell in found.cells for answer in cell.tests.values())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(sorted(FINDING_EVIDENCE)[:5]), min_size=2, max_size=12), st.randoms())
def test_the_order_of_repeats_and_cells_tells_nothing(findings: list[str], order: Any) -> None:
    cells = repeated(findings)
    shuffled = order.sample(cells, len(cells))
    other = repeated([FREE] * 6)
    assert one(cells, other).tests == one(shuffled, other).tests
    assert one(cells, other).verdict == one(shuffled, other).verdict


# -- messages and numbers ---------------------------------------------------------------------------------------------


def with_drops(values: list[int], **changes: Any) -> list[CellResult]:
    return [cell(FULL, repeat=number, drops=value, **changes) for number, value in enumerate(values, start=1)]


LOW, HIGH = [100, 101, 102, 103, 104], [200, 210, 220, 230, 240]


def test_numbers_that_differ_are_told_and_fail_nothing() -> None:
    found = compare(run(with_drops(LOW)), run(with_drops(HIGH)))
    answer = found.cells[0].tests["drops"]
    assert answer.p_value == answer.corrected_p_value == pytest.approx(2 / 252)
    assert answer.differs
    assert (found.verdict, found.exit_status) == ("same", 0)


@pytest.mark.parametrize(
    ("base", "new", "why"),
    [
        ([100], [900], "too few repeats"),
        ([100, 101, 102], [900, 901, 902], "too few repeats"),
        ([100] * 5, [100] * 5, "all are the same"),
    ],
)
def test_where_no_test_is_made(base: list[int], new: list[int], why: str) -> None:
    answer = one(with_drops(base), with_drops(new)).tests["drops"]
    assert (answer.p_value, answer.differs, answer.why) == (None, None, why)


def test_a_difference_that_is_certain_and_small_does_not_count() -> None:
    answer = one(with_drops([100] * 8), with_drops([109] * 8)).tests["drops"]
    assert answer.p_value is not None
    assert answer.p_value < 0.001
    assert (answer.differs, answer.why) == (False, "too small a difference to matter")
    assert one(with_drops([100] * 8), with_drops([112] * 8)).tests["drops"].differs
    early, late = ([cell(FULL, repeat=n, first_drop_seconds=s) for n in range(1, 9)] for s in (0.10, 0.15))
    assert one(early, late).tests["first_drop_seconds"].differs is False, "one sample is 0.05 s"


def test_numbers_of_different_machines_are_not_tested() -> None:
    faster = {"provisioner": {"name": "qemu", "accelerator": "kvm"}}
    found = one(with_drops(LOW), with_drops(HIGH), **faster)
    assert found.tests["drops"].why == "the machines were not of one kind"
    # findings are: what is not a matter of speed is the same on both
    assert one(repeated([FREE]), repeated([FULL]), **faster).verdict == "changed"


def test_what_is_unknown_is_not_zero() -> None:
    unknown = [cell(FULL, repeat=number, drops=None) for number in range(1, 6)]
    found = one(unknown, with_drops(HIGH))
    assert found.tests["drops"].why == "no value in one of the runs"
    assert found.base.values(NUMBERS[1]) == ()
    assert one(unknown, unknown).base.logged == {"logged": 5}


def test_messages_are_told_as_often_as_they_came_and_fail_nothing() -> None:
    quiet = [cell(FULL, repeat=number, message_logged=False) for number in range(1, 6)]
    loud = [cell(FULL, repeat=number) for number in range(1, 6)]
    found = compare(run(quiet), run(loud))
    assert found.cells[0].tests["message"].differs
    assert found.exit_status == 0
    unread = [cell(FULL, repeat=number, message_logged=None) for number in range(1, 6)]
    assert one(unread, loud).to_json()["base"]["message"] == {"logged": 0, "known": 0}


def test_the_kinds_of_questions_are_corrected_each_for_itself() -> None:
    numbers = ["nat-flushed,axis=1", "nat-flushed,axis=2"]
    ours = [cell for name in numbers for cell in with_drops(LOW, variant=name)]
    theirs = [cell for name in numbers for cell in with_drops(HIGH, variant=name)]
    answers = [found.tests["drops"] for found in compare(run(ours), run(theirs)).cells]
    assert [answer.corrected_p_value for answer in answers] == [pytest.approx(4 / 252)] * 2
    assert [answer.p_value for answer in answers] == [pytest.approx(2 / 252)] * 2


# -- which cells ------------------------------------------------------------------------------------------------------


def test_a_kernel_upgrade_is_the_same_target() -> None:
    found = compare(run([cell()]), run([cell(FULL, target=OWN, kernel_release="4.9.0")]))
    assert (found.cells[0].label, found.verdict) == ("nat-flushed,iptables=nft@debian12", "changed")
    assert Difference("target", "debian12", OWN) in found.differences
    assert Difference("debian12: kernel", "6.1.0-50-cloud-amd64", "4.9.0") in found.differences


def test_two_targets_of_one_run_are_compared() -> None:
    both = run([cell(), cell(FULL, target=OWN)])
    assert compare(both, both).verdict == "same"
    found = compare(both, both, [f"debian12={OWN}"])
    assert [(one.label, one.verdict) for one in found.cells] == [("nat-flushed,iptables=nft@debian12", "changed")]
    assert found.only_base == found.only_new == ()


def test_a_target_that_is_matched_twice_has_two_names() -> None:
    both = run([cell(), cell(FULL, target=OWN)])
    found = compare(both, both, [f"debian12={OWN}", "debian12=debian12"])
    short = "nat-flushed,iptables=nft@debian12"
    assert [one.label for one in found.cells] == [f"{short}={OWN}", f"{short}=debian12"]


def test_cells_of_one_run_only_are_named_and_fail_nothing() -> None:
    gone, came = cell(variant="gone"), cell(variant="came")
    found = compare(run([cell(), gone]), run([cell(), came]))
    assert (found.only_base, found.only_new) == (("gone@debian12",), ("came@debian12",))
    assert (found.unfinished, found.missing, found.verdict, found.exit_status) == (
        (),
        ("gone@debian12",),
        "incomplete",
        3,
    )


def test_cells_that_a_run_did_not_come_to_cannot_be_told() -> None:
    whole, killed = run([cell(), cell(variant="gone")]), run([cell()], complete=False)
    found = compare(whole, killed)
    assert found.unfinished == ("NEW did not end, and one cell of the other is not in it",)
    assert (found.verdict, found.exit_status) == ("unclear", 3)
    assert compare(killed, whole).unfinished[0].startswith("BASE did not end")
    assert compare(killed, run([cell()])).exit_status == 0
    assert compare(run([cell()]), run([cell(), cell(variant="more")], complete=False)).exit_status == 0


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "value"), [("connections", 2000), ("max", 50)])
def test_other_loads_and_tables_are_not_compared(name: str, value: int) -> None:
    changed = run([cell()], "results/two", overrides={"connections": None, "max": None, "set": [], name: value})
    with pytest.raises(
        ScenarioError, match=f"--{name} is each scenario's own in results/one and {value} in results/two"
    ):
        compare(run([cell()]), changed)
    assert compare(changed, changed).exit_status == 0


def test_runs_without_a_cell_in_common_are_refused() -> None:
    with pytest.raises(ScenarioError, match="no cell in common: targets debian11, debian12 and debian13") as raised:
        compare(run([cell(target="debian11"), cell()]), run([cell(target="debian13")]))
    assert "--match" in raised.value.hint
    with pytest.raises(ScenarioError, match="no cell in common"):
        compare(run([cell()]), run([cell(variant="other")]))


def test_another_meaning_is_refused() -> None:
    other = cell(FULL, scenario_digest=OTHER_DIGEST)
    with pytest.raises(ScenarioError) as raised:
        compare(run([cell()]), run([other], "results/two"))
    told = "the scenario nat-flushed does not mean the same: its digest is aaaaaaaaaaaa in BASE and bbbbbbbbbbbb in NEW"
    assert str(raised.value) == f"results/one and results/two cannot be compared\n  {told}"
    found = compare(run([cell(), cell(variant="pristine")]), run([other, cell(variant="pristine")]))
    assert [(one.verdict, one.reason) for one in found.cells] == [
        ("not-comparable", told),
        ("same", "untracked 1 of 1 in BASE, untracked 1 of 1 in NEW"),
    ]
    assert found.exit_status == 3
    assert found.cells[0].tests["held"].why == "cannot be compared"
    assert errors(found) == []


SCENARIO = 'version = 1\nname = "nat-flushed"\nsummary = "x"\n[[state]]\nrun = ["true"]\n[load]\nconnections = {}\n'


def test_where_meanings_differ_is_told_where_that_is_known() -> None:
    one, other = (
        json.loads(json.dumps(scenario_meaning(parse_scenario(text, "nat-flushed.toml")), default=str))
        for text in (SCENARIO.format(500), SCENARIO.format(900).replace('"true"', '"false", "and much more of it"'))
    )
    assert meaning_differences(one, other) == ["state differs", "load.connections is 500 in BASE and 900 in NEW"]
    base, new = (
        Run(
            name,
            stored_manifest(manifest()),
            (cell(scenario_digest=digest), cell(variant="pristine")),
            {"nat-flushed": meaning},
        )
        for name, digest, meaning in (("one", DIGEST, one), ("two", OTHER_DIGEST, other))
    )
    told = compare(base, new).cells[0].reason
    assert told.endswith("mean the same: state differs; load.connections is 500 in BASE and 900 in NEW")


def test_repeats_of_different_meanings_are_no_sample() -> None:
    mixed = [cell(), cell(repeat=2, scenario_digest=OTHER_DIGEST)]
    with pytest.raises(ScenarioError, match="aaaaaaaaaaaa, bbbbbbbbbbbb in BASE"):
        compare(run(mixed), run(mixed))


# -- what differs between the runs ------------------------------------------------------------------------------------


def test_what_differs_between_the_manifests_is_told() -> None:
    target = manifest()["targets"]["debian12"]
    changed = {
        **target,
        "image_sha256s": {**target["image_sha256s"], "vmlinuz": OTHER_DIGEST},
        "packages": {"linux-image-6.1.0-56-cloud-amd64": "6.1.192-2", "iptables": "1.8.11-2"},
    }
    new = run(
        [cell(kernel_release="6.1.0-56-cloud-amd64")],
        tool_version="0.2.0",
        command=["lab", "run", "nat-flushed", "--kernel", "a b"],
        provisioner={**manifest()["provisioner"], "accelerator": "kvm"},
        overrides={"connections": None, "max": None, "set": ["iptables=nft"], "mitigate": False},
        targets={"debian12": changed},
    )
    found = {one.what: (one.base, one.new) for one in compare(run([cell()]), new).differences}
    assert list(found) == [
        "debian12: kernel",
        "debian12: packages.linux-image",
        "debian12: packages.iptables",
        "debian12: image_files",
        "tool_version",
        "command",
        "provisioner.accelerator",
        "overrides.set",
    ]
    assert found["debian12: kernel"] == ("6.1.0-50-cloud-amd64", "6.1.0-56-cloud-amd64")
    assert found["debian12: packages.iptables"] == ("1.8.9-2", "1.8.11-2")
    assert found["command"] == ("lab run nat-flushed", "lab run nat-flushed --kernel 'a b'")
    assert found["overrides.set"] == (None, "iptables=nft")


def test_a_run_of_a_fleet_is_told_by_what_its_workers_had() -> None:
    workers = [
        {"name": name, "qemu_version": f"QEMU {version}", "host_cpu": "a processor", "cells": []}
        for name, version in (("a", 10), ("b", 10), ("c", 11))
    ]
    on_fleet = run([cell()], workers=workers)
    found = compare(run([cell()]), on_fleet)
    assert found.differences == (Difference("workers", None, "'QEMU 10, a processor' 'QEMU 11, a processor'"),)
    assert errors(found) == []
    assert compare(on_fleet, on_fleet).differences == ()


def test_versions_that_guests_told_stand_in_for_packages() -> None:
    bare = {"debian12": {"image": "debian12"}}
    base, new = (run([cell(versions={"iptables": version})], targets=bare) for version in ("1.8.9", "1.8.11"))
    assert [one.what for one in compare(base, new).differences] == ["debian12: iptables"]


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_a_manifest_may_hold_anything(value: Any) -> None:
    odd = {"provisioner": value, "targets": value, "overrides": value, "new": value}
    base, new = run([cell()], "one"), run([cell()], "two", **odd)
    try:
        assert errors(compare(base, new)) == []
    except ScenarioError as error:
        assert "--connections" in str(error) or "--max" in str(error)
