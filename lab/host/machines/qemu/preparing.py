"""Targets of QEMU made ready: each one's image and kernel found or built, and checked to be undamaged."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lab.core.errors import ScenarioError
from lab.core.facts import relevant_config
from lab.core.plan import CellPlan
from lab.core.scenario import MachineSpec as ScenarioMachine
from lab.guest.machine import ABOUT_OPTIONS
from lab.host import images
from lab.host.images.layers import added_packages, with_packages
from lab.host.kernels.bundle import KernelBundle
from lab.host.kernels.bundle import verify as verify_kernel
from lab.host.machines.machine import Preparation
from lab.host.machines.qemu.machine import ImageMachine
from lab.host.machines.qemu.targets import is_distribution
from lab.host.machines.targets import TargetSpec
from lab.host.threads import in_thread

if TYPE_CHECKING:
    from lab.host.machines.qemu.distribution import PreparedDistribution

# packages that decide what rules a machine can have and what is read of it; a library's name ends with its ABI
_NOTED_PACKAGE = re.compile(r"iptables|nftables|libnftnl\d+|libxtables\d+|conntrack|kmod|iproute2|python3|libc6")


Packages = tuple[str, ...]
Layer = images.Image | images.PackagesLacking


@dataclass(frozen=True)
class Pinned:
    """The very image and kernel that a target is to have; None is what the cache has of today's recipe."""

    image: images.Image | None = None
    kernel: KernelBundle | None = None
    layers: Mapping[Packages, Layer] = field(default_factory=dict)


@dataclass(frozen=True)
class PreparedImage:
    """A target whose image, and foreign kernel if it has one, are in the cache and verified.

    `layers` are its images with the packages that scenarios ask for, or why there is none.
    """

    spec: TargetSpec
    image: images.Image
    kernel: KernelBundle | None
    layers: Mapping[Packages, Layer] = field(default_factory=dict)

    def lacking(self, shape: ScenarioMachine) -> str | None:
        """Why this target has no machine with the packages that a plan asks for; None where it has."""
        layer = self.layers.get(shape.packages)
        return f"{self.spec.name}: {layer}" if isinstance(layer, images.PackagesLacking) else None

    def image_of(self, shape: ScenarioMachine) -> images.Image:
        """The image with the packages that a plan asks for, the target's own where there is none."""
        layer = self.layers.get(shape.packages)
        return layer if isinstance(layer, images.Image) else self.image

    def machine(self, shape: ScenarioMachine) -> ImageMachine:
        """The machine that a plan asks for, on this target."""
        foreign, image = self.kernel, self.image_of(shape)
        return ImageMachine(
            root_disk=image.root_disk,
            kernel=foreign.vmlinuz if foreign else image.kernel,
            initrd=foreign.initrd if foreign else image.initrd,
            modules_disk=foreign.modules_disk if foreign else None,
            lacking=self.lacking(shape),
            digest=self._digest(image),
            memory_mb=shape.memory_mb,
            vcpus=shape.vcpus,
            boot_args=shape.boot_args,
        )

    def manifest(self) -> dict[str, Any]:
        """What shaped this target's machines, for the manifest."""
        return {
            **_told(self.image),
            "kernel_release": self.kernel.release if self.kernel else self.image.kernel_release,
            "kernel_path": self.spec.kernel,
            "kernel_files": dict(self.kernel.given) if self.kernel else {},
            "kernel_digest": self.kernel.digest if self.kernel else None,
            "packages": self._packages(),
            **({"layers": layers} if (layers := [*self._told_layers()]) else {}),
        }

    def _told_layers(self) -> Iterator[dict[str, Any]]:
        for packages, layer in self.layers.items():
            if isinstance(layer, images.Image):
                release = self.kernel.release if self.kernel else layer.kernel_release
                added = dict(added_packages(layer, self.image))
                yield {"asked": list(packages), **_told(layer), "kernel_release": release, "packages": added}
            else:
                yield {"asked": list(packages), "lacking": str(layer)}

    def kernel_config(self, shape: ScenarioMachine) -> str | None:
        """What the kernel's configuration says of netfilter, for machines that do not have it in them."""
        path = self.kernel.config if self.kernel else self.image_of(shape).config
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

    def _digest(self, image: images.Image) -> str:
        """Of the contents, not of the recipe: another build of one recipe may hold newer packages."""
        parts = [f"{name}={value}" for name, value in sorted(image.sha256s.items())]
        parts.append(self.kernel.digest if self.kernel else "")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


PreparedTarget: TypeAlias = "PreparedImage | PreparedDistribution"


