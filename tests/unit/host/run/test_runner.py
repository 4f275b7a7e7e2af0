"""Running cells without a guest: recorded ones are played back, lost, retried, interrupted, and judged again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from lab.core.errors import GuestLost, ScenarioError
from lab.core.plan import CellPlan
from lab.host.machines.machine import OnEvent
from lab.host.machines.playback import (
    RecordedMachine,
    ReplayMachine,
    ReplayProvisioner,
    recorded_machine,
    recorded_plan,
)
from lab.host.options import Deadlines
from lab.host.results.judging import judge_run
from lab.host.results.store import create_run
from lab.host.results.stored_cell import StoredCell
from lab.host.results.stored_run import StoredRun
from lab.host.run.recording import Progress
from lab.host.run.runner import Job, Runner
from tests.recordings import GOLDEN
from tests.records import document
from tests.unit.core.judging.test_finding import EXPECTED

pytestmark = pytest.mark.asyncio

RUN = GOLDEN
PRISTINE, PRESENT, BLOCKED = (
    "pristine@debian12",
    "nat-present,iptables=nft@debian13",
    "modules-blocked,iptables=legacy@debian13",
)
# what differs between two runs of the same cell
TIMES = ("stages_seconds", "tries")


def job(cell: str) -> Job:
    folder = RUN / "cells" / cell
    return Job(recorded_plan(folder), recorded_machine(folder), (folder / "scenario.toml").read_text())


class Ran:
    """What a run did and left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: list[dict[str, Any]] = []
        self.seen: list[tuple[str, str]] = []
        self.ended: list[str] = []

    @property
    def only(self) -> dict[str, Any]:
        (result,) = self.results
        return result

    def stored(self) -> list[dict[str, Any]]:
        cells: list[dict[str, Any]] = json.loads((self.path / "results.json").read_text())["cells"]
        return cells

    def evidence_files(self, cell: str) -> dict[str, bytes]:
        folder = self.path / "cells" / cell
        files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return {str(path.relative_to(folder)): content for path, content in files.items()}


async def run(
    results: Path,
    cells: Iterable[str],
    provisioner: ReplayProvisioner | None = None,
    *,
    parallel: int = 1,
    on_progress: Callable[[CellPlan, Progress], None] = lambda plan, seen: None,
    deadlines: Deadlines | None = None,
    into: list[Ran] | None = None,
) -> Ran:
    with create_run(results) as folder:
        ran = Ran(folder.path)
        if into is not None:
            into.append(ran)

        def note(plan: CellPlan, seen: Progress) -> None:
            ran.seen.append((plan.cell, seen.stage))
            on_progress(plan, seen)

        runner = Runner(
            provisioner or ReplayProvisioner(),
            folder,
            deadlines or Deadlines(),
            note,
            lambda plan, result: ran.ended.append(plan.cell),
        )
        try:
            await runner.run_all([job(cell) for cell in cells], parallel)
        finally:
            ran.results = [document(result) for result in runner.results]
    return ran


def but_for_times(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in TIMES}


# -- playing back -----------------------------------------------------------------------------------------------------


async def test_every_recorded_cell_gives_the_same_when_run_and_when_judged(tmp_path: Path) -> None:
    recorded = tmp_path / "recorded"
    shutil.copytree(RUN / "cells", recorded / "cells")
    judged = {result.cell: but_for_times(document(result)) for result in judge_run(recorded)}
    ran = await run(tmp_path / "results", EXPECTED)
    assert {result["cell"]: but_for_times(result) for result in ran.results} == judged
    assert {name: result["finding"] for name, result in judged.items()} == {
        name: expected.finding for name, expected in EXPECTED.items()
    }
    assert all(result["as_expected"] for result in judged.values())


async def test_the_evidence_of_a_played_back_cell_is_that_of_the_recorded_one(tmp_path: Path) -> None:
    for cell in (PRISTINE, PRESENT, BLOCKED):
        ran = await run(tmp_path, [cell])
        assert StoredCell(ran.path / "cells" / cell).evidence() == StoredCell(RUN / "cells" / cell).evidence()
        files = ran.evidence_files(cell)
        for path in (RUN / "cells" / cell / "evidence").rglob("*.txt"):
            name = str(path.relative_to(RUN / "cells" / cell))
            assert files[name] == path.read_bytes(), name


