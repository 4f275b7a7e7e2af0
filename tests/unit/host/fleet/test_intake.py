"""What comes from a worker is not believed: it is what was asked for, whole, and judged here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab.core.errors import LabError
from lab.core.plan import CellPlan
from lab.core.sums import SUMS
from lab.host.fleet import archive
from lab.host.fleet.intake import Intake
from lab.host.options import RunOptions
from lab.host.results import sums
from lab.host.results.store import create_run
from lab.host.run.planned import plan_run
from tests.unit.host.fleet.playback import RECORDED

CELL = "pristine@debian12"


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, project_root: Path) -> CellPlan:
    monkeypatch.chdir(project_root)
    (found,) = plan_run(RunOptions(scenarios=("pristine",), connections=300)).plans
    return found


@pytest.fixture
def cell(tmp_path: Path, plan: CellPlan) -> Path:
    """The folder of a cell on a worker."""
    folder = tmp_path / "worker" / CELL
    shutil.copytree(RECORDED / "cells" / CELL, folder)
    (folder / "plan.json").write_text(json.dumps(plan.to_json()))
    (folder / SUMS).write_text(sums.cell_sums(folder))
    return folder


@pytest.fixture
def intake(tmp_path: Path, cell: Path) -> Iterator[Intake]:
    with create_run(tmp_path / "results") as run:
        yield Intake(run, {"pristine": (cell / "scenario.toml").read_text()}, mitigate=False)


def there(intake: Intake) -> list[str]:
    return [path.name for path in (intake.run.path / "cells").iterdir()]


def test_a_cell_is_stored_and_judged_again(intake: Intake, plan: CellPlan, cell: Path) -> None:
    result = json.loads((cell / "result.json").read_text())
    (cell / "result.json").write_text(json.dumps({**result, "finding": "table-full"}))  # as if it were so
    (cell / SUMS).write_text(sums.cell_sums(cell))
    assert intake.take(plan, archive.pack(cell)).finding == "untracked"
    assert there(intake) == [CELL]


def _cut(cell: Path) -> None:
    (cell / "evidence" / "load.json").unlink()


def _change(cell: Path) -> None:
    (cell / "evidence" / "load.json").write_text("{}")


def _add(cell: Path) -> None:
    (cell / "more").write_text("x")


def _no_list(cell: Path) -> None:
    (cell / SUMS).unlink()


def _other_plan(cell: Path) -> None:
    plan = json.loads((cell / "plan.json").read_text())
    plan["load"]["connections"] = 1
    (cell / "plan.json").write_text(json.dumps(plan))
    (cell / SUMS).write_text(sums.cell_sums(cell))


def _other_scenario(cell: Path) -> None:
    (cell / "scenario.toml").write_text('summary = "Another."\n')
    (cell / SUMS).write_text(sums.cell_sums(cell))


def _no_plan(cell: Path) -> None:
    (cell / "plan.json").unlink()
    (cell / SUMS).write_text(sums.cell_sums(cell))


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (_cut, "load.json: is gone"),
        (_change, "load.json: its SHA-256 is"),
        (_add, "more: is not in the cell's"),
        (_no_list, "there is no SHA256SUMS"),
        (_other_plan, "its plan.json is not what the worker was sent"),
        (_other_scenario, "its scenario.toml is not what the worker was sent"),
        (_no_plan, "has no plan.json"),
    ],
)
def test_what_is_not_what_was_asked_for_leaves_nothing(
    spoil: Callable[[Path], None], what: str, intake: Intake, plan: CellPlan, cell: Path
) -> None:
    spoil(cell)
    with pytest.raises(LabError) as refused:
        intake.take(plan, archive.pack(cell))
    assert what in str(refused.value)
    assert there(intake) == []


def test_of_two_results_the_first_counts_and_another_finding_is_news(
    intake: Intake, plan: CellPlan, cell: Path
) -> None:
    first = intake.take(plan, archive.pack(cell))
    kept = (intake.run.path / "cells" / CELL / "result.json").read_bytes()
    assert intake.compare(plan, archive.pack(cell), first) is None
    news = intake.compare(plan, archive.pack(cell), replace(first, finding="table-full"))
    assert news == f"{CELL}: came a second time, and found untracked; table-full, which came first, counts"
    _change(cell)
    assert "came a second time, not whole" in str(intake.compare(plan, archive.pack(cell), first))
    assert (intake.run.path / "cells" / CELL / "result.json").read_bytes() == kept
    assert sorted(path.name for path in intake.run.path.iterdir()) == [".lock", "cells"]