def package_versions(text: str, kernel_release: str | None) -> Mapping[str, str]:
    """The versions of the packages that matter, of lines "name version architecture"; the kernel's comes first."""
    packages = {fields[0]: fields[1] for line in text.splitlines() if len(fields := line.split()) >= 2}
    kernels = [name for name in packages if kernel_release and name == f"linux-image-{kernel_release}"]
    return {name: packages[name] for name in (*kernels, *filter(_NOTED_PACKAGE.fullmatch, packages))}


def _told(image: images.Image) -> dict[str, Any]:
    return {
        "image": image.name,
        "image_digest": image.digest,
        "image_sha256s": dict(image.sha256s),
        "image_built": image.built,
    }


async def prepare_targets(
    preparation: Preparation, shapes: Sequence[ScenarioMachine] = ()
) -> Mapping[str, PreparedTarget]:
    """Every target by name, its images built if they are missing; those with a `Pinned` are had as that says. `shapes`
    are machines beside those of the plans.

    Raises PrerequisiteError and ScenarioError.
    """
    prepared: dict[str, PreparedTarget] = {}
    for spec in preparation.specs:
        asked = (*shapes, *(plan.machine for plan in preparation.plans if plan.target == spec.name))
        packages = tuple(dict.fromkeys(shape.packages for shape in asked if shape.packages))
        prepared[spec.name] = await in_thread(partial(_prepare, spec, preparation, packages))
    return prepared


def planned_machine(spec: TargetSpec, shape: ScenarioMachine) -> ImageMachine:
    """The machine of a target that need not be built yet, to show its command line."""
    if is_distribution(spec):
        from lab.host.machines.qemu.distribution import planned_distribution  # only here: it takes time to import

        return planned_distribution(spec, shape)
    folder = images.final_folder(with_packages(spec.target, shape.packages))
    return ImageMachine(
        root_disk=folder / images.FILES["root_disk"],
        kernel=Path(spec.kernel) if spec.kernel else folder / images.FILES["kernel"],
        initrd=folder / images.FILES["initrd"],
        digest="",
        memory_mb=shape.memory_mb,
        vcpus=shape.vcpus,
        boot_args=shape.boot_args,
    )


def check_programs(plans: Sequence[CellPlan], targets: Mapping[str, PreparedTarget]) -> None:
    """Raises ScenarioError for a step that names a program which the target's image lacks; a distribution is asked when
    it runs.
    """
    known = {
        (name, packages): image.programs()
        for name, target in targets.items()
        if isinstance(target, PreparedImage)
        for packages, image in {(): target.image, **target.layers}.items()
        if isinstance(image, images.Image)
    }
    for plan in plans:
        programs = known.get((plan.target, plan.machine.packages))  # None: the cell is skipped
        for program in plan.programs if programs is not None else ():
            # by path it may be one that an earlier step writes
            if "/" not in program and program not in (programs or ()):
                raise ScenarioError(
                    f"{plan.scenario}: a step runs {program!r}, which the image of {plan.target} lacks",
                    hint="use a program of the image, or write the file in an earlier step and name its path",
                )


def _prepare(
    spec: TargetSpec, preparation: Preparation, asked: Sequence[Packages], cancelled: threading.Event
) -> PreparedTarget:
    options, seconds = preparation.options, preparation.deadlines.build
    pinned = preparation.pinned.get(spec.name) or Pinned()
    build = images.BuildOptions(preparation.say, options.mirror, preparation.detail, seconds, cancelled)
    if is_distribution(spec):
        from lab.host.machines.qemu.distribution import prepare_distribution  # only here: it takes time to import

        return prepare_distribution(spec, build, options)
    image = pinned.image or images.load(spec.target) or images.build(spec.target, build)
    images.verify(image)
    layers = {packages: _layer(spec, packages, pinned, build) for packages in asked}
    if spec.kernel is None:
        return PreparedImage(spec, image, None, layers)
    from lab.host.kernels import preparing  # only here: it takes time to import

    bundle = pinned.kernel or preparing.prepare(
        spec.kernel,
        busybox=image.busybox,
        modules=options.modules,
        progress=preparation.say,
        deadline_seconds=seconds,
        cancelled=cancelled,
    )
    verify_kernel(bundle)
    return PreparedImage(spec, image, bundle, layers)


def _layer(spec: TargetSpec, packages: Packages, pinned: Pinned, build: images.BuildOptions) -> Layer:
    """The target's image with these packages, verified; or that its suite lacks some, which is said."""
    target = with_packages(spec.target, packages)
    kept = pinned.layers.get(packages)
    try:
        if isinstance(kept, images.PackagesLacking):
            raise kept
        layer = kept or images.load(target) or images.build(target, build)
    except images.PackagesLacking as lacking:
        build.progress(f"{spec.name}: {lacking}: what needs {' and '.join(packages)} is skipped")
        return lacking
    images.verify(layer)
    return layer
