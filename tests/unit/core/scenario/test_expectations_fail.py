"""A wrong expectation really fails: every shipped scenario, against evidence that was recorded in real guests."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from lab.core.plan import variants
from lab.core.result import exit_status
from lab.core.scenario.expectation import FINDINGS
from lab.host.results.judging import judge_folder
from lab.host.scenario_files import load_scenario
from tests import ROOT
from tests.recordings import GOLDEN

RUNS = (GOLDEN, GOLDEN / "scenarios", GOLDEN / "paths")
SCENARIOS = {path.stem: path for path in sorted((ROOT / "scenarios").glob("*.toml"))}
VARIANTS = {one.name: path for path in SCENARIOS.values() for one in variants(load_scenario(path))}
RECORDED = {
    cell.name: cell
    for run in RUNS
    for cell in sorted((run / "cells").iterdir())
    if cell.is_dir() and cell.name.split("@")[0] in VARIANTS
}
_FINDING = re.compile(r'^finding = "([a-z-]+)"$', re.MULTILINE)


def status(cell: str, scenario_text: str, folder: Path) -> int:
    """The exit status of a run of this one cell, had its scenario been this text."""
    shutil.copytree(RECORDED[cell], folder)
    (folder / "scenario.toml").write_text(scenario_text)
    return exit_status([judge_folder(folder, ())])


def other(finding: str) -> str:
    """A finding that is another one, and says something of the kernel."""
    return next(name for name in FINDINGS if name not in (finding, "inconclusive"))


def test_every_variant_was_recorded() -> None:
    assert {cell.split("@")[0] for cell in RECORDED} == set(VARIANTS)


@pytest.mark.parametrize("cell", RECORDED)
def test_the_expectation_holds_and_any_other_fails(cell: str, tmp_path: Path) -> None:
    text = VARIANTS[cell.split("@")[0]].read_text()
    assert status(cell, text, tmp_path / "as it is") == 0
    wrong = _FINDING.sub(lambda found: f'finding = "{other(found[1])}"', text)
    assert status(cell, wrong, tmp_path / "wrong") == 1
