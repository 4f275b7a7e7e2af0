"""What `lab run` and `lab shell` do, without a word to the terminal: machines prepared, cells run, a shell opened."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lab.core.errors import ScenarioError
from lab.core.manifest import Target
from lab.core.plan import CellPlan
from lab.core.result import CellResult
from lab.core.scenario import MachineSpec as ScenarioMachine
from lab.host.machines.kinds import kind_of, parse_target
from lab.host.machines.machine import Preparation, Prepared, Ready
from lab.host.options import RunOptions
from lab.host.results.layout import KEPT_MACHINE
from lab.host.results.recording import Recording
from lab.host.results.stored_cell import StoredCell
from lab.host.results.stored_run import StoredRun
from lab.host.run.begun import BegunRun, recorded
from lab.host.run.planned import PlannedRun
from lab.host.run.recording import Progress, reach_state
from lab.host.run.runner import Job, Runner

Say = Callable[[str], None]


@dataclass(frozen=True)
class Services:
    """How a run tells people what happens; `detail` gets what programs print, and each step."""

    say: Say
    on_progress: Callable[[CellPlan, Progress], None] = lambda plan, seen: None
    on_result: Callable[[CellPlan, CellResult], None] = lambda plan, result: None
    detail: Say = lambda text: None


async def run_cells(
    planned: PlannedRun, options: RunOptions, services: Services, begun: BegunRun | None = None
) -> tuple[Path, list[CellResult]]:
    """Run every cell, in a new folder or in that of a run that was begun; the run's folder, and its results.

    Raises LabError before anything is started.
    """
    if options.fleet is not None:
        from lab.host.fleet import with_dask

        with with_dask():
            from lab.host.fleet.running import run_on_fleet  # only here: Dask takes a second to import
        return await run_on_fleet(planned, options, services, begun)
    parallel = options.parallel or planned.kind.parallel(planned.plans)
    options = replace(options, parallel=parallel)
    async with _prepared(planned, options, services) as ready:
        jobs = _jobs(planned, options, ready.targets)
        deadlines = planned.kind.deadlines_with(options)
        with recorded(planned, options, ready.provisioner.manifest(), ready.targets, begun) as run:
            on_progress, on_result = services.on_progress, services.on_result
            order = run.manifest.cells or ()
            runner = Runner(ready.provisioner, run.folder, deadlines, on_progress, on_result, run.results, order)
            await runner.run_all(jobs, parallel)
        return run.folder.path, runner.results


async def open_shell(planned: PlannedRun, options: RunOptions, services: Services) -> int:
    """A shell in a machine at the state of the one variant asked for; returns the shell's exit status."""
    if len(planned.plans) != 1:
        names = ", ".join(plan.cell for plan in planned.plans)
        raise ScenarioError(f"a shell needs one machine, and this means {names}", hint="choose with --set and --target")
    plan = planned.plans[0]
    recording = Recording()
    async with contextlib.AsyncExitStack() as stack:
        ready = await stack.enter_async_context(_prepared(planned, options, services))
        target = ready.targets[plan.target]
        machine = await stack.enter_async_context(ready.provisioner.machine(target.machine(plan.machine)))
        deadlines = planned.kind.deadlines_with(options)

        def on_progress(seen: Progress) -> None:
            services.detail(seen.step or seen.stage)

        await reach_state(machine, plan, deadlines, recording, on_progress, target.kernel_config(plan.machine))
        if recording.skipped:
            services.say(f"the machine is as it was, for the scenario means nothing here: {recording.skipped}")
        elif not recording.reached:
            services.say(f"the starting state was refused at: {recording.steps[-1]}")
        services.say(f"{plan.cell}; the machine is thrown away when the shell ends")
        return await machine.shell()


async def open_kept(cell: Path, options: RunOptions, services: Services) -> int:
    """A shell in the machine that --keep-failed left in a cell's folder; returns the shell's exit status."""
    file = cell / KEPT_MACHINE
    if not file.is_file():
        raise ScenarioError(f"{cell}: keeps no machine", hint="run the cell again with --keep-failed")
    plan = StoredCell(cell).plan()
    recorded = StoredRun(cell.parent.parent).manifest.targets.get(plan.target, Target())
    spec = parse_target(plan.target, recorded.kernel_path)
    kind, stored = kind_of([spec]), plan.machine
    shape = ScenarioMachine(stored.boot_args, stored.memory_mb, stored.vcpus, packages=stored.packages)
    preparation = Preparation(
        (spec,), (), options, kind.deadlines_with(options), services.say, services.detail
    )  # of no cell
    async with kind.load().kept(spec, shape, file, preparation) as machine:
        services.say(f"{plan.cell}, as it was at its end")
        return await machine.shell()


@contextlib.asynccontextmanager
async def _prepared(planned: PlannedRun, options: RunOptions, services: Services) -> AsyncIterator[Ready]:
    kind = planned.kind
    deadlines = kind.deadlines_with(options)
    preparation = Preparation(
        planned.targets, planned.plans, options, deadlines, services.say, services.detail, planned.pinned
    )
    async with kind.load().prepared(preparation) as ready:
        yield ready


def _jobs(planned: PlannedRun, options: RunOptions, targets: Mapping[str, Prepared]) -> list[Job]:
    return [
        Job(
            plan,
            targets[plan.target].machine(plan.machine),
            planned.texts[plan.scenario],
            options.keep_failed,
            targets[plan.target].kernel_config(plan.machine),
            options.mitigate,
        )
        for plan in planned.plans
    ]
