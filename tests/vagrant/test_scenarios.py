"""The shipped scenarios give on a box what they give on an image of the same release."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.vagrant.conftest import BOXES, Lab

SCENARIOS = ("pristine", "nat-present", "nat-flushed", "modules-blocked", "nat-flushed-always-on")


@pytest.mark.parametrize("box", BOXES)
def test_boxes_give_the_expected_findings_with_20000_connections(lab: Lab, box: str) -> None:
    target = ("--target", f"vagrant:{box}", "--share-machine", "--output", str(lab.output))
    lab.run("run", *SCENARIOS, "--provisioner", "vagrant", *target)
    cells = json.loads((lab.output / "latest" / "results.json").read_text())["cells"]
    assert {cell["scenario"] for cell in cells} == set(SCENARIOS)
    assert [cell["cell"] for cell in cells if cell["as_expected"] is not True] == []
    held = [cell["connections"]["held"] for cell in cells if cell["finding"] == "untracked"]
    assert set(held) == {20_000}


def test_what_a_box_cannot_have_is_skipped_with_the_reason(lab: Lab, tmp_path: Path) -> None:
    scenario = tmp_path / "booted.toml"
    scenario.write_text(
        'version = 1\nname = "booted"\nsummary = "Needs boot arguments."\n'
        '[machine]\nboot_args = ["module_blacklist=nf_conntrack"]\n[load]\nconnections = 200\n'
    )
    lab.run("run", str(scenario), "--target", f"vagrant:{BOXES[0]}", "--output", str(lab.output), expect=4)
    (cell,) = json.loads((lab.output / "latest" / "results.json").read_text())["cells"]
    assert cell["finding"] == "skipped"
    assert "boots with its own arguments" in cell["reason"]
