"""A stored cell: what it has is read back, whatever its size."""

from __future__ import annotations

import shutil
from pathlib import Path

from lab.core.scenario import MAX_SCENARIO_BYTES, FileStep, with_sources
from lab.host.results import layout
from lab.host.results.stored_cell import StoredCell
from lab.host.scenario_files import load_scenario
from tests.recordings import GOLDEN

RULES = "# a rule of a real host, which has thousands of them\n" * 10_000


def test_a_scenario_with_large_files_beside_it_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text(RULES)
    path = tmp_path / "mine.toml"
    head = 'version = 1\nname = "mine"\nsummary = "Large."\n[[state]]\n'
    path.write_text(head + 'file = { path = "/root/rules", source = "./rules" }\n')
    cell = next(folder for folder in sorted((GOLDEN / "cells").rglob("*@*")) if (folder / layout.PLAN).is_file())
    shutil.copytree(cell, tmp_path / "cell")
    text = with_sources(path.read_text(), load_scenario(path))
    assert len(text) > MAX_SCENARIO_BYTES
    (tmp_path / "cell" / layout.SCENARIO).write_text(text)
    plan = (tmp_path / "cell" / layout.PLAN).read_text()
    (tmp_path / "cell" / layout.PLAN).write_text(plan.replace(f'"{StoredCell(cell).plan().scenario}"', '"mine"', 1))
    (step,) = StoredCell(tmp_path / "cell").scenario().state
    assert isinstance(step, FileStep)
    assert step.text == RULES
