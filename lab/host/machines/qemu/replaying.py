"""What is not as it was with QEMU, images and kernels, for a stored run that is to be run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lab.core.errors import LabError
from lab.core.plan.repeating import Change
from lab.host import images
from lab.host.cache import sha256_of
from lab.host.kernels import preparing
from lab.host.kernels.bundle import KernelBundle, bundles_of
from lab.host.kernels.source import local_path
from lab.host.machines import accelerator
from lab.host.machines.qemu.binary import find_qemu
from lab.host.machines.qemu.distribution import USERSPACE, source_of
from lab.host.machines.qemu.preparing import Layer, Packages, Pinned
from lab.host.machines.qemu.targets import is_distribution
from lab.host.machines.targets import TargetSpec
from lab.host.options import RunOptions

Json = Mapping[str, Any]
Say = Callable[[str], None]


def changes(recorded: Json, targets: Mapping[str, Json], options: RunOptions) -> Iterator[Change]:
    """See MachineKind.changes."""
    qemu = find_qemu()
    if recorded.get("qemu_version") != qemu.version:
        yield Change(f"QEMU is {qemu.version}, the run had {recorded.get('qemu_version')}")
    used, asked = recorded.get("accelerator"), options.accelerator
    known = accelerator.remembered(qemu)
    if asked == "auto" and used == "kvm" and not (known is not None and known.works):
        why = "is not known yet" if known is None else f"is known: it does not ({known.seen})"
        yield Change(f"the run had KVM; whether a guest boots with it here {why}")
    elif asked not in ("auto", used):
        yield Change(f"the accelerator is {asked}, the run had {used}")
    if used == "kvm" and recorded.get("host_cpu") != qemu.host_cpu:
        yield Change(f"the processor is {qemu.host_cpu}, the run had {recorded.get('host_cpu')}")


def target_changes(spec: TargetSpec, recorded: Json, options: RunOptions, say: Say) -> tuple[list[Change], Pinned]:
    """See MachineKind.target_changes: the image with the digests that were recorded, of whatever recipe; and the kernel
    of the user's own, where it is.
    """
    if is_distribution(spec):
        return list(_image_changes(spec, recorded)), Pinned()
    found: list[Change] = []
    sha256s = recorded.get("image_sha256s")
    image = images.with_files(sha256s) if isinstance(sha256s, dict) else None
    todays = _todays_image(spec)
    if image is None:
        is_there = "another build of it is in the cache" if todays else "none is in the cache; one of today is built"
        gone = f"the image that was used, built {recorded.get('image_built')}, is gone; {is_there}"
        found.append(Change(f"{spec.name}: {gone}", True))
    layers: dict[Packages, Layer] = dict(_recorded_lacking(recorded))
    for layer in _recorded_layers(recorded):
        had = images.with_files(layer["image_sha256s"])
        if had is not None:
            layers[tuple(map(str, layer["asked"]))] = had
        else:
            gone = f"the image {layer['image']} that was used, built {layer.get('image_built')}, is gone"
            found.append(Change(f"{spec.name}: {gone}; another build of it is used", True))
    kernel = None
    if spec.kernel is not None:
        kernel_changes, kernel = _kernel(spec, recorded, image or todays, options, say)
        found += kernel_changes
    return found, Pinned(image, kernel, layers)


def _image_changes(spec: TargetSpec, recorded: Json) -> Iterator[Change]:
    """Whether a distribution's image, and the lab's own beside it, are those that were used."""
    try:
        source = source_of(spec)
    except LabError as error:
        yield Change(str(error), True, frozenset({spec.name}))
        return
    sha256, userspace = recorded.get("distribution_sha256"), _todays_userspace()
    if not source.is_url and not source.path.is_file():
        yield Change(f"{source.path}: the image is gone", True, frozenset({spec.name}))
    elif not source.is_url and (actual := sha256_of(source.path)) != sha256:
        yield Change(f"{source.path}: the image is another one, {actual[:12]}; the run had {str(sha256)[:12]}", True)
    if userspace is None or dict(userspace.sha256s) != recorded.get("userspace_sha256s"):
        yield Change(f"{spec.name}: the lab's programs beside it are of another build of {USERSPACE.name}", True)


def _todays_userspace() -> images.Image | None:
    try:
        return images.load(USERSPACE)
    except LabError:
        return None


def _recorded_layers(recorded: Json) -> Iterator[Json]:
    """The images with further packages that a run had."""
    layers = recorded.get("layers")
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, dict) and isinstance(layer.get("image_sha256s"), dict) and layer.get("asked"):
            yield layer


def _recorded_lacking(recorded: Json) -> Iterator[tuple[Packages, images.PackagesLacking]]:
    """The packages that the target's suite did not have, so that what needs them is skipped again."""
    layers = recorded.get("layers")
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, dict) and isinstance(layer.get("asked"), list):
            if isinstance(reason := layer.get("lacking"), str):  # it is there for no other reason
                yield tuple(map(str, layer["asked"])), images.PackagesLacking.because(reason)


def _todays_image(spec: TargetSpec) -> images.Image | None:
    try:
        return images.load(spec.target)
    except LabError:
        return None


def _kernel(
    spec: TargetSpec, recorded: Json, image: images.Image | None, options: RunOptions, say: Say
) -> tuple[list[Change], KernelBundle | None]:
    """What became of the user's own kernel, and its prepared copy where that has the digest that was recorded."""
    source, digest = str(spec.kernel), str(recorded.get("kernel_digest"))
    bundle = next(bundles_of(digest), None)
    path = local_path(source)
    if path is not None and not path.exists():
        if bundle is not None:
            return [Change(f"{path}: the kernel's file is gone; its copy in the cache is used")], bundle
        return [Change(f"{path}: the kernel is gone", True, frozenset({spec.name}))], None
    if bundle is None and image is None:
        return [Change(f"{source}: without an image nobody can tell whether the kernel is the run's", True)], None
    if bundle is None and image is not None:
        try:
            bundle = preparing.prepare(source, busybox=image.busybox, modules=options.modules, progress=say)
        except LabError as error:
            return [Change(f"{source}: {error}", True, frozenset({spec.name}))], None
    if bundle is not None and bundle.digest == digest:
        return [], bundle
    return [Change(f"{source}: the kernel is another one than the run's, {digest[:12]}", True)], None
