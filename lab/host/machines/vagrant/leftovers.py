"""Machines of Vagrant that are to go: at a cell's end, and after a lab that was killed or that kept them."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import GuestLost, LabError
from lab.host.cache import remove_tree
from lab.host.machines.vagrant import libvirt
from lab.host.machines.vagrant.boxes import remove_unused
from lab.host.machines.vagrant.commands import LOCK, LOG, Folder, description, is_held, machines_folder, release

_DESTROY_SECONDS = 120.0


class KeptMachineGone(LabError):
    """A kept machine that is no more."""


@dataclass(frozen=True)
class Leftover:
    """A machine whose lab is gone."""

    folder: Folder
    provider: str


def destroy(folder: Folder, provider: str, seconds: float, orderly: bool) -> None:
    """End a machine with all that belongs to it, and check that it is gone. Raises GuestLost when something stays.

    `orderly` is by way of Vagrant; without it, or when that fails, libvirt's machines are taken away directly.
    """
    if (orderly or provider != "libvirt") and folder.is_known_to_vagrant:
        try:
            folder.commands(seconds, "vagrant destroy").destroy()
        except LabError as error:
            folder.note(f"vagrant destroy failed: {error}")
    left: list[str] = []
    if provider == "libvirt":
        left = libvirt.until_gone(lambda: libvirt.remove_domain(folder.domain, folder.note), killed=not orderly)
        if not orderly:
            _remove_network(folder)
    elif folder.is_known_to_vagrant:
        left = [f"{provider}'s machine of {folder.path}"]
    release(folder.path)
    if left:
        lost = GuestLost(f"the machine is not gone: {', '.join(left)}; lab doctor --clean tries again")
        lost.logs = {LOG: folder.log}
        raise lost
    remove_tree(folder.path)


def kept_folder(file: Path) -> Folder:
    """The folder of a machine that was kept, from what `Machine.keep` wrote. Raises KeptMachineGone."""
    try:
        path = Path(json.loads(file.read_text())["folder"])
        return Folder(path, dict(description(path)["environment"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeptMachineGone(f"{file}: its machine is gone: {error}", hint="run the cell again") from error


def leftovers() -> Iterator[Leftover]:
    """The machines whose lab is gone, each held against other labs while it is looked at."""
    for path in sorted(machines_folder().glob("lab-*")):
        if is_held(path):
            continue
        try:
            with (path / LOCK).open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield _leftover(path)
        except BlockingIOError:
            continue


def clean(say: Callable[[str], None]) -> int:
    """Remove the machines of labs that were killed, kept ones too, and boxes that nobody uses; how many machines went.

    Raises LabError for those that stay, after all others are gone.
    """
    gone, failed = 0, []
    for left in leftovers():
        try:
            destroy(left.folder, left.provider, _DESTROY_SECONDS, orderly=left.provider != "libvirt")
        except GuestLost as lost:
            failed.append(f"{left.folder.domain}: {lost}")
            continue
        say(f"removed the machine {left.folder.domain}")
        gone += 1
    remove_unused()
    if failed:
        raise LabError(
            "; ".join(failed), hint=f"look with virsh --connect {libvirt.URI} list --all, and remove them by hand"
        )
    return gone


def _leftover(path: Path) -> Leftover:
    """What is known of the machine of a folder; a lab that was killed early has not written it down."""
    try:
        described = description(path)
        return Leftover(Folder(path, dict(described["environment"])), str(described["provider"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Leftover(Folder(path, {}), "libvirt")


def _remove_network(folder: Folder) -> None:
    """Take away the network that Vagrant made for this machine, unless another machine is there that may use it."""
    with contextlib.suppress(LabError, OSError, ValueError, KeyError):
        if description(folder.path)["network"]:
            libvirt.remove_network()
