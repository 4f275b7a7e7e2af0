"""Targets of QEMU made ready: each one's image and kernel found or built, and checked to be undamaged."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lab.core.errors import ScenarioError
from lab.core.facts import relevant_config
from lab.core.plan import CellPlan
from lab.core.scenario import MachineSpec as ScenarioMachine
from lab.guest.machine import ABOUT_OPTIONS
from lab.host import images, kernels
from lab.host.machines.machine import Preparation
from lab.host.machines.qemu.machine import ImageMachine
from lab.host.machines.targets import TargetSpec
from lab.host.threads import in_thread

# packages that decide what rules a machine can have and what is read of it; a library's name ends with its ABI
_NOTED_PACKAGE = re.compile(r"iptables|nftables|libnftnl\d+|libxtables\d+|conntrack|kmod|iproute2|python3|libc6")


@dataclass(frozen=True)
class Pinned:
    """The very image and kernel that a target is to have; None is what the cache has of today's recipe."""

    image: images.Image | None = None
    kernel: kernels.KernelBundle | None = None


@dataclass(frozen=True)
class PreparedImage:
    """A target whose image, and foreign kernel if it has one, are in the cache and verified."""

    spec: TargetSpec
    image: images.Image
    kernel: kernels.KernelBundle | None

    def machine(self, shape: ScenarioMachine) -> ImageMachine:
        """The machine that a plan asks for, on this target."""
        foreign = self.kernel
        return ImageMachine(
            root_disk=self.image.root_disk,
            kernel=foreign.vmlinuz if foreign else self.image.kernel,
            initrd=foreign.initrd if foreign else self.image.initrd,
            modules_disk=foreign.modules_disk if foreign else None,
            digest=self._digest(),
            memory_mb=shape.memory_mb,
            vcpus=shape.vcpus,
            boot_args=shape.boot_args,
        )

    def manifest(self) -> dict[str, Any]:
        """What shaped this target's machines, for the manifest."""
        return {
            "image": self.image.name,
            "image_digest": self.image.digest,
            "image_sha256s": dict(self.image.sha256s),
            "image_built": self.image.built,
            "kernel_release": self.kernel.release if self.kernel else self.image.kernel_release,
            "kernel_path": self.spec.kernel,
            "kernel_files": dict(self.kernel.given) if self.kernel else {},
            "kernel_digest": self.kernel.digest if self.kernel else None,
            "packages": self._packages(),
        }

    def kernel_config(self) -> str | None:
        """What the kernel's configuration says of netfilter, for machines that do not have it in them."""
        path = self.kernel.config if self.kernel else self.image.config
        if path is None or not path.is_file():
            return None
        return relevant_config(path.read_text(errors="replace").splitlines(), ABOUT_OPTIONS)

    def _packages(self) -> Mapping[str, str] | None:
        """The versions of the image's packages that matter, its kernel's too where that is booted; None: unknown."""
        try:
            text = self.image.packages.read_text()
        except OSError:
            return None
        return package_versions(text, None if self.kernel else self.image.kernel_release)

    def _digest(self) -> str:
        """Of the contents, not of the recipe: another build of one recipe may hold newer packages."""
        parts = [f"{name}={value}" for name, value in sorted(self.image.sha256s.items())]
        parts.append(self.kernel.digest if self.kernel else "")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def package_versions(text: str, kernel_release: str | None) -> Mapping[str, str]:
    """The versions of the packages that matter, of lines "name version architecture"; the kernel's comes first."""
    packages = {fields[0]: fields[1] for line in text.splitlines() if len(fields := line.split()) >= 2}
    kernels = [name for name in packages if kernel_release and name == f"linux-image-{kernel_release}"]
    return {name: packages[name] for name in (*kernels, *filter(_NOTED_PACKAGE.fullmatch, packages))}


async def prepare_targets(preparation: Preparation) -> Mapping[str, PreparedImage]:
    """Every target by name, its image built if it is missing; those with a `Pinned` are had as that says.

    Raises PrerequisiteError and ScenarioError.
    """
    return {spec.name: await in_thread(partial(_prepare, spec, preparation)) for spec in preparation.specs}


def planned_machine(spec: TargetSpec, shape: ScenarioMachine) -> ImageMachine:
    """The machine of a target that need not be built yet, to show its command line."""
    folder = images.final_folder(spec.target)
    return ImageMachine(
        root_disk=folder / images.FILES["root_disk"],
        kernel=Path(spec.kernel) if spec.kernel else folder / images.FILES["kernel"],
        initrd=folder / images.FILES["initrd"],
        digest="",
        memory_mb=shape.memory_mb,
        vcpus=shape.vcpus,
        boot_args=shape.boot_args,
    )


def check_programs(plans: Sequence[CellPlan], targets: Mapping[str, PreparedImage]) -> None:
    """Raises ScenarioError for a step that names a program which the target's image lacks."""
    known = {name: target.image.programs() for name, target in targets.items()}
    for plan in plans:
        for program in plan.programs:
            # by path it may be one that an earlier step writes
            if "/" not in program and program not in known[plan.target]:
                raise ScenarioError(
                    f"{plan.scenario}: a step runs {program!r}, which the image of {plan.target} lacks",
                    hint="use a program of the image, or write the file in an earlier step and name its path",
                )


def _prepare(spec: TargetSpec, preparation: Preparation, cancelled: threading.Event) -> PreparedImage:
    options, seconds = preparation.options, preparation.deadlines.build
    pinned = preparation.pinned.get(spec.name) or Pinned()
    build = images.BuildOptions(preparation.say, options.mirror, preparation.detail, seconds, cancelled)
    image = pinned.image or images.load(spec.target) or images.build(spec.target, build)
    images.verify(image)
    if spec.kernel is None:
        return PreparedImage(spec, image, None)
    bundle = pinned.kernel or kernels.prepare(
        spec.kernel,
        busybox=image.busybox,
        modules=options.modules,
        progress=preparation.say,
        deadline_seconds=seconds,
        cancelled=cancelled,
    )
    kernels.verify(bundle)
    return PreparedImage(spec, image, bundle)
