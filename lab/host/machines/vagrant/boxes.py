"""The boxes that the lab adds to Vagrant for a run, and takes away again when no lab uses them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.core.errors import LabError
from lab.host.cache import Deadline, cache_root, make_folder
from lab.host.machines.vagrant.commands import SHORT_SECONDS, boxes_of_machines
from lab.host.machines.vagrant.libvirt import remove_volumes, until_gone

if TYPE_CHECKING:
    from lab.host.machines.vagrant.program import Commands

OWN_PREFIX = "conntrack-lab-"
_ADD_SECONDS = 600.0


@dataclass(frozen=True)
class Box:
    """A Vagrant box: `name` as Vagrant knows it; with a `url`, and then its `sha256`, the lab adds and removes it."""

    name: str
    url: str | None = None
    sha256: str | None = None


def own_box(url: str, sha256: str) -> Box:
    """The box that the lab makes of a file or URL: its name tells its content, so that two never mix."""
    return Box(f"{OWN_PREFIX}{sha256[:12]}", url, sha256)


@contextlib.contextmanager
def added(box: Box, provider: str, cancelled: threading.Event) -> Iterator[None]:
    """The box, known to Vagrant and in use until the block ends. It stays added: remove_unused() takes it away.

    Raises PrerequisiteError with Vagrant's words, for a wrong checksum too, and LabError past the deadline.
    """
    if box.url is None or box.sha256 is None:
        yield
        return
    with _in_use(box.name, provider):
        commands = _commands(_ADD_SECONDS, "vagrant box add", cancelled)
        if box.name not in {known.name for known in commands.box_list()}:
            checksum = ("--checksum", box.sha256, "--checksum-type", "sha256")
            commands.call("box", "add", "--name", box.name, *checksum, "--provider", provider, box.url)
        yield


def remove_unused(name: str = f"{OWN_PREFIX}*") -> None:
    """Remove the boxes of this name, a glob, that labs added and neither a lab nor a machine uses any more.

    From Vagrant, and their copies of the disk from libvirt's pool. Raises LabError.
    """
    for path in sorted(_folder().glob(f"{name}.lock")):
        if path.stem in boxes_of_machines():
            continue
        with path.open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _remove(path.stem, lock.read())
            path.unlink()


def _remove(name: str, provider: str) -> None:
    with contextlib.suppress(LabError):  # it may have been removed by hand
        _commands(SHORT_SECONDS, "vagrant box remove").call("box", "remove", "--force", "--all", name)
    if provider == "libvirt":
        left = until_gone(lambda: remove_volumes(f"{name}_vagrant_box_image_"))
        if left:
            raise LabError(f"box {name}: libvirt keeps {', '.join(left)}", hint="lab doctor --clean tries again")


@contextlib.contextmanager
def _in_use(name: str, provider: str) -> Iterator[None]:
    """Holds the box's lock together with other labs that use it; the kernel drops it with the lab.

    The file says the provider, for whoever removes the box after a lab that was killed.
    """
    path = make_folder(_folder()) / f"{name}.lock"
    while True:
        with path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            # whoever removed the box meanwhile has removed the file that was waited for
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                    lock.truncate(0)
                    lock.write(provider)
                    lock.flush()
                    yield
                    return


def _commands(seconds: float, what: str, cancelled: threading.Event | None = None) -> Commands:
    from lab.host.machines.vagrant.program import Commands

    return Commands(_folder(), {}, Deadline.after(seconds, what, cancelled), lambda line: None)


def _folder() -> Path:
    return cache_root() / "vagrant"
