"""What the commands do, without a word to the terminal: plans made, machines prepared, cells run, a shell opened."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lab
from lab.core.errors import LabError, ScenarioError
from lab.core.plan import Cell, CellPlan, Overrides, cells, describe, parse_chosen, plan_cell, select_variants
from lab.core.scenario import MachineSpec as MachineWish
from lab.core.scenario import Scenario, scenario_digest, with_sources
from lab.core.scenario.filling import NEEDS_FULL, cannot_fill
from lab.host.machines import accelerator, foreign, terminal
from lab.host.machines.agent_package import agent_zipapp
from lab.host.machines.machine import Deadlines, Machine, MachineSpec
from lab.host.machines.preparing import Pinned, PreparedTarget, check_programs, planned_machine, prepare_targets
from lab.host.machines.qemu.binary import find_qemu
from lab.host.machines.qemu.command import KVM, TCG
from lab.host.machines.qemu.provisioner import QemuProvisioner, boot_with_kvm
from lab.host.machines.targets import TargetSpec, expand_targets, labelled, parse_target, split_kernel
from lab.host.machines.this_host import HostProvisioner, require_disposable
from lab.host.machines.vagrant.provisioner import VagrantProvisioner
from lab.host.results.store import create_run, read_manifest, read_plan, unless_failed
from lab.host.run.recording import Progress, Recording, reach_state
from lab.host.run.runner import KEPT_MACHINE, Job, Runner
from lab.host.scenario_files import load_scenarios, scenario_directories

MANIFEST_VERSION = 1
BOX_BOOT_SECONDS = 900.0  # a whole distribution, perhaps emulated

Say = Callable[[str], None]
AnyProvisioner = QemuProvisioner | VagrantProvisioner | HostProvisioner
AnyTarget = PreparedTarget | foreign.PreparedBox | foreign.PreparedHost


@dataclass(frozen=True)
class RunOptions:
    """What the user asked for."""

    scenarios: tuple[str, ...]
    targets: tuple[str, ...]
    kernel: str | None
    modules: Path | None
    mirror: str | None
    accelerator: str
    connections: int | None
    max: int | None
    chosen: tuple[str, ...]
    repeat: int
    parallel: int | None
    output: Path
    deadlines: Deadlines
    keep_failed: bool
    mitigate: bool
    command: tuple[str, ...]
    provisioner: str | None = None  # None: what the targets are made by
    share_machine: bool = False
    disposable_host: bool = False
    provider: str = "libvirt"
    control: str = "auto"
    detail: Say = lambda text: None  # told what programs print, and each step; for who wants all of it
    replay_of: Mapping[str, Any] | None = None  # the run that is run again, as the manifest tells it


@dataclass(frozen=True)
class Services:
    """How a run tells people what happens."""

    say: Say
    on_progress: Callable[[CellPlan, Progress], None]
    on_result: Callable[[CellPlan, dict[str, Any]], None]


@dataclass(frozen=True)
class PlannedRun:
    """Every cell of a run, checked as far as that goes without starting anything."""

    scenarios: tuple[Scenario, ...]
    targets: tuple[TargetSpec, ...]
    cells: tuple[Cell, ...]
    plans: tuple[CellPlan, ...]
    texts: Mapping[str, str]  # of the scenarios' files, by name
    pinned: Mapping[str, Pinned] = field(default_factory=dict)  # by target: of which image and kernel, of all there are

    def describe(
        self, wish: str, mitigate: bool = False, provider: str = "libvirt", verbose: bool = False
    ) -> list[str]:
        """Every cell's steps; if `verbose` also the command lines of QEMU, with the accelerator as far as it is known,
        or of Vagrant with this provider.
        """
        if self.targets[0].provisioner == "vagrant":
            return self._describe_boxes(provider)
        if self.targets[0].provisioner != "qemu":
            return [line for plan in self.plans for line in describe(plan)]
        qemu = find_qemu()
        known = accelerator.remembered(qemu)
        with_kvm = wish == "kvm" or (wish == "auto" and known is not None and known.works)
        provisioner = QemuProvisioner(qemu, KVM if with_kvm else TCG, Deadlines())
        targets = {spec.name: spec for spec in self.targets}
        lines: list[str] = []
        for plan in self.plans:
            boot, restore = provisioner.describe(planned_machine(targets[plan.target], plan.machine))
            lines += [*describe(plan), *([f"  boot, once: {boot}", f"  restore: {restore}"] if verbose else [])]
            if mitigate:
                lines.append("  where conntrack is found attached: again, with what removes it after the last step")
        return lines

    def _describe_boxes(self, provider: str) -> list[str]:
        provisioner = VagrantProvisioner(provider, Deadlines(boot=BOX_BOOT_SECONDS))
        targets = {spec.name: spec for spec in self.targets}
        lines: list[str] = []
        for plan in self.plans:
            up, destroy = provisioner.describe(foreign.planned_box(targets[plan.target], plan.machine))
            lines += [*describe(plan), f"  boot: {up}", f"  destroy: {destroy}"]
        return lines


def plan_run(options: RunOptions) -> PlannedRun:
    """The cells that the options mean. Raises ScenarioError for anything wrong with scenarios, targets or numbers."""
    return plan_on(options, labelled([_with_kernel(spec, options.kernel) for spec in expand_targets(options.targets)]))


def plan_on(options: RunOptions, targets: tuple[TargetSpec, ...]) -> PlannedRun:
    """The same on these targets, whatever the options say of targets. Raises ScenarioError."""
    scenarios = load_scenarios(options.scenarios, scenario_directories())
    _check_together(options, chosen_provisioner(options.provisioner, targets))
    chosen = select_variants(scenarios, parse_chosen(options.chosen))
    planned = cells(chosen, [spec.name for spec in targets], options.repeat)
    overrides = Overrides(options.connections, options.max)
    texts = {
        scenario.name: with_sources(Path(scenario.path).read_text(encoding="utf-8"), scenario) for scenario in scenarios
    }
    return PlannedRun(scenarios, targets, planned, tuple(plan_cell(cell, overrides) for cell in planned), texts)


def too_small(planned: PlannedRun) -> list[str]:
    """A line for each scenario that is expected to fill its table, and cannot with the load that was asked for."""
    scenarios = {scenario.name: scenario for scenario in planned.scenarios}
    lines = []
    for plan in {plan.scenario: plan for plan in planned.plans}.values():
        scenario = scenarios[plan.scenario]
        why = cannot_fill(scenario, plan.load.connections, plan.load.newcomers, plan.conntrack.max)
        needs = [name for name in NEEDS_FULL if any(one.finding == name for one in scenario.expectations)]
        if why and needs:
            lines.append(f"{plan.scenario}: {why}, so it is not judged where it expects {' or '.join(needs)}")
    return lines


def _check_together(options: RunOptions, provisioner: str) -> None:
    """Raises ScenarioError for options that contradict each other."""
    if options.kernel is not None and provisioner != "qemu":
        raise ScenarioError(
            f"--kernel {options.kernel}: machines of {provisioner} boot their own kernel",
            hint="use a target of QEMU, for example --target debian12",
        )
    if options.share_machine and provisioner != "vagrant":
        raise ScenarioError(
            f"--share-machine: machines of {provisioner} are not shared", hint="leave it out: it is for Vagrant boxes"
        )
    if options.share_machine and options.keep_failed:
        raise ScenarioError(
            "--keep-failed cannot keep a machine that --share-machine returns to its snapshot for the next cell",
            hint="leave one of the two out",
        )


async def run_cells(planned: PlannedRun, options: RunOptions, services: Services) -> tuple[Path, list[dict[str, Any]]]:
    """Run every cell; the run's folder and the results. Raises LabError before anything is started."""
    parallel = options.parallel or default_parallel(planned)
    options = replace(options, parallel=parallel)
    async with contextlib.AsyncExitStack() as stack:
        provisioner, targets = await stack.enter_async_context(_prepared(planned, options, services.say))
        jobs = _jobs(planned, options, targets)
        folder = stack.enter_context(create_run(options.output))
        manifest = _manifest(planned, options, provisioner, targets)
        folder.write_json("manifest.json", manifest)
        runner = Runner(provisioner, folder, options.deadlines, services.on_progress, services.on_result)
        try:
            await runner.run_all(jobs, parallel)
        finally:
            complete = len(runner.results) == len(jobs)
            with unless_failed():
                folder.write_json("manifest.json", {**manifest, "ended_at": _now(), "complete": complete})
        return folder.path, runner.results


