"""A whole run on a fleet: targets prepared here, cells run there, one folder of results."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from distributed import Client

from lab.core.errors import LabError, ScenarioError
from lab.core.manifest import Manifest
from lab.core.plan import CellPlan
from lab.core.plan.shard import machine_kind
from lab.core.result import CellResult
from lab.host.fleet import patience
from lab.host.fleet.address import parse_address
from lab.host.fleet.artifacts import Source, sources_of
from lab.host.fleet.chunk import Chunk
from lab.host.fleet.connection import WorkerSeen, check_labs, connected, workers_of
from lab.host.fleet.dispatching import Dispatcher, SchedulerGone, Watchers
from lab.host.fleet.intake import Intake
from lab.host.fleet.package import package_digest
from lab.host.fleet.sending import Sender
from lab.host.machines.machine import Preparation
from lab.host.machines.qemu.preparing import PreparedImage, check_programs, prepare_targets
from lab.host.machines.qemu.targets import is_distribution
from lab.host.options import Deadlines, RunOptions
from lab.host.results.records import to_json
from lab.host.results.store import unless_failed
from lab.host.run.begun import BegunRun, Recorded, recorded
from lab.host.run.commands import Services
from lab.host.run.planned import PlannedRun

_LOOK_SECONDS = 0.5
_SILENCE = 2.0  # of the longest stage, for a boot is tried twice


async def run_on_fleet(
    planned: PlannedRun, options: RunOptions, services: Services, begun: BegunRun | None = None
) -> tuple[Path, list[CellResult]]:
    """As run_cells, on the workers of the scheduler that the options name. Raises LabError."""
    _check(planned, options)
    address = parse_address(str(options.fleet))
    async with connected(address, options.keys) as client:
        workers = await _first_workers(client, services)
        options = replace(options, parallel=None, accelerator=_accelerator(options, workers))
        preparation = Preparation(
            planned.targets,
            planned.plans,
            options,
            planned.kind.deadlines_with(options),
            services.say,
            services.detail,
            planned.pinned,
        )
        prepared = await prepare_targets(preparation)
        targets = {name: target for name, target in prepared.items() if isinstance(target, PreparedImage)}
        check_programs(planned.plans, targets)
        provisioner = {**workers[0].provisioner, "accelerator": options.accelerator}
        with recorded(planned, options, provisioner, targets, begun) as run:
            await _dispatch(client, planned, options, services, run, targets)
        return run.folder.path, run.results


async def _dispatch(
    client: Client,
    planned: PlannedRun,
    options: RunOptions,
    services: Services,
    run: Recorded,
    targets: Mapping[str, PreparedImage],
) -> None:
    sources = sources_by_kind(planned.plans, targets)
    chunks = Chunks(client.id, run.manifest, sources, planned.kind.deadlines_with(options), options.accelerator)
    dispatcher = Dispatcher(
        client,
        chunks.of,
        Sender(client, {each.artifact.digest: each for kind in sources.values() for each in kind}, services.say),
        Intake(run.folder, planned.texts, options.mitigate),
        Watchers(services.say, services.on_progress, services.on_result),
        run.results,
    )
    run.folder.write_results(run.results)
    try:
        await dispatcher.run(planned.plans)
    except SchedulerGone as gone:
        hint = f"start it again, and then lab run --resume {run.folder.path} --fleet {options.fleet}"
        raise LabError(f"{gone}; {len(run.results)} cells are in {run.folder.path}", hint=hint) from gone
    finally:
        order = {name: number for number, name in enumerate(run.manifest.cells or ())}
        run.results.sort(key=lambda result: order[result.cell])
        run.manifest = replace(run.manifest, workers=dispatcher.workers(run.manifest.workers))
        with unless_failed():
            run.folder.write_results(run.results)


@dataclass(frozen=True)
class Chunks:
    """Makes chunks of a run's cells."""

    topic: str
    manifest: Manifest
    sources: Mapping[object, tuple[Source, ...]]  # by machine kind
    deadlines: Deadlines
    accelerator: str

    def of(self, plans: Sequence[CellPlan]) -> Chunk:
        """A chunk of cells of one machine kind."""
        first = plans[0]
        silence = max(value for stage, value in vars(self.deadlines).items() if stage != "build")
        return Chunk(
            f"lab-{first.target}-{secrets.token_hex(6)}",  # Dask's pages show what stands before the digits
            self.topic,
            package_digest(),
            json.dumps(to_json(chunk_manifest(self.manifest, plans))),
            tuple(source.artifact for source in self.sources[machine_kind(first)]),
            self.accelerator,
            _SILENCE * silence,
        )


def sources_by_kind(
    plans: Sequence[CellPlan], targets: Mapping[str, PreparedImage]
) -> dict[object, tuple[Source, ...]]:
    """What the machines of all cells are made of, by machine kind. Reads and hashes descriptions: once for a run."""
    kinds = {machine_kind(plan): plan for plan in plans}
    return {kind: tuple(sources_of(targets[plan.target], plan.machine)) for kind, plan in kinds.items()}


def chunk_manifest(manifest: Manifest, plans: Sequence[CellPlan]) -> Manifest:
    """The manifest of a run that has these cells alone, which are of one machine kind."""
    first = plans[0]
    scenarios = {plan.scenario for plan in plans}
    target = manifest.targets[first.target]
    layers = [layer for layer in target.document.get("layers", ()) if tuple(layer["asked"]) == first.machine.packages]
    return replace(
        manifest,
        cells=tuple(plan.cell for plan in plans),
        targets={first.target: replace(target, document={**target.document, "layers": layers})},
        scenarios={name: digest for name, digest in manifest.scenarios.items() if name in scenarios},
        scenario_files={name: file for name, file in (manifest.scenario_files or {}).items() if name in scenarios},
        shard=None,
        resumed=(),
        replay_of=None,
    )


def _check(planned: PlannedRun, options: RunOptions) -> None:
    """Raises ScenarioError for what a fleet cannot do."""
    if not planned.kind.from_images:
        hint = "for example --target debian12"
        raise ScenarioError(f"--fleet: machines of {planned.kind.name} are made where they are", hint=hint)
    if (distribution := next(filter(is_distribution, planned.targets), None)) is not None:
        raise ScenarioError(
            f"--fleet: {distribution.name} is an image of a distribution, which does not travel",
            hint="run it here, without --fleet; --kernel takes its kernel under Debian's userspace",
        )
    if options.keep_failed:
        raise ScenarioError("--keep-failed: a machine stays on its worker", hint="run the cell here, without --fleet")


async def _first_workers(client: Client, services: Services) -> list[WorkerSeen]:
    """The workers that have this lab, one at least. Raises LabError where none comes."""
    loop = asyncio.get_running_loop()
    seconds = patience.FIRST_WORKER_SECONDS
    until, is_said = loop.time() + seconds, False
    while True:
        workers = await workers_of(client)
        check_labs(workers)
        if workers:
            return [worker for worker in workers if worker.has_this_lab]
        if loop.time() > until:
            raise LabError(f"no worker came within {seconds:g} s", hint="start some: lab fleet worker")
        if not is_said:
            services.say("waiting for a worker")
            is_said = True
        await asyncio.sleep(_LOOK_SECONDS)


def _accelerator(options: RunOptions, workers: Sequence[WorkerSeen]) -> str:
    """The same for all workers, so that their numbers can be compared: KVM where all have it."""
    if options.accelerator != "auto":
        return options.accelerator
    return "kvm" if all(worker.kvm for worker in workers) else "tcg"
