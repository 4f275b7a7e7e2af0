"""Evidence that no agent can have sent: a cell of it is inconclusive, and says why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lab.host.results.judging import read_and_judge
from tests.recordings import GOLDEN

CELL = GOLDEN / "cells" / "nat-flushed,iptables=nft@forky"


@pytest.mark.parametrize("value", ["../../outside", "a", [[]], [7], {"": 1}])
def test_listeners_that_are_none_are_no_crash(value: Any, tmp_path: Path) -> None:
    """Found by tests/fuzz: text in the place of pairs, whose characters are no pairs."""
    shutil.copytree(CELL, tmp_path / "cell")
    path = tmp_path / "cell" / "evidence" / "load.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "listeners": value}))
    finding = read_and_judge(tmp_path / "cell").judged.finding
    assert finding.name == "inconclusive" and "cannot be read" in finding.reason
