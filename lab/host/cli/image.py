"""`lab image`: the images and boxes in the cache."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.core.errors import LabError
from lab.core.text import plural
from lab.host.cli.console import detail, voice
from lab.host.cli.parsing import DEFAULT_TARGET, add_loudness, command


def add_parser(commands: Any) -> None:
    """Add the command to `lab`'s."""
    parser = commands.add_parser("image", help="build, list and remove guest images")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    build = command(actions, "build", _build, "build images", "lab image build debian12 debian13")
    build.add_argument("targets", nargs="+", metavar="TARGET", help="a target or glob")
    build.add_argument("--mirror", metavar="URL", help="the Debian mirror (the host's own)")
    build.add_argument("--format", dest="form", choices=("image", "box"), default="image", help="box: for Vagrant")
    build.add_argument("--rebuild", action="store_true", help="even if there is a current image")
    add_loudness(build, verbose="what programs print")
    command(actions, "list", _list, "list the images in the cache", "lab image list")
    key = command(actions, "key", _key, "print the keys of images, for a cache in CI", "lab image key debian12")
    key.add_argument("names", nargs="+", metavar="TARGET", help="a target or glob")
    remove = command(actions, "remove", _remove, "remove images", "lab image remove debian12")
    remove.add_argument("names", nargs="*", metavar="TARGET")
    remove.add_argument("--saved-states", action="store_true", help="the saved memory of booted machines")


def _build(options: argparse.Namespace) -> int:
    from lab.host import images
    from lab.host.images import boxes
    from lab.host.machines.targets import expand_targets

    say, tell_all = voice(options), detail(options)
    for spec in expand_targets(options.targets):
        if options.form == "box":
            wish = images.BuildWish(say, options.mirror, tell_all, rebuild=options.rebuild)
            box = boxes.build(spec.target, wish)
            print(f"{box.name}  sha256={box.sha256}  {box.size_bytes / 10**6:.0f} MB  {box.file}")
            continue
        image = images.build(spec.target, mirror=options.mirror, progress=say, detail=tell_all, rebuild=options.rebuild)
        print(f"{image.name}  {image.digest[:12]}  {image.size_bytes / 10**6:.0f} MB  {image.directory}")
    return 0


def _list(options: argparse.Namespace) -> int:
    from lab.host import images
    from lab.host.images import boxes
    from lab.host.machines.qemu.provisioner import saved_states
    from lab.host.machines.targets import TARGETS

    for image in images.list_images():
        target = TARGETS.get(image.name)
        current = target is not None and images.is_current(image, target)
        print(_cached(image.name, image.kernel_release, image.size_bytes, current, image.directory))
    for box in boxes.list_boxes():
        print(_cached(f"vagrant:{box.name}", box.kernel_release, box.size_bytes, boxes.is_current(box), box.file))
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
    from lab.host.machines.targets import expand_targets

    for spec in expand_targets(options.names):
        if spec.provisioner != "qemu":
            raise LabError(f"{spec.name}: is no image of the lab's", hint=f"for example lab image key {DEFAULT_TARGET}")
        print(images.final_folder(spec.target).name)
    return 0


def _remove(options: argparse.Namespace) -> int:
    from lab.host import images
    from lab.host.images import boxes
    from lab.host.machines.qemu.provisioner import prune_saved_states

    if options.saved_states:
        print(f"removed {plural(prune_saved_states(keep=0), 'saved state')}")
    for name in options.names:
        for folder in (*images.remove(name), *boxes.remove(name)):
            print(f"removed {folder}")
    return 0
