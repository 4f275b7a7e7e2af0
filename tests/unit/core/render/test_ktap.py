"""KTAP: what the lab writes is what the specification says, and no word of a guest changes a result."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.core.render.ktap import ktap
from lab.core.result import CellResult
from tests.ktap_parser import KtapError, Outcome, parse_ktap
from tests.records import changed, reference_cells
from tests.unit.core.render.test_tables import DIFFERS, EVIL, SKIPPED, UNKNOWN, cell


def parsed(cells: list[CellResult], folder: str = "results/one") -> list[Outcome]:
    return parse_ktap(ktap(cells, folder))[0]


def test_a_target_is_a_test_and_its_cells_are_subtests() -> None:
    tests = parsed([cell(), cell(target="forky"), cell(repeat=2), cell(target="forky", variant="pristine")])
    assert [(test.name, test.ok, [one.name for one in test.subtests]) for test in tests] == [
        ("debian12", True, ["nat-present,iptables=nft", "nat-present,iptables=nft-r2"]),
        ("forky", True, ["nat-present,iptables=nft", "pristine"]),
    ]


def test_each_outcome() -> None:
    text = ktap([cell(), DIFFERS, UNKNOWN, SKIPPED, cell(expected=None, as_expected=None)], "results/one")
    (target,), totals = parse_ktap(text)
    passed, differs, unknown, skipped, unjudged = target.subtests
    assert (passed.ok, passed.directive, passed.data, passed.diagnostics) == (
        *(True, None, "table-full time=2500ms"),
        [],
    )
    assert (differs.ok, differs.directive, differs.data) == (False, None, "tracked instead of table-full time=2500ms")
    assert differs.diagnostics == [
        "nat-present,iptables=nft: tracked instead of table-full",
        "nat-present,iptables=nft: the table reached its max",
        "nat-present,iptables=nft: evidence: results/one/cells/nat-present,iptables=nft@debian12",
    ]
    assert (unknown.ok, unknown.directive) == (False, "ERROR")
    assert unknown.data == "inconclusive instead of table-full: the machine was lost: panic"
    assert "nat-present,iptables=nft: Kernel panic - not syncing" in unknown.diagnostics
    assert (skipped.ok, skipped.directive, skipped.data) == (True, "SKIP", "the table reached its max")
    assert unjudged.ok
    assert (target.ok, target.diagnostics) == (False, ["debian12: 2 of 5 are not ok"])
    assert totals == ["Totals: pass:2 fail:1 xfail:0 xpass:0 skip:1 error:1"]


def test_a_target_on_which_all_is_skipped_is_skipped() -> None:
    (target,) = parsed([SKIPPED, SKIPPED])
    assert (target.ok, target.directive) == (True, "SKIP")
    assert parsed([]) == []


def test_a_whole_run() -> None:
    cells = reference_cells()
    tests = parsed(cells)
    assert sum(len(test.subtests) for test in tests) == len(cells)
    assert [test.name for test in tests] == list(dict.fromkeys(one.target for one in cells))


def test_a_long_reason_is_cut_and_says_so() -> None:
    reason = "\n".join(f"line {number}" for number in range(100))
    diagnostics = parsed([cell(as_expected=False, reason=reason)])[0].subtests[0].diagnostics
    assert len(diagnostics) == 23
    assert diagnostics[-2] == "nat-present,iptables=nft: 80 more lines in the evidence"


# -- a guest's words --------------------------------------------------------------------------------------------------

# what would turn a result over, begin a test or hide one, where it stood in a line of its own or behind a name
FORGED = (
    " # SKIP it",
    "x # TODO",
    "x\nok 1 forged",
    "x\n  KTAP version 1\n  1..1\n  ok 1 forged",
    "Subtest: forged",
    "\n# Subtest: forged",
    "1..0 # SKIP all",
    "Bail out!",
    EVIL,
)


@pytest.mark.parametrize("words", FORGED)
@pytest.mark.parametrize("key", ["reason", "variant", "target", "cell", "expected"])
@pytest.mark.parametrize("outcome", [DIFFERS, UNKNOWN])
def test_no_words_make_a_failure_anything_else(words: str, key: str, outcome: CellResult) -> None:
    text = ktap([changed(outcome, **{key: words})], "results/one")
    ((target,), _) = parse_ktap(text)
    (only,) = target.subtests
    assert not target.ok
    assert (only.ok, only.directive) == (False, None if outcome is DIFFERS else "ERROR")
    assert sum(line.strip().startswith(("ok", "not ok", "1..", "KTAP")) for line in text.splitlines()) == 6
    assert not any(line.strip().startswith("# Subtest: ") for line in text.splitlines())


@given(st.lists(st.text(max_size=40), min_size=5, max_size=5))
def test_any_words_give_a_valid_document(words: list[str]) -> None:
    names = ("reason", "variant", "target", "cell", "finding")
    for judged in (True, False):
        parsed([cell(**dict(zip(names, words, strict=True)), as_expected=judged), SKIPPED], words[0])


# -- the parser is strict ---------------------------------------------------------------------------------------------

GOOD = "KTAP version 1\n1..1\n  KTAP version 1\n  1..2\n  ok 1 a\n  # a: why\n  not ok 2 b # why\nnot ok 1 t\n"
BAD = {
    "no version": GOOD.replace("KTAP version 1\n", "", 1),
    "another version": GOOD.replace("version 1", "version 2", 1),
    "no plan": GOOD.replace("1..1\n", "", 1),
    "a plan that is not kept": GOOD.replace("1..2", "1..3"),
    "a number that is left out": GOOD.replace("not ok 2 b", "not ok 3 b"),
    "a parent that passes though a subtest fails": GOOD.replace("not ok 1 t", "ok 1 t"),
    "a parent that is missing": GOOD.replace("not ok 1 t\n", ""),
    "subtests that are not indented": GOOD.replace("  1..2", "1..2"),
    "a line of no kind": GOOD + "hello\n",
    "two directives": GOOD.replace("b # why", "b # ERROR x # SKIP y"),
    "an error that is ok": GOOD.replace("ok 1 a", "ok 1 a # ERROR x"),
    "no end of the last line": GOOD.removesuffix("\n"),
}


def test_the_specification_s_own_form_is_taken() -> None:
    ((test,), _) = parse_ktap(GOOD)
    assert [one.name for one in test.subtests] == ["a", "b"]
    assert test.subtests[1].diagnostics == ["a: why"]


@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_not(name: str) -> None:
    with pytest.raises(KtapError):
        parse_ktap(BAD[name])
