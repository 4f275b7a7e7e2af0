"""A run of each version of the formats, as it was stored: every later lab judges, compares, reports and verifies it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from lab.core.result import RESULT_VERSION
from lab.host.cli import main as cli
from lab.host.publish.schemas import schema_text
from lab.host.results.comparison import load_run
from tests import recordings

GOLDEN = recordings.GOLDEN / "results"
RUNS = sorted(path.parent for path in GOLDEN.glob("v*/*/manifest.json"))
FINDINGS = {
    "pristine@debian12": "untracked",
    "nat-present,iptables=nft@debian12": "table-full",
    "modules-blocked,iptables=nft@debian12": "state-refused",
}
# what a run's own files are described by
DOCUMENTS = {"manifest.json": "manifest", "results.json": "results", "plan.json": "plan"}

Json = dict[str, Any]


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(params=RUNS, ids=lambda path: f"{path.parent.name}-{path.name}")
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy, for judging writes to it."""
    return Path(shutil.copytree(request.param, tmp_path / request.param.name))


def read(path: Path) -> Json:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def errors(document: object, name: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(json.loads(schema_text(name)))
    return [error.message for error in validator.iter_errors(document)]


def but_for_what_came_later(old: Json, new: Json) -> Json:
    """The new result, with the keys that the old one had; a reason's words may have become better."""
    assert new["reason"]
    kept = {name: old[name] if name == "reason" else value for name, value in new.items() if name in old}
    if old["holders"] and new["holders"]:
        pairs = zip(old["holders"], new["holders"], strict=True)
        kept["holders"] = [{name: value for name, value in now.items() if name in then} for then, now in pairs]
    return kept


def test_there_is_a_run_of_every_version() -> None:
    assert {path.parent.name for path in RUNS} == {f"v{number}" for number in range(1, RESULT_VERSION + 1)}
    assert {path.name for path in RUNS} >= {"before-digests", "digests"}


def test_its_documents_are_valid_by_todays_schemas(run: Path) -> None:
    for name, schema in DOCUMENTS.items():
        paths = list(run.rglob(name))
        assert paths
        for path in paths:
            assert errors(read(path), schema) == [], path


def test_it_is_judged_as_it_was(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read(run / "results.json")["cells"]
    assert cli.main(["judge", str(run), "--format", "json"]) == 0
    after = json.loads(capsys.readouterr().out)["cells"]
    assert {cell["cell"]: cell["finding"] for cell in after} == FINDINGS
    assert [but_for_what_came_later(old, new) for old, new in zip(before, after, strict=True)] == before
    assert errors({"schema_version": RESULT_VERSION, "cells": after}, "results") == []


def test_it_is_compared(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for other in RUNS:
        assert cli.main(["compare", str(run), str(other), "--format", "json"]) == 0
        comparison = json.loads(capsys.readouterr().out)
        assert errors(comparison, "compare") == []
        assert [cell["verdict"] for cell in comparison["cells"]] == ["same"] * len(FINDINGS)
    assert len(load_run(run).cells) == len(FINDINGS)


def test_it_is_reported(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(run)]) == 0
    assert (run / "report.html").stat().st_size > 10_000
    capsys.readouterr()
    assert cli.main(["report", str(run), "--format", "md"]) == 0
    assert "nat-present" in capsys.readouterr().out


def test_it_is_verified_also_after_a_report_and_a_judgement(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = 0 if (run / "SHA256SUMS").exists() else 3
    assert cli.main(["verify", str(run)]) == wanted
    assert cli.main(["report", str(run)]) == 0
    assert cli.main(["judge", str(run)]) == 0
    capsys.readouterr()
    assert cli.main(["verify", str(run)]) == wanted
    out = capsys.readouterr().out
    assert ("recorded no digests yet" in out) == (wanted == 3)
    assert "DIFFERS" not in out


def test_ci_files_are_made_of_it(run: Path, tmp_path: Path) -> None:
    files = [f"--{name}={tmp_path / name}" for name in ("junit", "ktap")]
    assert cli.main(["judge", str(run), *files]) == 0
    assert (tmp_path / "junit").read_text().count("<testcase ") == len(FINDINGS)
    assert "# Totals: pass:3 fail:0" in (tmp_path / "ktap").read_text()
