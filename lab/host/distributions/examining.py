"""Looking into an image by way of a guest that has it as its second disk, and taking out what its machines boot.

What the guest says is bounded and judged here: a malicious image may have taken over the guest that mounted it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lab.core.distribution import layout
from lab.core.distribution.filesystem import ROOTS, Partition, mountable
from lab.core.distribution.layout import Root
from lab.core.distribution.packages import MANAGERS, noted, parse_packages
from lab.core.distribution.settings import SETTINGS, BootSettings, boot_settings
from lab.core.errors import GuestLost, LabError, PrerequisiteError, ScenarioError
from lab.host.distributions import early
from lab.host.images import initrd
from lab.host.kernels.header import read_release
from lab.host.machines.machine import Event, OnEvent

DISK = "vdb"
_CALL_SECONDS = 120.0
_SETUP_BYTES = 0x10000  # the part of a bzImage that has its release
_MAX_FILE_BYTES = 90 * 2**20  # an answer of the agent's may have 128 MiB, and four bytes of it carry three
_MAX_LIST_BYTES = 8 * 2**20
_MAX_KERNELS = 40
_MAX_SETTING_BYTES = 65536
_PLAIN_PATH = re.compile(r"[\w.+@:~-]+(/[\w.+@:~-]+)*", re.ASCII)


class Caller(Protocol):
    """What can ask the guest's agent."""

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **arguments: Any
    ) -> Any:
        """See Machine.call."""


@dataclass(frozen=True)
class Examined:
    """What was found and taken out: `kernel` and `modules` (a folder lib/modules/RELEASE) lie where it was told."""

    root: Root
    release: str
    kernel: Path
    modules: Path
    config: str
    newest_processor: bool
    packages: Mapping[str, str]
    settings: BootSettings


@dataclass(frozen=True)
class _Kernel:
    release: str
    place: str  # the mounted partition that it lies on
    path: str
    modules: str  # its folder of modules, in the root


async def examine(guest: Caller, work: Path) -> Examined:
    """What the image in the guest's second disk is made of; its files go to `work`.

    Raises ScenarioError that says why the image cannot be used, and GuestLost.
    """
    partitions = await _partitions(guest)
    root, place = await _find_root(guest, partitions)
    await _require_x86(guest, place)
    kernel = await _find_kernel(guest, partitions, root, place, work)
    file = work / "vmlinuz"
    await _fetch(guest, kernel.place, kernel.path, file)
    modules = await _take_modules(guest, place, kernel, root.filesystem, work)
    places = [(place, path) for path in _config_paths(kernel)]
    places += [(kernel.place, f"config-{kernel.release}")] if kernel.place != place else []
    config = await _first_text(guest, places)
    return Examined(
        root=root,
        release=kernel.release,
        kernel=file,
        modules=modules,
        config=config,
        newest_processor=await _needs_newest(guest, place),
        packages=noted(await _packages(guest, place), kernel.release),
        settings=await _settings(guest, place),
    )


async def _partitions(guest: Caller) -> tuple[Partition, ...]:
    said = await guest.call("partitions", deadline_seconds=_CALL_SECONDS, disk=DISK)
    try:
        return tuple(
            Partition(
                name=_plain(str(one["name"])),
                size_bytes=int(one["size_bytes"]),
                head=base64.b64decode(one["head"], validate=True),
                error=None if one["error"] is None else str(one["error"])[:80],
            )
            for one in said["partitions"]
        )
    except (TypeError, KeyError, ValueError) as error:
        raise GuestLost(f"the guest described its disk in a way that cannot be read: {error!r:.100}") from error


