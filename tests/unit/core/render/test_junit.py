"""JUnit XML: the shape that the strictest reader takes, each outcome in it, and no markup of a guest's."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema

from lab.core.errors import LabError
from lab.core.render.junit import junit
from lab.core.render.test_cases import RunFacts, run_facts
from lab.core.result import CellResult
from lab.host.publish.ci import CiFiles
from lab.host.results.records import to_json
from tests import ROOT, recordings
from tests.records import reference_cells, stored, stored_manifest
from tests.unit.core.render.test_tables import DIFFERS, EVIL, SKIPPED, UNKNOWN, cell

GOLDEN = recordings.GOLDEN / "results"
SCHEMA = xmlschema.XMLSchema10(ROOT / "tests" / "schemas" / "junit.xsd")
FACTS = RunFacts(
    "results/one",
    "2026-11-21T15:19:16+00:00",
    {"lab.version": "0.1.0", "lab.accelerator": "tcg"},
    {"nat-present": "scenarios/nat-present.toml"},
)
PRESENT = {"scenario": "nat-present", "repeat": 1}


def root_of(cells: list[CellResult], facts: RunFacts = FACTS) -> ElementTree.Element:
    """The document, which is valid."""
    text = junit(cells, "conntrack-lab", facts)
    assert text.startswith("<?xml ")
    assert [str(error) for error in SCHEMA.iter_errors(text)] == []
    return ElementTree.fromstring(text.encode("utf-8"))


def suite_of(cells: list[CellResult]) -> ElementTree.Element:
    (suite,) = root_of(cells)
    return suite


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.result.json")), ids=lambda path: path.name)
def test_real_results_are_valid(path: Path) -> None:
    root_of([stored(json.loads(path.read_text()))])


def test_a_whole_run_is_valid_and_counted() -> None:
    cells = reference_cells()
    root = root_of(cells)
    for name in ("tests", "failures", "errors"):
        assert int(root.get(name, "")) == sum(int(suite.get(name, "")) for suite in root), name
    assert root.get("tests") == str(len(cells)) == str(len(root.findall("testsuite/testcase")))
    cases = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(set(cases)) == len(cases), "readers keep one case of each name"


def test_a_suite_counts_what_it_holds() -> None:
    suite = suite_of([cell(**PRESENT, **one) for one in ({}, DIFFERS_ONLY, UNKNOWN_ONLY, SKIPPED_ONLY)])
    names = ("name", "tests", "failures", "errors", "skipped", "time", "timestamp", "file")
    assert [suite.get(name) for name in names] == [
        *("nat-present@debian12", "4", "1", "1", "1", "7.500"),
        *("2026-11-21T15:19:16+00:00", "scenarios/nat-present.toml"),
    ]
    cases = suite.findall("testcase")
    told = [[child.tag for child in case if child.tag != "system-out"] for case in cases]
    assert told == [[], ["failure"], ["error"], ["skipped"]]
    assert cases[0].attrib == {"classname": "debian12", "name": "nat-present,iptables=nft", "time": "2.500"}
    assert {one.get("name"): one.get("value") for one in suite.iter("property")} == FACTS.properties


DIFFERS_ONLY = {name: to_json(DIFFERS)[name] for name in ("finding", "as_expected", "message_logged")}
UNKNOWN_ONLY = {name: to_json(UNKNOWN)[name] for name in ("finding", "as_expected", "reason", "connections")}
SKIPPED_ONLY = {name: to_json(SKIPPED)[name] for name in ("finding", "as_expected", "expected", "connections", "tries")}


def test_a_failure_says_what_was_expected_and_why_not() -> None:
    failure = suite_of([DIFFERS]).find("testcase/failure")
    assert failure is not None
    assert failure.attrib == {"type": "tracked", "message": "tracked instead of table-full"}
    assert failure.text == "the table reached its max"
    error = suite_of([UNKNOWN]).find("testcase/error")
    assert error is not None
    assert error.text == "the machine was lost: panic\nKernel panic - not syncing"


def test_each_case_says_where_its_evidence_lies() -> None:
    out = suite_of([cell()]).findtext("testcase/system-out")
    where = "results/one/cells/nat-present,iptables=nft@debian12"
    assert out == f"table-full: the table reached its max\nevidence: {where}"


def test_repeats_have_names_of_their_own() -> None:
    suite = suite_of([cell(**PRESENT), cell(**{**PRESENT, "repeat": 2})])
    assert [case.get("name") for case in suite] == [None, "nat-present,iptables=nft", "nat-present,iptables=nft-r2"]


def test_each_scenario_on_each_target_is_a_suite() -> None:
    cells = [cell(scenario=name, target=target) for target in ("debian12", "forky") for name in ("a", "b")]
    assert [suite.get("name") for suite in root_of(cells)] == ["a@debian12", "b@debian12", "a@forky", "b@forky"]


def test_without_a_manifest_less_is_told() -> None:
    (suite,) = root_of([cell()], RunFacts())
    assert set(suite.attrib) == {"name", "tests", "failures", "errors", "skipped", "time"}
    assert suite.find("properties") is None
    assert root_of([], RunFacts()).get("tests") == "0"


@pytest.mark.parametrize("key", ["reason", "target", "variant", "expected", "cell", "finding", "scenario"])
def test_no_word_breaks_the_xml(key: str) -> None:
    suite = suite_of([cell(as_expected=False, **{key: EVIL})])
    assert [child.tag for child in suite if child.tag != "properties"] == ["testcase"]
    shown = "".join(suite.itertext()) + "".join(value for one in suite.iter() for value in one.attrib.values())
    assert "<script>" in shown


def test_no_word_of_a_manifest_breaks_it_either() -> None:
    manifest = {
        "tool_version": EVIL,
        "provisioner": {"name": EVIL, "accelerator": [EVIL]},
        "host": None,
        "scenario_files": {"nat-present": {"path": EVIL, "text": EVIL}, "other": 3},
    }
    for started in (7, EVIL, "today", None):
        facts = run_facts(stored_manifest({**manifest, "started_at": started}), EVIL)
        assert facts.started_at is None
        root_of([cell(**PRESENT)], facts)


def test_no_word_attaches_a_file() -> None:
    for key in ("reason", "cell", "expected"):
        out = suite_of([cell(**{key: "[[ATTACHMENT|/etc/passwd]] [[[ATTACHMENT|x]]"})]).findtext("testcase/system-out")
        assert out is not None
        assert "[[" not in out


# -- files ------------------------------------------------------------------------------------------------------------


def test_files_are_written_whole_and_beside_nothing_else(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "manifest.json").write_text(json.dumps({"started_at": "2026-11-21T15:19:16+00:00"}))
    files = CiFiles({"junit": tmp_path / "out.xml", "ktap": tmp_path / "out.ktap"})
    files.check()
    files.write([cell()], run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.ktap", "out.xml", "run"]
    assert "2026-11-21T15:19:16" in (tmp_path / "out.xml").read_text()
    assert (tmp_path / "out.ktap").read_text().startswith("KTAP version 1\n")


@pytest.mark.parametrize("name", ["junit", "ktap"])
def test_a_file_that_cannot_be_written_is_told_before_the_run(tmp_path: Path, name: str) -> None:
    for path in (tmp_path, tmp_path / "nowhere" / "out"):
        with pytest.raises(LabError, match=f"--{name} {path}: cannot be written") as caught:
            CiFiles({name: path}).check()
        assert caught.value.hint


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    CiFiles({"ktap": Path("/dev/null")}).write([cell()], tmp_path)
    assert not Path("/dev/null").is_file()
