"""Running cells: each in a machine of its own, retried once when its machine is lost, stored as it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lab.core.errors import GuestLost
from lab.core.mitigation.outcome import called_for
from lab.core.mitigation.removal import mitigated, removal_of
from lab.core.plan import CellPlan
from lab.core.result import CellResult, Try
from lab.core.text import plural
from lab.host.failures import first_error, host_failed
from lab.host.machines.machine import Machine, MachineSpec, Provisioner, Unsuitable
from lab.host.options import Deadlines
from lab.host.results import apart, store
from lab.host.results.judging import judge_folder, judge_mitigation, judged_apart
from lab.host.results.layout import KEPT_MACHINE, MITIGATION
from lab.host.results.recording import Recording
from lab.host.run.recording import Progress, record

TRIES = 2
_RESULTS_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """A cell with everything that it needs."""

    plan: CellPlan
    spec: MachineSpec
    scenario_text: str
    keep_failed: bool = False
    kernel_config: str | None = None  # what is known of it without asking the machine
    mitigate: bool = False  # remove what holds conntrack in a second machine, where it is found attached
    is_mitigation: bool = False  # this is that second machine


@dataclass
class Runner:
    """Runs jobs and stores their results; `on_progress` and `on_result` are for people."""

    provisioner: Provisioner[Any]  # of machines as the jobs ask for
    run: store.RunFolder
    deadlines: Deadlines
    on_progress: Callable[[CellPlan, Progress], None]
    on_result: Callable[[CellPlan, CellResult], None]
    results: list[CellResult] = field(default_factory=list)  # of a run that is resumed, those that it has
    order: Sequence[str] = ()  # all cells of the run, where the jobs are not all of them
    _written_at: float = 0.0

    async def run_all(self, jobs: Sequence[Job], parallel: int) -> None:
        """Run every job, at most `parallel` at once. What has ended is in results.json however this ends."""
        names = self.order or [job.plan.cell for job in jobs]
        order = {name: number for number, name in enumerate(names)}
        slots = asyncio.Semaphore(parallel)
        self.run.write_results(self.results)
        try:
            async with asyncio.TaskGroup() as group:
                for job in jobs:
                    # the slot is taken here, so that cells start in their order
                    await slots.acquire()
                    group.create_task(self._run(job, slots))
        except* OSError as group:
            ran = f"{len(self.results)} of {plural(len(names), 'cell')} had ended, kept in {self.run.path}"
            raise host_failed(first_error(group, OSError), ran) from group
        finally:
            self.results.sort(key=lambda result: order[result.cell])
            with store.unless_failed():
                self.run.write_results(self.results)

    async def _run(self, job: Job, slots: asyncio.Semaphore) -> None:
        try:
            result = await self._cell(job)
        finally:
            slots.release()
        self.results.append(result)
        self.on_result(job.plan, result)
        if time.monotonic() - self._written_at > _RESULTS_EVERY_SECONDS:
            self.run.write_results(self.results)
            self._written_at = time.monotonic()

    async def _cell(self, job: Job) -> CellResult:
        with self.run.cell(job.plan.cell) as folder:
            kept = folder / KEPT_MACHINE if job.keep_failed else None
            tries = await self._tries(job, folder, kept)
            result = await apart.in_thread(judge_folder, folder, tries, job.mitigate)
            if kept is not None and result.as_expected is not False:  # kept only where something differs
                await self.provisioner.discard(kept)
            if job.mitigate and await self._mitigate(job, folder):
                result = await apart.in_thread(judge_folder, folder, tries, job.mitigate)
            return result

    async def _mitigate(self, job: Job, folder: Path) -> bool:
        """Try the removal in a second machine, if there is any; returns whether there was one."""
        first = (await apart.in_thread(judged_apart, folder)).judged
        removal = removal_of(first)
        if not (called_for(first) and removal.steps):
            return False
        second = replace(job, plan=mitigated(job.plan, removal), is_mitigation=True)
        (folder / MITIGATION).mkdir()
        tries = await self._tries(second, folder / MITIGATION)
        await apart.in_thread(judge_mitigation, folder / MITIGATION, tries)
        return True

    async def _tries(self, job: Job, folder: Path, kept: Path | None = None) -> list[Try]:
        """Run a job in one machine, or in two when the first one is lost, and write below `folder` what they said."""
        tries: list[Try] = []
        while True:
            recording = await self._try(job, kept)
            store.write_recording(folder, recording, job.plan, job.scenario_text)
            tries.append(Try(len(tries) + 1, recording.lost, recording.stages_seconds))
            again = recording.lost is not None
            if job.is_mitigation and not again:  # what was inconclusive says nothing about the commands
                again = (await apart.in_thread(judged_apart, folder)).judged.finding.name == "inconclusive"
            if not again or len(tries) == TRIES:
                return tries
            store.set_aside(folder, len(tries))

    async def _try(self, job: Job, kept: Path | None) -> Recording:
        recording = Recording()
        machine: Machine | None = None
        start = self.provisioner.start_stage
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._prepare(job, recording)
                self._report(job, Progress(start))
                with recording.stage(start):
                    machine = await stack.enter_async_context(self.provisioner.machine(job.spec))
                try:
                    await self._record(machine, job, recording)
                    if kept is not None:
                        await machine.keep(kept)
                finally:
                    recording.console = machine.console()
                    self._report(job, Progress("destroy"))
                    with recording.stage("destroy"):
                        async with asyncio.timeout(self.deadlines.destroy):
                            await stack.aclose()
        except Unsuitable as unsuitable:
            recording.skipped = str(unsuitable)
            recording.logs = dict(unsuitable.logs)
        except GuestLost as lost:
            recording.lost = str(lost)
            recording.console = recording.console or lost.console
            recording.logs = dict(lost.logs)
        except TimeoutError:
            gone = f"the machine did not go away within {self.deadlines.destroy:g} s"
            recording.lost = gone if recording.lost is None else f"{recording.lost}; {gone}"
        if machine is not None:
            recording.logs = dict(machine.logs())
        return recording

    async def _record(self, machine: Machine, job: Job, recording: Recording) -> None:
        def on_progress(seen: Progress) -> None:
            self._report(job, seen)

        config, peer = job.kernel_config, job.mitigate
        await record(machine, job.plan, self.deadlines, recording, on_progress, config, with_peer=peer)

    async def _prepare(self, job: Job, recording: Recording) -> None:
        """What is done once for all cells of a machine; it is a stage of the cell that had to wait for it."""
        with recording.stage("boot"):
            prepared = await self.provisioner.prepare(job.spec, lambda line: self._report(job, Progress(line)))
        if not prepared:
            del recording.stages_seconds["boot"]

    def _report(self, job: Job, seen: Progress) -> None:
        self.on_progress(job.plan, replace(seen, mitigation=job.is_mitigation))
