"""Targets that are whole distributions: their own kernel and root, with the lab's root beside it for the agent."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.core.errors import GuestLost, ScenarioError
from lab.core.facts import relevant_config
from lab.core.scenario import MachineSpec as ScenarioMachine
from lab.guest.machine import ABOUT_OPTIONS
from lab.host import images
from lab.host.cache import Deadline
from lab.host.distributions import bundle as bundles
from lab.host.distributions import preparing, table
from lab.host.distributions.bundle import DistributionBundle
from lab.host.distributions.examining import Examined, examine
from lab.host.distributions.image_file import ImageFile, image_file
from lab.host.distributions.source import MARK, ImageSource, parse_source
from lab.host.machines import accelerator
from lab.host.machines.qemu.binary import find_qemu
from lab.host.machines.qemu.command import KVM, TCG, DiskImage
from lab.host.machines.qemu.machine import ImageMachine
from lab.host.machines.qemu.provisioner import QemuProvisioner
from lab.host.machines.targets import TargetSpec
from lab.host.options import Deadlines, RunOptions
from lab.host.releases import TARGETS

# Whose kernel looks into images, and whose Python runs the agent beside their roots: new file systems need the newest
# kernel of a stable release.
USERSPACE = TARGETS["debian13"]
_EXAMINER_MB = 1024
_EXAMINER_VCPUS = 2
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class PreparedDistribution:
    """A target whose image is here, with the digest that was named for it, and was prepared."""

    spec: TargetSpec
    file: ImageFile
    bundle: DistributionBundle
    userspace: images.Image
    layers: Mapping[Any, Any] = field(default_factory=dict)

    def machine(self, shape: ScenarioMachine) -> ImageMachine:
        """The machine that a plan asks for, on this target."""
        lacking = f"{self.spec.name}: packages are installed only in the lab's own images" if shape.packages else None
        return ImageMachine(
            root_disk=self.userspace.root_disk,
            kernel=self.bundle.vmlinuz,
            initrd=self.bundle.initrd,
            distribution=DiskImage(str(self.file.path), self.file.format),
            newest_processor=self.bundle.newest_processor,
            lacking=lacking,
            digest=self._digest(),
            memory_mb=shape.memory_mb,
            vcpus=shape.vcpus,
            boot_args=shape.boot_args,
        )

    def manifest(self) -> dict[str, Any]:
        """What shaped this target's machines, for the manifest."""
        root, own_boot = self.bundle.root, self.bundle.settings
        return {
            "kernel_release": self.bundle.release,
            "distribution": root.name,
            "distribution_id": root.os_release.get("ID"),
            "distribution_release": root.os_release.get("VERSION_ID"),
            "distribution_image": self.spec.of,
            "distribution_sha256": self.file.sha256,
            "root": f"{root.partition}, {root.filesystem}",
            "packages": dict(self.bundle.packages) or None,
            "own_boot": {
                "modules": list(own_boot.modules),
                "sysctls": dict(own_boot.sysctls),
                "services": list(own_boot.services),
            },
            "userspace": self.userspace.name,
            "userspace_sha256s": dict(self.userspace.sha256s),
        }

    def kernel_config(self, shape: ScenarioMachine) -> str | None:
        """What the kernel's configuration says of netfilter, for machines that do not have it in them."""
        path = self.bundle.config
        if path is None:
            return None
        return relevant_config(path.read_text(errors="replace").splitlines(), ABOUT_OPTIONS)

    def _digest(self) -> str:
        parts = [self.file.sha256, *(f"{name}={value}" for name, value in sorted(self.bundle.sha256s.items()))]
        parts += [f"{name}={value}" for name, value in sorted(self.userspace.sha256s.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def source_of(spec: TargetSpec) -> ImageSource:
    """The image that a target names. Raises ScenarioError."""
    if spec.of.startswith(MARK):
        return parse_source(spec.of.removeprefix(MARK))
    return table.rows()[spec.of].source()


def prepare_distribution(spec: TargetSpec, build: images.BuildOptions, options: RunOptions) -> PreparedDistribution:
    """The target with its image found, checked and looked into. Raises ScenarioError, PrerequisiteError, GuestLost."""
    deadline = Deadline.after(build.deadline_seconds, f"preparing {spec.name}", build.cancelled)
    file = image_file(source_of(spec), build.progress, deadline)
    userspace = images.load(USERSPACE) or images.build(USERSPACE, build)
    images.verify(userspace)
    examiner = _Examiner(userspace, options.accelerator, deadline)
    made = preparing.prepare(file, userspace, examiner.look, spec.name, build.progress, deadline)
    bundles.verify(made)
    return PreparedDistribution(spec, file, made, userspace)


def planned_distribution(spec: TargetSpec, shape: ScenarioMachine) -> ImageMachine:
    """The machine of a target that need not be prepared yet, to show its command line."""
    source = source_of(spec)
    folder = images.final_folder(USERSPACE)
    return ImageMachine(
        root_disk=folder / images.FILES["root_disk"],
        kernel=Path("KERNEL OF THE IMAGE"),
        initrd=Path("INITRD"),
        distribution=DiskImage(source.place, "qcow2"),
        digest="",
        memory_mb=shape.memory_mb,
        vcpus=shape.vcpus,
        boot_args=shape.boot_args,
    )


@dataclass(frozen=True)
class _Examiner:
    """Boots the lab's own guest with an image as its second disk."""

    userspace: images.Image
    accelerator: str
    deadline: Deadline

    def look(self, image: ImageFile, work: Path) -> Examined:
        """What is in the image. For a thread of its own: it has a loop of its own. Raises ScenarioError."""
        try:
            with contextlib.suppress(GuestLost):  # once more then in a fresh machine, as a cell
                return asyncio.run(self._look_until(image, work))
            return asyncio.run(self._look_until(image, work))
        except GuestLost as lost:
            hint = "is the image damaged? qemu-img check finds out; on a very busy host try again"
            raise ScenarioError(f"{image.path}: cannot be looked into: {lost}", hint=hint) from lost

    async def _look_until(self, image: ImageFile, work: Path) -> Examined:
        task = asyncio.ensure_future(self._look(image, work))
        try:
            while not (await asyncio.wait({task}, timeout=_POLL_SECONDS))[0]:
                self.deadline.check()
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _look(self, image: ImageFile, work: Path) -> Examined:
        async with self._provisioner().once(self._machine(image)) as guest:
            return await examine(guest, work)

    def _provisioner(self) -> QemuProvisioner:
        qemu = find_qemu()
        known = accelerator.remembered(qemu)
        with_kvm = self.accelerator != "tcg" and known is not None and known.works
        return QemuProvisioner(qemu, KVM if with_kvm else TCG, Deadlines())

    def _machine(self, image: ImageFile) -> ImageMachine:
        return ImageMachine(
            root_disk=self.userspace.root_disk,
            kernel=self.userspace.kernel,
            initrd=self.userspace.initrd,
            distribution=DiskImage(str(image.path), image.format),
            digest="",
            memory_mb=_EXAMINER_MB,
            vcpus=_EXAMINER_VCPUS,
        )
