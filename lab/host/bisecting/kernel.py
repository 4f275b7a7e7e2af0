"""A kernel under a target's userspace, prepared, or why it cannot be."""

from __future__ import annotations

from lab.host import images
from lab.host.cache import Progress
from lab.host.kernels import preparing
from lab.host.kernels.bundle import KernelBundle
from lab.host.machines.kinds import kind_of
from lab.host.machines.targets import TargetSpec
from lab.host.options import RunOptions
from lab.host.run.planned import PlannedRun


def image_of(target: TargetSpec, options: RunOptions, say: Progress) -> images.Image:
    """The image of a target, built if there is none. Raises LabError."""
    return images.load(target.target) or images.build(target.target, images.BuildOptions(say, options.mirror))


def prepare(source: str, target: TargetSpec, options: RunOptions, say: Progress) -> KernelBundle:
    """The kernel of `source`, for a target's userspace. Raises LabError, Cancelled among them."""
    return preparing.prepare(
        source,
        busybox=image_of(target, options, say).busybox,
        modules=options.modules,
        progress=say,
        deadline_seconds=kind_of((target,)).deadlines_with(options).build,
    )


def prepare_all(planned: PlannedRun, options: RunOptions, say: Progress) -> None:
    """Prepare the kernels of a run. Raises LabError for one that no guest can boot: it says nothing of its commit."""
    for target in planned.targets:
        if target.kernel is not None:
            prepare(target.kernel, target, options, say)
