"""Running cells: each in a machine of its own, retried once when its machine is lost, stored as it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.core.errors import GuestLost, ScenarioError
from lab.core.expectation import Expectation, expected_for
from lab.core.finding import Finding, judge
from lab.core.plan import CellPlan
from lab.core.proofs import prove
from lab.core.result import Try, cell_result
from lab.core.scenario import Scenario, parse_scenario
from lab.host import store
from lab.host.provision.machine import Deadlines, MachineSpec, Provisioner
from lab.host.recording import Progress, Recording, record

TRIES = 2
KEPT_MACHINE = "machine"  # a cell's whole machine, as it was at the end
_RESULTS_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """A cell with everything that it needs."""

    plan: CellPlan
    spec: MachineSpec
    scenario_text: str
    keep_failed: bool = False


@dataclass
class Runner:
    """Runs jobs and stores their results; `on_progress` and `on_result` are for people."""

    provisioner: Provisioner
    run: store.RunFolder
    deadlines: Deadlines
    on_progress: Callable[[CellPlan, Progress], None]
    on_result: Callable[[CellPlan, dict[str, Any]], None]
    results: list[dict[str, Any]] = field(default_factory=list)
    _written_at: float = 0.0

    async def run_all(self, jobs: Sequence[Job], parallel: int) -> None:
        """Run every job, at most `parallel` at once. What has ended is in results.json however this ends."""
        order = {job.plan.cell: number for number, job in enumerate(jobs)}
        slots = asyncio.Semaphore(parallel)
        self.run.write_results([])
        try:
            async with asyncio.TaskGroup() as group:
                for job in jobs:
                    # the slot is taken here, so that cells start in their order
                    await slots.acquire()
                    group.create_task(self._one(job, slots))
        finally:
            self.results.sort(key=lambda result: order[result["cell"]])
            self.run.write_results(self.results)

    async def _one(self, job: Job, slots: asyncio.Semaphore) -> None:
        try:
            result = await self._cell(job)
        finally:
            slots.release()
        self.results.append(result)
        self.on_result(job.plan, result)
        if time.monotonic() - self._written_at > _RESULTS_EVERY_SECONDS:
            self.run.write_results(self.results)
            self._written_at = time.monotonic()

    async def _cell(self, job: Job) -> dict[str, Any]:
        recordings: list[Recording] = []
        with self.run.cell(job.plan.cell) as folder:
            kept = folder / KEPT_MACHINE if job.keep_failed else None
            while len(recordings) < TRIES and (not recordings or recordings[-1].lost is not None):
                recordings.append(await self._try(job, kept))
            for number, lost in enumerate(recordings[:-1], start=1):
                (folder / "tries" / str(number)).mkdir(parents=True)
                store.write_recording(folder / "tries" / str(number), lost, job.plan, job.scenario_text)
            store.write_recording(folder, recordings[-1], job.plan, job.scenario_text)
            tries = [Try(number, one.lost, one.stages_seconds) for number, one in enumerate(recordings, start=1)]
            result = judge_folder(folder, tries)
            if kept is not None and result["as_expected"] is not False:
                kept.unlink(missing_ok=True)
            return result

    async def _try(self, job: Job, kept: Path | None) -> Recording:
        recording = Recording()
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._prepare(job, recording)
                self.on_progress(job.plan, Progress("restore"))
                with recording.stage("restore"):
                    machine = await stack.enter_async_context(self.provisioner.machine(job.spec))
                try:
                    await record(
                        machine, job.plan, self.deadlines, recording, lambda seen: self.on_progress(job.plan, seen)
                    )
                    if kept is not None:
                        await machine.keep(kept)
                finally:
                    recording.console = machine.console()
                    self.on_progress(job.plan, Progress("destroy"))
                    with recording.stage("destroy"):
                        async with asyncio.timeout(self.deadlines.destroy):
                            await stack.aclose()
        except GuestLost as lost:
            recording.lost = str(lost)
            recording.console = recording.console or lost.console
        except TimeoutError:
            gone = f"the machine did not go away within {self.deadlines.destroy:g} s"
            recording.lost = gone if recording.lost is None else f"{recording.lost}; {gone}"
        return recording

    async def _prepare(self, job: Job, recording: Recording) -> None:
        """What is done once for all cells of a machine; it is a stage of the cell that had to wait for it."""
        with recording.stage("boot"):
            prepared = await self.provisioner.prepare(job.spec, lambda line: self.on_progress(job.plan, Progress(line)))
        if not prepared:
            del recording.stages_seconds["boot"]


def judge_folder(folder: Path, tries: Sequence[Try]) -> dict[str, Any]:
    """Judge a cell by what lies in its folder, and write its result.json and samples.csv."""
    plan = store.read_plan(folder)
    try:
        evidence = store.read_evidence(folder)
    except (ValueError, KeyError, TypeError) as error:
        finding, proofs, release = Finding("inconclusive", f"the evidence cannot be read: {error}"), None, None
    else:
        finding, release = judge(evidence), evidence.kernel_release
        proofs = prove(evidence, finding)
        store.write_samples_csv(folder / "samples.csv", evidence.samples)
    result = cell_result(plan, finding, proofs, _expected(folder, plan, release), release, tries)
    store.write_aside(folder / "result.json", store.json_text(result))
    return result


def judge_run(run: Path) -> list[dict[str, Any]]:
    """Judge every cell of a run again from its folder alone, and write results.json. Raises ScenarioError."""
    with store.open_run(run) as folder:
        # in the order of the run, not of the folders' names
        order = {cell: number for number, cell in enumerate(store.stored_order(run))}
        cells = sorted(store.cell_folders(run), key=lambda cell: order.get(cell.name, len(order)))
        results = [judge_folder(cell, _stored_tries(cell)) for cell in cells]
        folder.write_results(results)
    return results


def _stored_tries(cell: Path) -> list[Try]:
    stored = (store.read_result(cell) or {}).get("tries", [])
    try:
        return [Try(one["number"], one["lost"], one["stages_seconds"]) for one in stored]
    except (KeyError, TypeError) as error:
        raise ScenarioError(f"{cell}/result.json: is damaged: {error!r}", hint="remove it, and judge again") from error


def stored_scenario(folder: Path) -> Scenario:
    """The scenario that a cell was run with, from its own copy. Raises ScenarioError."""
    path = folder / "scenario.toml"
    plan = store.read_plan(folder)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}", hint="the cell's folder is incomplete") from error
    return parse_scenario(text, f"{plan['scenario']}.toml")


def _expected(folder: Path, plan: Mapping[str, Any], release: str | None) -> Expectation | None:
    """What the scenario expects of the cell; None where that depends on a kernel that never told its release."""
    scenario = stored_scenario(folder)
    if release is None and any(one.kernel is not None for one in scenario.expectations):
        return None
    try:
        return expected_for(scenario, plan["axes"], release or "", plan["target"])
    except ValueError:
        return None
