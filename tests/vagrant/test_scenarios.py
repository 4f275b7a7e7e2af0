"""The shipped scenarios give on a box what they give on an image of the same release."""

from __future__ import annotations

import json

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


def test_what_a_box_cannot_have_is_skipped_with_the_reason(lab: Lab) -> None:
    target = ("--target", f"vagrant:{BOXES[0]}", "--output", str(lab.output))
    lab.run("run", "modules-blacklisted", "--set", "iptables=legacy", *target, expect=4)
    (cell,) = json.loads((lab.output / "latest" / "results.json").read_text())["cells"]
    assert cell["finding"] == "skipped"
    assert "boots with its own arguments" in cell["reason"]