async def test_judging_again_changes_nothing(tmp_path: Path) -> None:
    ran = await run(tmp_path, [PRESENT, PRISTINE], ReplayProvisioner("load", losses=1))
    before = ran.evidence_files(PRESENT), ran.evidence_files(PRISTINE)
    first = {result["cell"]: result for result in ran.stored()}
    judge_run(ran.path)
    assert {result["cell"]: result for result in ran.stored()} == first
    assert before == (ran.evidence_files(PRESENT), ran.evidence_files(PRISTINE))


async def test_results_come_in_the_order_of_the_jobs_and_are_told_as_they_end(tmp_path: Path) -> None:
    cells = [PRESENT, PRISTINE, BLOCKED]
    ran = await run(tmp_path, cells)
    assert [result["cell"] for result in ran.stored()] == cells
    assert ran.ended == cells
    stages = [stage for cell, stage in ran.seen if cell == PRESENT]
    assert list(dict.fromkeys(stages)) == ["restore", "state", "load", "collect", "destroy"]
    assert set(ran.results[0]["stages_seconds"]) == {"restore", "state", "load", "collect", "destroy"}


async def test_a_refused_state_is_never_loaded(tmp_path: Path) -> None:
    ran = await run(tmp_path, [BLOCKED])
    assert "load" not in [stage for _, stage in ran.seen]
    assert (ran.only["connections"], ran.only["drops"]) == (None, None)


# -- machines that are lost -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["hello", "begin", "apply", "set", "observe", "load", "kernel_log"])
async def test_a_cell_whose_machine_is_lost_once_is_tried_again(tmp_path: Path, operation: str) -> None:
    provisioner = ReplayProvisioner(operation, losses=1)
    ran = await run(tmp_path, [PRESENT], provisioner)
    assert (ran.only["finding"], ran.only["as_expected"]) == ("table-full", True)
    assert [attempt["number"] for attempt in ran.only["tries"]] == [1, 2]
    assert [bool(attempt["lost"]) for attempt in ran.only["tries"]] == [True, False]
    assert f"`{operation}`" in ran.only["tries"][0]["lost"]
    first = StoredCell(ran.path / "cells" / PRESENT / "tries" / "1").evidence()
    assert first.lost == ran.only["tries"][0]["lost"]
    assert (provisioner.given, provisioner.alive) == (2, 0)


async def test_a_lost_machine_leaves_what_it_had_said(tmp_path: Path) -> None:
    ran = await run(tmp_path, [PRESENT], ReplayProvisioner("load", losses=1))
    folder = ran.path / "cells" / PRESENT
    lost, whole = StoredCell(folder / "tries" / "1").evidence(), StoredCell(folder).evidence()
    assert (lost.before, lost.samples, lost.settings) == (whole.before, whole.samples, whole.settings)
    assert (lost.load, lost.after, lost.kernel_log) == (None, None, None)
    assert (folder / "tries" / "1" / "console.log").read_text() == (folder / "console.log").read_text() != ""


async def test_a_cell_whose_machine_is_lost_twice_is_inconclusive(tmp_path: Path) -> None:
    provisioner = ReplayProvisioner("load", losses=9)
    ran = await run(tmp_path, [PRESENT], provisioner)
    assert (ran.only["finding"], ran.only["as_expected"]) == ("inconclusive", False)
    assert "`load`" in ran.only["reason"]
    assert [bool(attempt["lost"]) for attempt in ran.only["tries"]] == [True, True]
    assert ran.only["expected"] == "table-full", "the kernel had told its release"
    assert provisioner.given == 2, "retried once, not for ever"


async def test_a_machine_that_never_answered_is_expected_to_do_nothing_in_particular(tmp_path: Path) -> None:
    ran = await run(tmp_path, [PRESENT], ReplayProvisioner("hello", losses=9))
    assert (ran.only["finding"], ran.only["kernel_release"]) == ("inconclusive", None)
    assert (ran.only["expected"], ran.only["as_expected"]) == (None, None)


async def test_a_recorded_loss_is_played_back_as_a_loss(tmp_path: Path) -> None:
    lost = await run(tmp_path, [PRESENT], ReplayProvisioner("observe", losses=9))
    folder = lost.path / "cells" / PRESENT
    with pytest.raises(GuestLost, match="was made to vanish during `observe`"):
        machine = ReplayMachine(folder)
        for operation in ("hello", "begin", "apply", "set", "observe", "load"):
            await machine.call(operation, deadline_seconds=1)


