"""What a machine of QEMU is made of: opened for QEMU, or by name for people and digests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lab.host.machines.qemu.command import Files
from lab.host.machines.qemu.files import Descriptors
from lab.host.machines.qemu.machine import ImageMachine


def opened(files: Descriptors, spec: ImageMachine, initrd: str, memory: str | None, restores: bool) -> Files:
    """The files as QEMU is given them. Raises PrerequisiteError for one that cannot be opened."""
    disk = spec.distribution
    return Files(
        kernel=files.path(spec.kernel),
        initrd=initrd,
        root_disk=files.path(spec.root_disk),
        memory=memory,
        modules_disk=files.path(spec.modules_disk) if spec.modules_disk is not None else None,
        distribution=replace(disk, path=files.path(Path(disk.path))) if disk is not None else None,
        restores=restores,
    )


def named(spec: ImageMachine, state: Path, restores: bool) -> Files:
    """The files with their paths, for people."""
    return Files(
        kernel=str(spec.kernel),
        initrd=f"{spec.initrd}+agent",
        root_disk=str(spec.root_disk),
        memory=str(state / "memory"),
        modules_disk=None if spec.modules_disk is None else str(spec.modules_disk),
        distribution=spec.distribution,
        restores=restores,
    )


def placeless(spec: ImageMachine) -> Files:
    """The files without their paths, for a digest: `spec.digest` is of their contents."""
    return Files(
        kernel="KERNEL",
        initrd="INITRD",
        root_disk="ROOT",
        memory="STATE/memory",
        modules_disk=None if spec.modules_disk is None else "MODULES",
        distribution=None if spec.distribution is None else replace(spec.distribution, path="DISTRIBUTION"),
    )