async def _find_root(guest: Caller, partitions: tuple[Partition, ...]) -> tuple[Root, str]:
    """The root, and where it is mounted in the guest."""
    refused: list[str] = []
    for part in mountable(partitions):
        if part.filesystem not in ROOTS:
            continue
        for options in await _ways(guest, part, refused):
            place = await _mount(guest, part, options, refused)
            if place is None:
                continue
            text = await _first_text(guest, [(place, path) for path in layout.OS_RELEASE])
            if text.strip():
                return Root(part.name, str(part.filesystem), options, layout.parse_os_release(text)), place
    why = f"; {'; '.join(refused)}" if refused else ""
    raise ScenarioError(
        f"the image {layout.no_root(partitions)}{why}",
        hint="take the distribution's plain cloud image: one without encryption, LVM and RAID",
    )


async def _ways(guest: Caller, part: Partition, refused: list[str]) -> Sequence[str]:
    """The ways to mount a partition: as it is, then the subvolumes that look like a root."""
    if part.filesystem != "btrfs":
        return [part.options]
    place = await _mount(guest, part, f"{part.options},subvolid=5", refused)
    named = layout.subvolumes(await _look(guest, place, layout.SUBVOLUMES)) if place is not None else ()
    return [part.options, *(f"{part.options},subvol={name}" for name in named)]


async def _mount(guest: Caller, part: Partition, options: str, refused: list[str]) -> str | None:
    said = await guest.call(
        "mount", deadline_seconds=_CALL_SECONDS, name=part.name, filesystem=part.filesystem, options=options
    )
    if said.get("exit_status") != 0:
        refused.append(f"{part.name}: {str(said.get('stderr', '')).strip()[:200]}")
        return None
    return str(said.get("place"))


async def _require_x86(guest: Caller, place: str) -> None:
    for program in ("bin/sh", "usr/bin/env", "sbin/init"):
        try:
            head = await _head(guest, place, program, 64)
        except LabError:
            continue
        machine = layout.machine_of(head)
        if machine == layout.X86_64:
            return
        if machine is not None:
            raise ScenarioError(
                f"the image is of another architecture: its /{program} is for {machine}, and guests here are x86-64",
                hint="take the image for x86_64 (amd64)",
            )


async def _find_kernel(guest: Caller, partitions: tuple[Partition, ...], root: Root, place: str, work: Path) -> _Kernel:
    """The newest kernel that has modules, from the root, its /boot and the partitions that may be /boot."""
    folders = layout.module_folders(await _look(guest, place, layout.MODULES))
    candidates = [(place, path) for path in await _look(guest, place, layout.KERNELS)]
    for part in mountable(partitions):
        if part.name != root.partition and (other := await _mount(guest, part, part.options, [])) is not None:
            candidates += [(other, path) for path in await _look(guest, other, layout.BOOT_PARTITION)]
    found: dict[str, _Kernel] = {}
    problems: list[str] = []
    for where, path in candidates[:_MAX_KERNELS]:
        try:
            release = await _release(guest, where, path, work)
        except LabError as error:
            problems.append(f"/{path}: {error}")
            continue
        if release in folders:
            found.setdefault(release, _Kernel(release, where, path, folders[release]))
        else:
            problems.append(f"/{path} is {release}, which has no modules")
    newest = layout.newest(found)
    if newest is None:
        why = "; ".join(problems) or "no file like /boot/vmlinuz-RELEASE, there or in another partition"
        raise ScenarioError(
            f"{root.name}: the image has no kernel that can be booted: {why[:1000]}",
            hint="take an image for virtual machines: one for containers has no kernel",
        )
    return found[newest]


async def _release(guest: Caller, place: str, path: str, work: Path) -> str:
    setup = work / "setup"
    setup.write_bytes(await _head(guest, place, path, _SETUP_BYTES))
    try:
        return read_release(setup)
    except ScenarioError as error:
        raise ScenarioError(str(error).replace(str(setup), "it"), hint=error.hint) from error


