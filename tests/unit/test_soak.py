"""What a soak calls wrong: its checks see a fault of the lab when there is one."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.soak.faults import FAULTS, dealt
from tests.soak.fuzzing import counted
from tests.soak.processes import TOKEN, Use, name_of, processes_of, use_of
from tests.soak.runs import Place, check_cell, check_end, check_growth, check_left
from tests.soak.tally import Tally

FULL = "full disk for results"


def test_each_fault_comes_once_before_any_comes_again() -> None:
    drawn = list(itertools.islice(dealt(random.Random(1), as_root=True), 2 * len(FAULTS)))
    assert set(drawn[: len(FAULTS)]) == set(drawn[len(FAULTS) :]) == set(FAULTS)
    assert FULL not in itertools.islice(dealt(random.Random(1), as_root=False), 2 * len(FAULTS))


@pytest.mark.parametrize(
    ("status", "said", "is_wrong"),
    [(2, "lab: No space left", False), (0, "", True), (70, "", True), (2, "Traceback (most recent call last)", True)],
)
def test_a_status_that_the_fault_does_not_excuse_is_wrong(status: int, said: str, is_wrong: bool) -> None:
    tally = Tally()
    check_end(FULL, status, said, tally)
    assert bool(tally.wrong) == is_wrong


@pytest.mark.parametrize(
    ("finding", "outcome", "is_wrong"),
    [
        ("table-full", None, False),
        ("inconclusive", None, False),
        ("untracked", None, True),
        ("table-full", "fixes", False),
        ("table-full", "no effect", True),
    ],
)
def test_another_finding_is_wrong_and_a_lost_one_is_not(finding: str, outcome: str | None, is_wrong: bool) -> None:
    tally = Tally()
    mitigation: Any = None if outcome is None else {"outcome": outcome, "reason": ""}
    cell = {"cell": "x", "scenario": "nat-present", "finding": finding, "reason": "", "mitigation": mitigation}
    check_cell("none", cell, tally)
    assert bool(tally.wrong) == is_wrong


@pytest.mark.parametrize(
    ("descriptors", "memory_kb", "wrong"), [(0, 0, 0), (0.2, 0, 0), (1, 0, 1), (0, 200, 0), (1, 3000, 2)]
)
def test_growth_with_every_sample_is_wrong(descriptors: float, memory_kb: int, wrong: int) -> None:
    tally = Tally()
    uses = [Use(20 + int(number * descriptors), 50_000 + number * memory_kb) for number in range(40)]
    check_growth("none", uses, tally)
    assert len(tally.wrong) == wrong


def test_what_a_run_leaves_is_wrong_and_is_removed(tmp_path: Path) -> None:
    place, tally = Place(tmp_path, "debian12"), Tally()
    folders = [place.cache / "conntrack-lab/states/.tmp-x", tmp_path / "results/r/cells/.partial-a", place.temporary]
    for folder in folders:
        folder.mkdir(parents=True)
    argv = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    with subprocess.Popen(argv, env={**os.environ, TOKEN: "leak"}, stdout=subprocess.PIPE) as left:
        assert left.stdout is not None and left.stdout.readline()
        assert processes_of("leak") == [left.pid] and "python" in name_of(left.pid) and use_of(left.pid) is not None
        check_left("none", "leak", place, tmp_path / "results", tally, end_seconds=0)
        assert left.wait(timeout=30) == -9
    assert len(tally.wrong) == 2 and str(left.pid) in tally.wrong[0] and ".tmp-x, .partial-a" in tally.wrong[1]
    assert use_of(left.pid) is None and name_of(left.pid) == ""
    check_left("none", "leak", place, tmp_path / "results", again := Tally(), end_seconds=0)
    assert not again.wrong


def test_examples_are_counted_as_hypothesis_prints_them() -> None:
    printed = """tests/fuzz/test_texts.py::test_a_parser[x]:

  - during generate phase (0.45 seconds):
    - 200 passing, 0 failing, and 14 invalid test cases
  - during shrink phase (0.01 seconds):
    - 10 passing test cases, 2 failing test cases, 3 invalid test cases
"""
    assert counted(printed) == 212
