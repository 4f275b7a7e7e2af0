"""`lab image`: the images and boxes in the cache."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.core.errors import LabError
from lab.core.text import plural
from lab.host.cli.console import detail, voice
from lab.host.cli.parsing import add_loudness, command
from lab.host.options import DEFAULT_TARGET

if TYPE_CHECKING:
    from lab.host.releases import Target


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    parser = commands.add_parser("image", help="build, list and remove guest images")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    build = command(actions, "build", _build, "build images", "lab image build debian12 debian13-with-ufw")
    build.add_argument("images", nargs="+", metavar="TARGET", help="a target or glob")
    build.add_argument("--mirror", metavar="URL", help="the Debian mirror (the host's own)")
    build.add_argument("--format", dest="form", choices=("image", "box"), default="image", help="box: for Vagrant")
    build.add_argument("--rebuild", action="store_true", help="even if there is a current image")
    add_loudness(build, verbose="what programs print")
    command(actions, "list", _list, "list the images in the cache", "lab image list")
    key = command(actions, "key", _key, "print the keys of images, for a cache in CI", "lab image key debian12")
    key.add_argument("names", nargs="+", metavar="TARGET", help="a target or glob")
    pin = command(actions, "pin", _pin, "write down today's digest of a distribution", "lab image pin ubuntu24.04")
    pin.add_argument("distributions", nargs="+", metavar="NAME", help="a distribution, as lab list targets has it")
    pin.add_argument("--file", type=Path, metavar="IMAGE", help="the image's own, fetched by hand before")
    remove = command(actions, "remove", _remove, "remove images", "lab image remove debian12")
    remove.add_argument("names", nargs="*", metavar="TARGET")
    remove.add_argument("--saved-states", action="store_true", help="the saved memory of booted machines")


def _build(options: argparse.Namespace) -> int:
    from lab.host import images
    from lab.host.images import boxes
    from lab.host.images.layers import is_layer

    build = images.BuildOptions(voice(options), options.mirror, detail(options), rebuild=options.rebuild)
    for target in _targets(options.images, "build"):
        if options.form == "box":
            if is_layer(target.name):
                raise LabError(f"{target.name}: boxes have no further packages", hint="leave out --format box")
            box = boxes.build(target, build)
            print(f"{box.name}  sha256={box.sha256}  {box.size_bytes / 10**6:.0f} MB  {box.file}")
            continue
        image = images.build(target, build)
        print(f"{image.name}  {image.digest[:12]}  {image.size_bytes / 10**6:.0f} MB  {image.directory}")
    return 0


def _list(options: argparse.Namespace) -> int:
    from lab.host import images
    from lab.host.distributions.bundle import bundles
    from lab.host.images import boxes
    from lab.host.images.layers import target_of
    from lab.host.machines.qemu.saved_state import saved_states
    from lab.host.machines.vagrant.targets import BOX_MARK

    for image in images.list_images():
        target = target_of(image)
        current = target is not None and images.is_current(image, target)
        print(_cached(image.name, image.kernel_release, image.size_bytes, current, image.directory))
    for box in boxes.list_boxes():
        print(_cached(f"{BOX_MARK}{box.name}", box.kernel_release, box.size_bytes, boxes.is_current(box), box.file))
    for made in bundles():
        name = made.directory.name.rpartition("-")[0]
        print(_cached(name, made.release, made.size_bytes, True, made.directory))
    states = saved_states()
    print(f"{plural(len(states), 'saved state')} of booted machines: {_size_mb(states):.0f} MB", end=" ")
    print("(lab image remove --saved-states)")
    return 0


def _size_mb(folders: Sequence[Path]) -> float:
    """What folders take; what goes meanwhile counts nothing."""
    total_bytes = 0
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            total_bytes += sum(file.stat().st_blocks * 512 for file in folder.iterdir())
    return total_bytes / 10**6


def _cached(name: str, kernel_release: str, size_bytes: int, current: bool, place: Path) -> str:
    """What the cache has, in a line."""
    state = "current" if current else "outdated"
    return f"{name:20}  {kernel_release}  {size_bytes / 10**6:.0f} MB  {state}  {place}"


def _key(options: argparse.Namespace) -> int:
    """Names of images that need not be there: what a CI's cache is to be kept by."""
    from lab.host import images

    for target in _targets(options.names, "key"):
        print(images.final_folder(target).name)
    return 0


def _pin(options: argparse.Namespace) -> int:
    from lab.host.distributions.pinning import pin
    from lab.host.distributions.table import pins

    if options.file is not None and len(options.distributions) > 1:
        raise LabError("--file: is the image of one distribution", hint="name one")
    for name in options.distributions:
        place, digest = pin(name, options.file)
        print(f"{name}  {digest}  {place}")
    print(f"written to {pins()}")
    return 0


def _targets(patterns: Sequence[str], action: str) -> list[Target]:
    """The targets of which images are made. Raises LabError for one of another kind."""
    from lab.host.images.layers import is_layer, targets_named
    from lab.host.machines.kinds import KINDS, expand_targets

    targets: list[Target] = []
    for pattern in patterns:
        if is_layer(pattern):
            targets += targets_named(pattern)
            continue
        for spec in expand_targets([pattern]):
            if not KINDS[spec.kind].from_images:
                hint = f"for example lab image {action} {DEFAULT_TARGET}"
                raise LabError(f"{spec.name}: is no image of the lab's", hint=hint)
            if not spec.is_made:
                raise LabError(f"{spec.name}: is its publisher's image", hint=f"lab run pristine --target {spec.name}")
            targets.append(spec.target)
    return list(dict.fromkeys(targets))


def _remove(options: argparse.Namespace) -> int:
    from lab.host import images
    from lab.host.distributions import preparing
    from lab.host.images import boxes
    from lab.host.machines.qemu.saved_state import prune_saved_states

    if options.saved_states:
        print(f"removed {plural(prune_saved_states(keep=0), 'saved state')}")
    for name in options.names:
        for folder in (*images.remove(name), *boxes.remove(name), *preparing.remove(name)):
            print(f"removed {folder}")
    return 0