async def _take_modules(guest: Caller, place: str, kernel: _Kernel, filesystem: str, work: Path) -> Path:
    """A folder of the modules on the way to the root, and the lists that name them."""
    folder = work / "modules" / kernel.release
    folder.mkdir(parents=True)
    for name in ("modules.dep", "modules.builtin"):
        text = await _first_text(guest, [(place, f"{kernel.modules}/{name}")])
        (folder / name).write_text(text)
    dependencies = initrd.parse_dependencies((folder / "modules.dep").read_text())
    for file in initrd.load_order(early.modules_asked(filesystem), dependencies):
        target = folder / _plain(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        await _fetch(guest, place, f"{kernel.modules}/{file}", target)
    return folder


def _config_paths(kernel: _Kernel) -> list[str]:
    return [f"boot/config-{kernel.release}", f"{kernel.modules}/config"]


async def _settings(guest: Caller, place: str) -> BootSettings:
    paths = [str(one["path"]) for one in await _entries(guest, place, SETTINGS) if not one.get("folder")]
    said = await guest.call("texts", deadline_seconds=_CALL_SECONDS, root=place, paths=paths, limit=_MAX_SETTING_BYTES)
    return boot_settings({path: str(one.get("text") or "") for path, one in said.items()})


async def _needs_newest(guest: Caller, place: str) -> bool:
    """Whether its programs refuse the old processor that an emulated guest has, as glibc's loader does. Nothing of such
    a distribution can be run here, so that it tells no packages either.
    """
    said = await guest.call("run", deadline_seconds=_CALL_SECONDS, root=place, argv=["true"])
    return "CPU does not support" in str(said.get("stderr", ""))


async def _packages(guest: Caller, place: str) -> Mapping[str, str]:
    """What the distribution's own package manager lists, run in the guest; empty where none of those known is there."""
    for manager in MANAGERS:
        said = await guest.call("run", deadline_seconds=_CALL_SECONDS, root=place, argv=list(manager.argv))
        if said.get("exit_status") == 0 and (found := parse_packages(manager, str(said.get("stdout", "")))):
            return found
    return {}


async def _look(guest: Caller, place: str, patterns: Iterable[str]) -> list[str]:
    return [path for one in await _entries(guest, place, patterns) if _PLAIN_PATH.fullmatch(path := str(one["path"]))]


async def _entries(guest: Caller, place: str, patterns: Iterable[str]) -> list[Mapping[str, Any]]:
    said = await guest.call("look", deadline_seconds=_CALL_SECONDS, root=place, patterns=list(patterns))
    return list(said["paths"])


async def _first_text(guest: Caller, places: Sequence[tuple[str, str]]) -> str:
    """The first of these files that there is; empty for none."""
    for place, path in places:
        said = await guest.call(
            "texts", deadline_seconds=_CALL_SECONDS, root=place, paths=[path], limit=_MAX_LIST_BYTES
        )
        text = said.get(path, {}).get("text")
        if text is not None:
            return str(text)
    return ""


async def _head(guest: Caller, place: str, path: str, limit: int) -> bytes:
    content = bytearray()
    await _receive(guest, place, path, limit, content.extend)
    return bytes(content)


async def _fetch(guest: Caller, place: str, path: str, target: Path) -> None:
    with target.open("wb") as file:
        await _receive(guest, place, path, _MAX_FILE_BYTES, file.write)


async def _receive(guest: Caller, place: str, path: str, limit: int, take: Any) -> None:
    received = 0

    def on_event(event: Event) -> None:
        nonlocal received
        try:
            part = base64.b64decode(str(event.get("content")), validate=True)
        except binascii.Error as error:
            raise GuestLost(f"a part of /{path} came damaged: {error}") from error
        received += len(part)
        if received > limit:
            raise GuestLost(f"the guest sends more of /{path} than it was asked for")
        take(part)

    await guest.call("fetch", deadline_seconds=_CALL_SECONDS, on_event=on_event, root=place, path=path, limit=limit)


def _plain(path: str) -> str:
    """A path that the guest named, if it can be a file's name here. Raises PrerequisiteError."""
    if not _PLAIN_PATH.fullmatch(path) or ".." in path.split("/"):
        raise PrerequisiteError(f"the image has a file of an odd name: {path!r:.100}", hint="the image is damaged")
    return path