class Stuck(ReplayProvisioner):
    """Machines that do not go away."""

    @contextlib.asynccontextmanager
    async def machine(self, spec: RecordedMachine) -> AsyncIterator[ReplayMachine]:
        async with super().machine(spec) as machine:
            yield machine
            await asyncio.sleep(3600)


async def test_a_machine_that_does_not_go_away_in_time_is_lost(tmp_path: Path) -> None:
    ran = await run(tmp_path, [PRISTINE], Stuck(), deadlines=Deadlines(destroy=0.05))
    assert ran.only["reason"] == "the machine was lost: the machine did not go away within 0.05 s"


class Unbootable(ReplayProvisioner):
    """No machine ever comes up."""

    async def prepare(self, spec: RecordedMachine, progress: Callable[[str], None]) -> bool:
        progress("boot")
        lost = GuestLost("no root disk")
        lost.console = "VFS: Unable to mount root fs"
        raise lost


async def test_a_machine_that_never_boots_is_told_with_its_console(tmp_path: Path) -> None:
    ran = await run(tmp_path, [PRISTINE], Unbootable())
    assert ran.only["reason"] == "the machine was lost: no root disk"
    assert (ran.path / "cells" / PRISTINE / "console.log").read_text() == "VFS: Unable to mount root fs"
    assert "boot" in ran.only["stages_seconds"]


# -- several at once --------------------------------------------------------------------------------------------------


class Meeting(ReplayProvisioner):
    """Machines that are given only when `together` are asked for at once."""

    def __init__(self, together: int) -> None:
        super().__init__()
        self.most = 0
        self._barrier = asyncio.Barrier(together)

    @contextlib.asynccontextmanager
    async def machine(self, spec: RecordedMachine) -> AsyncIterator[ReplayMachine]:
        async with super().machine(spec) as machine:
            self.most = max(self.most, self.alive)
            async with asyncio.timeout(10):
                await self._barrier.wait()
            yield machine


async def test_two_cells_run_at_once_and_never_three(tmp_path: Path) -> None:
    cells = [PRESENT, PRISTINE, BLOCKED, "pristine@forky"]
    provisioner = Meeting(2)
    ran = await run(tmp_path, cells, provisioner, parallel=2)
    assert [result["cell"] for result in ran.stored()] == cells
    assert (provisioner.most, provisioner.alive) == (2, 0)
    assert [result["finding"] for result in ran.results] == [EXPECTED[cell].finding for cell in cells]


async def test_a_loss_of_one_cell_is_none_of_the_others(tmp_path: Path) -> None:
    ran = await run(tmp_path, [PRESENT, PRISTINE], ReplayProvisioner("load", losses=1), parallel=2)
    assert sorted(len(result["tries"]) for result in ran.results) == [1, 2]
    assert [result["as_expected"] for result in ran.results] == [True, True]


# -- interrupted ------------------------------------------------------------------------------------------------------


class Waiting(ReplayProvisioner):
    """Machines that are given at once, but from the `patience`-th on never end their load."""

    def __init__(self, patience: int) -> None:
        super().__init__()
        self._patience = patience

    @contextlib.asynccontextmanager
    async def machine(self, spec: RecordedMachine) -> AsyncIterator[ReplayMachine]:
        async with super().machine(spec) as machine:
            yield machine if self.given <= self._patience else Endless(spec.cell)


class Endless(ReplayMachine):
    """Sends the samples of a load that never ends."""

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **arguments: Any
    ) -> Any:
        answer = await super().call(operation, deadline_seconds=deadline_seconds, on_event=on_event, **arguments)
        if operation == "load":
            await asyncio.Event().wait()
        return answer


