"""A load that cannot fill its table is not judged by an expectation that needs it full."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lab.core.render.tables import human_table
from lab.core.result import CellResult
from lab.core.scenario import parse_scenario
from lab.core.scenario.filling import cannot_fill
from lab.host.cli.main import command_line
from lab.host.options import read_options
from lab.host.results.judging import judge_run
from lab.host.run.planned import PlannedRun, plan_run, too_small
from tests.records import stored
from tests.unit.host.run.test_runner import PRESENT, RUN

SCENARIO = parse_scenario(
    'version = 1\nname = "x"\nsummary = "s"\n[conntrack]\nmax = 100\n[load]\nconnections = 1000\n', "x.toml"
)


@pytest.mark.parametrize(
    ("connections", "newcomers", "table_max", "fills"),
    [
        (1000, None, 100, True),  # as the scenario has it
        (101, None, 100, True),
        (100, None, 100, False),
        (50, None, 100, False),
        (50, 51, 100, True),
        (1000, None, 5000, False),
        (50, None, None, True),  # the kernel's own max is not known
        ("many", None, 100, True),
    ],
)
def test_which_loads_fill(connections: object, newcomers: object, table_max: object, fills: bool) -> None:
    assert (cannot_fill(SCENARIO, connections, newcomers, table_max) is None) is fills


def judged(tmp_path: Path, **changes: Any) -> CellResult:
    folder = tmp_path / "run" / "cells" / PRESENT
    shutil.copytree(RUN / "cells" / PRESENT, folder)
    plan = json.loads((folder / "plan.json").read_text())
    plan["load"].update(changes)
    (folder / "plan.json").write_text(json.dumps(plan))
    (result,) = judge_run(tmp_path / "run")
    return result


def test_a_cell_that_could_not_be_as_expected_does_not_differ(tmp_path: Path) -> None:
    result = judged(tmp_path, connections=50)
    assert (result.expected, result.as_expected) == (None, None)
    assert result.because == "table-full is not expected here: 50 connections cannot fill a table of 100 entries"
    assert (result.because or "") in human_table([result])


def test_a_cell_that_could_is_judged(tmp_path: Path) -> None:
    assert judged(tmp_path).as_expected is True


def test_it_is_said_before_the_run() -> None:
    lines = too_small(planned(40))
    assert "nat-present: 40 connections cannot fill a table of 100 entries, so it is not judged" in "\n".join(lines)
    assert too_small(planned(4000)) == []


def planned(connections: int) -> PlannedRun:
    options = command_line().parse_args(["run", "nat-*", "--connections", str(connections)])
    return plan_run(read_options(options))


def test_a_refused_cell_that_nobody_judges_is_told() -> None:
    result = json.loads((RUN / "results" / "state-refused.result.json").read_text())
    result.update(expected=None, as_expected=None, because=None)
    table = human_table([stored(result)])
    assert "state-refused, and not judged" in table and str(result["reason"]).splitlines()[0] in table