async def open_shell(planned: PlannedRun, options: RunOptions, say: Say) -> int:
    """A shell in a machine at the state of the one variant asked for; returns the shell's exit status."""
    if len(planned.plans) != 1:
        names = ", ".join(plan.cell for plan in planned.plans)
        raise ScenarioError(f"a shell needs one machine, and this means {names}", hint="choose with --set and --target")
    plan = planned.plans[0]
    recording = Recording()
    async with contextlib.AsyncExitStack() as stack:
        provisioner, targets = await stack.enter_async_context(_prepared(planned, options, say))
        given: AbstractAsyncContextManager[Machine] = provisioner.machine(targets[plan.target].machine(plan.machine))
        machine = await stack.enter_async_context(given)
        config = targets[plan.target].kernel_config()
        await reach_state(
            machine, plan, options.deadlines, recording, lambda seen: options.detail(seen.step or seen.stage), config
        )
        if recording.skipped:
            say(f"the machine is as it was, for the scenario means nothing here: {recording.skipped}")
        elif not recording.reached:
            say(f"the starting state was refused at: {recording.steps[-1]}")
        say(f"{plan.cell}; the machine is thrown away when the shell ends")
        return await terminal.shell(machine)


async def open_kept(cell: Path, options: RunOptions, say: Say) -> int:
    """A shell in the machine that --keep-failed left in a cell's folder; returns the shell's exit status."""
    file = cell / KEPT_MACHINE
    if not file.is_file():
        raise ScenarioError(f"{cell}: keeps no machine", hint="run the cell again with --keep-failed")
    plan = read_plan(cell)
    recorded = (read_manifest(cell.parent.parent) or {}).get("targets", {}).get(plan["target"], {})
    spec = parse_target(plan["target"], recorded.get("kernel_path"))
    if spec.provisioner == "vagrant":
        async with VagrantProvisioner(options.provider, options.deadlines).kept(file) as kept:
            say(f"{plan['cell']}, as it was at its end")
            return await terminal.shell(kept)
    wanted = MachineWish(tuple(plan["machine"]["boot_args"]), plan["machine"]["memory_mb"], plan["machine"]["vcpus"])
    targets = await _targets((spec,), options, say)
    provisioner = await _provisioner(options, targets[plan["target"]].machine(wanted), say)
    async with provisioner.kept(targets[plan["target"]].machine(wanted), file) as machine:
        say(f"{plan['cell']}, as it was at its end")
        return await terminal.shell(machine)


