"""Machines of QEMU, as a kind (lab/host/machines/kinds.py): images and kernels prepared, an accelerator chosen."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.core.scenario import MachineSpec as ScenarioMachine
from lab.host.machines import accelerator
from lab.host.machines.machine import Machine, Preparation, Ready
from lab.host.machines.qemu.binary import find_qemu
from lab.host.machines.qemu.command import KVM, TCG
from lab.host.machines.qemu.machine import ImageMachine
from lab.host.machines.qemu.preparing import check_programs, planned_machine, prepare_targets
from lab.host.machines.qemu.provisioner import QemuProvisioner, boot_with_kvm
from lab.host.machines.targets import TargetSpec
from lab.host.options import Deadlines, RunOptions

if TYPE_CHECKING:
    from lab.core.plan.repeating import Change
    from lab.host.machines.qemu.preparing import Pinned

Json = Mapping[str, Any]


def describer(options: RunOptions, verbose: bool) -> Callable[[TargetSpec, ScenarioMachine], list[str]]:
    """See MachineKind.describer: QEMU's command lines where all is to be shown, with the accelerator as far as it is
    known.
    """
    qemu = find_qemu()
    known = accelerator.remembered(qemu)
    with_kvm = options.accelerator == "kvm" or (options.accelerator == "auto" and known is not None and known.works)
    provisioner = QemuProvisioner(qemu, KVM if with_kvm else TCG, Deadlines())

    def lines(spec: TargetSpec, shape: ScenarioMachine) -> list[str]:
        boot, restore = provisioner.describe(planned_machine(spec, shape))
        return [f"  boot, once: {boot}", f"  restore: {restore}"]

    return lines if verbose else lambda spec, shape: []


@contextlib.asynccontextmanager
async def prepared(preparation: Preparation) -> AsyncIterator[Ready]:
    """See MachineKind.prepared."""
    find_qemu()  # before a minute is spent on an image
    targets = await prepare_targets(preparation)
    check_programs(preparation.plans, targets)
    first = preparation.plans[0]
    yield Ready(await _provisioner(preparation, targets[first.target].machine(first.machine)), targets)


@contextlib.asynccontextmanager
async def kept(
    spec: TargetSpec, shape: ScenarioMachine, file: Path, preparation: Preparation
) -> AsyncIterator[Machine]:
    """See MachineKind.kept: the file can be used again and again."""
    find_qemu()
    targets = await prepare_targets(replace(preparation, specs=(spec,)), (shape,))
    machine = targets[spec.name].machine(shape)
    provisioner = await _provisioner(preparation, machine)
    async with provisioner.kept(machine, file) as opened:
        yield opened


def changes(recorded: Json, targets: Mapping[str, Json], options: RunOptions) -> Iterator[Change]:
    """See MachineKind.changes."""
    from lab.host.machines.qemu import replaying  # only for runs that are run again: it takes time to import

    return replaying.changes(recorded, targets, options)


def target_changes(
    spec: TargetSpec, recorded: Json, options: RunOptions, say: Callable[[str], None]
) -> tuple[list[Change], Pinned]:
    """See MachineKind.target_changes."""
    from lab.host.machines.qemu import replaying  # as above

    return replaying.target_changes(spec, recorded, options, say)


async def _provisioner(preparation: Preparation, machine: ImageMachine) -> QemuProvisioner:
    qemu, asked = find_qemu(), preparation.options.accelerator
    chosen = await accelerator.choose(asked, qemu, lambda: boot_with_kvm(qemu, machine), preparation.say)
    return QemuProvisioner(qemu, chosen, preparation.deadlines)