@pytest.mark.parametrize("parallel", [1, 2])
async def test_an_interrupted_run_keeps_what_ended_and_nothing_half_done(tmp_path: Path, parallel: int) -> None:
    provisioner, started, rans = Waiting(2), asyncio.Event(), list[Ran]()

    def on_progress(plan: CellPlan, seen: Progress) -> None:
        if plan.cell == PRESENT and seen.held is not None:
            started.set()

    cells = [PRISTINE, BLOCKED, PRESENT, "pristine@forky"]
    work = run(tmp_path, cells, provisioner, parallel=parallel, on_progress=on_progress, into=rans)
    task = asyncio.create_task(work)
    async with asyncio.timeout(10):
        await started.wait()
        while len(rans[0].ended) < 2:  # noqa: ASYNC110  # they are judged meanwhile
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (ran,) = rans
    assert [result["cell"] for result in ran.stored()] == [PRISTINE, BLOCKED]
    assert {path.name for path in (ran.path / "cells").iterdir()} == {PRISTINE, BLOCKED}
    assert provisioner.alive == 0
    assert [result.cell for result in judge_run(ran.path)] == [PRISTINE, BLOCKED]


async def test_a_bug_ends_the_run_with_itself_and_keeps_what_ended(tmp_path: Path) -> None:
    rans: list[Ran] = []

    def on_progress(plan: CellPlan, seen: Progress) -> None:
        if plan.cell == PRESENT and seen.stage == "load":
            raise ZeroDivisionError("a bug")

    with pytest.raises(ExceptionGroup) as caught:
        await run(tmp_path, [PRISTINE, PRESENT, BLOCKED], on_progress=on_progress, into=rans)
    assert caught.group_contains(ZeroDivisionError)
    assert [result["cell"] for result in rans[0].stored()] == [PRISTINE]
    assert {cell.name for cell in StoredRun(rans[0].path).cells} == {PRISTINE}


# -- judging folders --------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A run of one recorded cell."""
    folder = tmp_path / "run" / "cells" / PRESENT
    shutil.copytree(RUN / "cells" / PRESENT, folder)
    return folder


def judged(folder: Path) -> dict[str, Any]:
    (result,) = judge_run(folder.parents[1])
    return document(result)


HOSTILE_SAMPLES = {
    "an enormous time": {"seconds": 10**400},
    "an infinite time": {"seconds": float("inf")},
    "no time": {},
    "counts of a kind": {"seconds": 1, "held": "many"},
}


@pytest.mark.parametrize("name", HOSTILE_SAMPLES)
async def test_samples_that_cannot_be_read_make_a_cell_inconclusive(stored: Path, name: str) -> None:
    (stored / "evidence" / "samples.jsonl").write_text(json.dumps(HOSTILE_SAMPLES[name]) + "\n")
    result = judged(stored)
    assert result["finding"] == "inconclusive"
    assert "sample 1" in result["reason"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("evidence/machine.json", '{"kernel_release": ["6.1"]}'),
        ("evidence/steps.json", '{"reached": true, "steps": 7}'),
        ("evidence/steps.json", '{"reached": true}'),
        ("evidence/lost.json", "{}"),
        ("evidence/load.json", '{"connections": 300, "progress": []}'),
        ("kmsg.log", "no record\nat all\n"),
    ],
)
async def test_evidence_of_another_shape_makes_a_cell_inconclusive(stored: Path, name: str, text: str) -> None:
    (stored / name).write_text(text)
    result = judged(stored)
    assert result["finding"] == "inconclusive"
    assert "cannot be read" in result["reason"]


@pytest.mark.parametrize("release", ["", "a" * 5000, "\x1b[2J6.1.0\n", "six.one"])
async def test_a_release_that_is_none_judges_nothing_by_it(stored: Path, release: str) -> None:
    (stored / "evidence" / "machine.json").write_text(json.dumps({"kernel_release": release}))
    result = judged(stored)
    assert (result["finding"], result["as_expected"]) == ("table-full", None)


@pytest.mark.parametrize("name", ["scenario.toml", "plan.json"])
async def test_a_cell_that_lacks_a_file_is_named(stored: Path, name: str) -> None:
    (stored / name).unlink()
    with pytest.raises(ScenarioError, match=name):
        judged(stored)


async def test_a_run_in_which_nothing_ended_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    with pytest.raises(ScenarioError, match="no cell of this run has ended"):
        judge_run(tmp_path)


async def test_a_newer_run_is_refused_before_anything_is_written(stored: Path) -> None:
    (stored.parents[1] / "manifest.json").write_text('{"schema_version": 99}')
    with pytest.raises(ScenarioError, match="schema_version is 99"):
        judged(stored)
    assert not (stored / "result.json").exists()