def default_parallel(planned: PlannedRun) -> int:
    """As many cells at once as processors and free memory carry, and always one; of boxes one: they are heavier."""
    if planned.targets[0].provisioner != "qemu":
        return 1
    vcpus = max(plan.machine.vcpus for plan in planned.plans)
    memory_mb = max(plan.machine.memory_mb for plan in planned.plans)
    free_mb = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    return max(1, min((os.cpu_count() or 1) // vcpus, free_mb // memory_mb))


def _jobs(planned: PlannedRun, options: RunOptions, targets: Mapping[str, AnyTarget]) -> list[Job]:
    configs = {name: target.kernel_config() for name, target in targets.items()}
    return [
        Job(
            plan,
            targets[plan.target].machine(plan.machine),
            planned.texts[plan.scenario],
            options.keep_failed,
            configs[plan.target],
            options.mitigate,
        )
        for plan in planned.plans
    ]


def chosen_provisioner(wished: str | None, targets: Sequence[TargetSpec]) -> str:
    """What makes the machines of these targets. Raises ScenarioError where it is not one, or not the one wished for."""
    by_name = {spec.name: spec.provisioner for spec in targets}
    found = set(by_name.values())
    if wished is not None and found != {wished}:
        example = {"vagrant": "vagrant:debian12", "host": "host"}.get(wished, "debian12")
        other = next(name for name, made_by in by_name.items() if made_by != wished)
        raise ScenarioError(f"--provisioner {wished}: cannot make {other}", hint=f"for example --target {example}")
    if len(found) > 1:
        raise ScenarioError(f"one run cannot have machines of {' and '.join(sorted(found))}", hint="make two runs")
    return found.pop()


@contextlib.asynccontextmanager
async def _prepared(
    planned: PlannedRun, options: RunOptions, say: Say
) -> AsyncIterator[tuple[AnyProvisioner, Mapping[str, AnyTarget]]]:
    name = chosen_provisioner(options.provisioner, planned.targets)
    if name == "host":
        require_disposable(options.disposable_host)
        yield (
            HostProvisioner(options.deadlines, say),
            {spec.name: foreign.PreparedHost(spec) for spec in planned.targets},
        )
        return
    if name == "vagrant":
        boxes = {
            spec.name: await foreign.prepare_box(spec, options.mirror, options.deadlines, say)
            for spec in planned.targets
        }
        made = VagrantProvisioner(
            options.provider,
            options.deadlines,
            share=options.share_machine,
            control=options.control,
            driver=_libvirt_driver(options.accelerator, say),
        )
        async with made as provisioner:
            yield provisioner, boxes
        return
    targets = await _targets(planned.targets, options, say, planned.pinned)
    check_programs(planned.plans, targets)
    first = planned.plans[0]
    yield await _provisioner(options, targets[first.target].machine(first.machine), say), targets


def _libvirt_driver(wish: str, say: Say) -> str:
    """What libvirt's domains run on: KVM where it is demanded, or a guest has been seen to boot with it."""
    if wish != "auto":
        return "kvm" if wish == "kvm" else "qemu"
    try:
        known = accelerator.remembered(find_qemu())
    except LabError:
        known = None
    if known is None:
        say("boxes are emulated: lab doctor finds out whether KVM works here, --accelerator kvm takes it for granted")
    return "kvm" if known is not None and known.works else "qemu"


async def _targets(
    specs: Sequence[TargetSpec], options: RunOptions, say: Say, pinned: Mapping[str, Pinned] | None = None
) -> Mapping[str, PreparedTarget]:
    find_qemu()  # before a minute is spent on an image
    seconds = options.deadlines.build
    return await prepare_targets(
        specs,
        modules=options.modules,
        mirror=options.mirror,
        build_seconds=seconds,
        say=say,
        detail=options.detail,
        pinned=pinned or {},
    )


async def _provisioner(options: RunOptions, spec: MachineSpec, say: Say) -> QemuProvisioner:
    qemu = find_qemu()
    chosen = await accelerator.choose(options.accelerator, qemu, lambda: boot_with_kvm(qemu, spec), say)
    return QemuProvisioner(qemu, chosen, options.deadlines)


def _with_kernel(spec: TargetSpec, kernel: str | None) -> TargetSpec:
    """--kernel for the targets that do not name one themselves."""
    if kernel is None or spec.kernel is not None:
        return spec
    label, source = split_kernel(kernel)
    return replace(spec, kernel=source, label=label)


def _manifest(
    planned: PlannedRun, options: RunOptions, provisioner: AnyProvisioner, targets: Mapping[str, AnyTarget]
) -> dict[str, Any]:
    uname = os.uname()
    return {
        "schema_version": MANIFEST_VERSION,
        "tool_version": lab.__version__,
        "command": ["lab", *options.command[1:]],  # by whatever path it was called
        "started_at": _now(),
        "ended_at": None,
        "complete": False,
        "host": {
            "kernel_release": uname.release,
            "architecture": uname.machine,
            "python": platform.python_version(),
            "processors": os.cpu_count(),
        },
        "provisioner": provisioner.manifest(),
        "agent_sha256": hashlib.sha256(agent_zipapp()).hexdigest(),
        "deadlines_seconds": vars(options.deadlines),
        "overrides": {
            "connections": options.connections,
            "max": options.max,
            "set": list(options.chosen),
            "mitigate": options.mitigate,
        },
        "targets": {name: target.manifest() for name, target in targets.items()},
        "scenarios": {scenario.name: scenario_digest(scenario) for scenario in planned.scenarios},
        # with what follows `lab replay` runs the same again, also where the cells' folders are not kept
        "cells": [plan.cell for plan in planned.plans],
        "options": {
            "repeat": options.repeat,
            "parallel": options.parallel,
            "keep_failed": options.keep_failed,
            "accelerator": options.accelerator,
            "modules": str(options.modules) if options.modules else None,
            "provider": options.provider,
            "control": options.control,
            "share_machine": options.share_machine,
        },
        "scenario_files": {
            scenario.name: {"path": scenario.path, "text": planned.texts[scenario.name]}
            for scenario in planned.scenarios
        },
        "replay_of": options.replay_of,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
