"""Machines of Vagrant, as a kind (lab/host/machines/kinds.py)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lab.core.errors import LabError
from lab.core.plan.repeating import Change
from lab.core.scenario import MachineSpec as ScenarioMachine
from lab.host.images import BuildOptions, boxes
from lab.host.machines import accelerator
from lab.host.machines.machine import Machine, Preparation, Ready
from lab.host.machines.qemu.binary import find_qemu
from lab.host.machines.targets import TargetSpec
from lab.host.machines.vagrant.commands import vagrant_version
from lab.host.machines.vagrant.preparing import PreparedBox, find_box, planned_box
from lab.host.machines.vagrant.provisioner import VagrantProvisioner
from lab.host.machines.vagrant.targets import DEADLINES
from lab.host.options import RunOptions
from lab.host.releases import TARGETS
from lab.host.results.plain_files import sha256_of
from lab.host.threads import in_thread

Json = Mapping[str, Any]
Say = Callable[[str], None]


def describer(options: RunOptions, verbose: bool) -> Callable[[TargetSpec, ScenarioMachine], list[str]]:
    """See MachineKind.describer."""
    provisioner = VagrantProvisioner(options.provider, DEADLINES)

    def lines(spec: TargetSpec, shape: ScenarioMachine) -> list[str]:
        up, destroy = provisioner.describe(planned_box(spec, shape))
        return [f"  boot: {up}", f"  destroy: {destroy}"]

    return lines


@contextlib.asynccontextmanager
async def prepared(preparation: Preparation) -> AsyncIterator[Ready]:
    """See MachineKind.prepared."""
    options, say = preparation.options, preparation.say
    found = {spec.name: await prepare_box(spec, preparation) for spec in preparation.specs}
    made = VagrantProvisioner(
        options.provider,
        preparation.deadlines,
        share=options.share_machine,
        control=options.control,
        driver=_libvirt_driver(options.accelerator, say),
    )
    async with made as provisioner:
        yield Ready(provisioner, found)


async def prepare_box(spec: TargetSpec, preparation: Preparation) -> PreparedBox:
    """As find_box, off the loop; a build that is under way is undone when this is cancelled."""
    mirror, seconds = preparation.options.mirror, preparation.deadlines.build
    return await in_thread(
        lambda cancelled: find_box(
            spec, BuildOptions(preparation.say, mirror, deadline_seconds=seconds, cancelled=cancelled)
        )
    )


@contextlib.asynccontextmanager
async def kept(
    spec: TargetSpec, shape: ScenarioMachine, file: Path, preparation: Preparation
) -> AsyncIterator[Machine]:
    """See MachineKind.kept: it runs, and stays."""
    async with VagrantProvisioner(preparation.options.provider, preparation.deadlines).kept(file) as machine:
        yield machine


def changes(recorded: Json, targets: Mapping[str, Json], options: RunOptions) -> Iterator[Change]:
    """See MachineKind.changes."""
    version = vagrant_version()
    if recorded.get("vagrant_version") != version:
        yield Change(f"Vagrant is {version}, the run had {recorded.get('vagrant_version')}")


def target_changes(spec: TargetSpec, recorded: Json, options: RunOptions, say: Say) -> tuple[list[Change], None]:
    """See MachineKind.target_changes: whether the box is the one that was used."""
    return list(_box_changes(spec, recorded.get("box_sha256"))), None


def _box_changes(spec: TargetSpec, sha256: str | None) -> Iterator[Change]:
    path = Path(spec.of.partition("#")[0]).expanduser()
    if sha256 is None:
        yield Change(f"{spec.name}: the run did not know the box's digest, so it may be another one")
    elif "://" in spec.of:
        return  # by its checksum, which its name has
    elif spec.of in TARGETS:
        built = boxes.load(TARGETS[spec.of])
        if built is None or built.sha256 != sha256:
            is_there = "is another build" if built else "is not there, and would be built of today's packages"
            yield Change(f"{spec.name}: the box {is_there}; the run had {sha256[:12]}", True)
    elif not path.is_file():
        yield Change(f"{spec.name}: the box is gone", True, frozenset({spec.name}))
    elif (actual := sha256_of(path)) != sha256:
        yield Change(f"{spec.name}: the box is another one, {actual[:12]}; the run had {sha256[:12]}", True)


def _libvirt_driver(asked: str, say: Say) -> str:
    """What libvirt's domains run on: KVM where it is demanded, or a guest has been seen to boot with it."""
    if asked != "auto":
        return "kvm" if asked == "kvm" else "qemu"
    try:
        known = accelerator.remembered(find_qemu())
    except LabError:
        known = None
    if known is None:
        say("boxes are emulated: lab doctor finds out whether KVM works here, --accelerator kvm takes it for granted")
    return "kvm" if known is not None and known.works else "qemu"
