"""The embedded provisioner: boots a machine once, saves its memory when the agent is ready, restores cells from it.

The root disk is read-only and shared, and the saved memory is mapped privately: nothing a guest does reaches the image,
the saved state or another guest.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.core.errors import GuestLost, LabError, PrerequisiteError
from lab.host.cache import (
    Deadline,
    cache_root,
    exclusive,
    make_folder,
    remove_stale,
    remove_tree,
    require_space,
    scratch,
    staging,
)
from lab.host.images.initrd import agent_part
from lab.host.kernels import requirements
from lab.host.machines.agent_package import agent_zipapp
from lab.host.machines.machine import ConsoleLog, Deadlines, MachineSpec, OnEvent
from lab.host.machines.qemu.binary import QemuBinary
from lab.host.machines.qemu.clock import WrongClock, check_clock
from lab.host.machines.qemu.command import KVM, Accelerator, Files, Sockets, command_line
from lab.host.machines.qemu.process import QemuProcess, running
from lab.host.process import unprivileged_ids
from lab.host.results.plain_files import sha256_of

# Raised when a saved state of the last version must not be restored any more.
STATE_VERSION = 1
# Each takes 150 to 350 MB; one is needed for each target, kernel, set of boot arguments and version of the lab.
KEPT_STATES = 16
_SAVE_SECONDS = 60.0
_MOST_SECONDS = 10**9  # of a guest's clock, which begins with its boot
_KVM_SECONDS = 30.0
# A machine that did not boot so often is not booted again by the same lab: each try takes the whole deadline.
BOOT_TRIES = 2
_TRIAL_LOCK = "trial"
_HEADROOM_BYTES = 200 * 10**6


@dataclass(frozen=True)
class SavedState:
    """A machine's memory at the moment when its agent was ready."""

    folder: Path

    @property
    def memory(self) -> Path:
        """The guest's memory, mapped by every machine restored from it."""
        return self.folder / "memory"

    @property
    def devices(self) -> Path:
        """The state of the devices, as QEMU's migration stream without the memory."""
        return self.folder / "devices"

    @property
    def console(self) -> Path:
        """What the console showed from power-on to the save."""
        return self.folder / "console.log"

    def mark_used(self) -> None:
        """Remember that the state was used now; the ones used longest ago are the first to go."""
        with contextlib.suppress(OSError):
            os.utime(self.folder)

    def complete(self) -> bool:
        """Whether every file is there as it was recorded when the state was saved: the memory, of a gigabyte and more,
        by its size, all others by their digests.
        """
        try:
            recorded = json.loads((self.folder / "state.json").read_text())
            sizes, digests = recorded["sizes"], recorded["sha256s"]
            return all((self.folder / name).stat().st_size == size for name, size in sizes.items()) and all(
                sha256_of(self.folder / name) == digest for name, digest in digests.items()
            )
        except (OSError, ValueError, KeyError, AttributeError, LabError):
            return False


def recorded_state(state: SavedState) -> str:
    """What state.json says of the other files, by which `SavedState.complete` knows them."""
    sizes = {path.name: path.stat().st_size for path in (state.memory, state.devices, state.console)}
    digests = {path.name: sha256_of(path) for path in (state.devices, state.console)}
    return json.dumps({"sizes": sizes, "sha256s": digests, "saved_at": time.time()})


class QemuMachine:
    """A machine restored from a saved state."""

    def __init__(self, process: QemuProcess, facts: Mapping[str, Any]) -> None:
        self._process = process
        self._facts = facts

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **arguments: Any
    ) -> Mapping[str, Any]:
        """See Machine.call."""
        return await self._process.call(operation, deadline_seconds=deadline_seconds, on_event=on_event, **arguments)

    def console(self) -> str:
        """See Machine.console."""
        return self._process.console()

    def facts(self) -> Mapping[str, Any]:
        """See Machine.facts."""
        return self._facts

    def logs(self) -> Mapping[str, str]:
        """See Machine.logs."""
        return {}

    async def keep(self, file: Path) -> None:
        """Stop the machine and write all of it to `file`, for `QemuProvisioner.kept`. Raises GuestLost."""
        await self._process.execute("stop")
        with file.open("wb") as saved:
            await _migrate(self._process, saved.fileno(), "migrate", _SAVE_SECONDS)

    @property
    def process(self) -> QemuProcess:
        """The QEMU behind it, for the shell and for tests that kill it."""
        return self._process


class QemuProvisioner:
    """Machines from QEMU with one accelerator."""

    start_stage = "restore"

    def __init__(self, qemu: QemuBinary, accelerator: Accelerator, deadlines: Deadlines) -> None:
        self._qemu = qemu
        self._accelerator = accelerator
        self._deadlines = deadlines
        self._preparing: dict[str, asyncio.Lock] = {}
        self._failed: dict[str, list[GuestLost]] = {}  # boots, by the machine's key

    @contextlib.asynccontextmanager
    async def machine(self, spec: MachineSpec) -> AsyncIterator[QemuMachine]:
        """A machine restored from the saved state, which is made first where it is missing, and made again, once,
        where it turns out not to fit.
        """
        async with contextlib.AsyncExitStack() as stack:
            await self.prepare(spec, lambda line: None)
            try:
                process = await stack.enter_async_context(self._restored(spec))
            except GuestLost:
                await self._discard(spec)
                await self.prepare(spec, lambda line: None)
                process = await stack.enter_async_context(self._restored(spec))
            yield QemuMachine(process, self._machine_facts(spec))

    async def prepare(self, spec: MachineSpec, progress: Callable[[str], None]) -> bool:
        """Boot and save, unless a complete saved state is there. Two labs at once wait for each other."""
        key = self.key(spec)
        async with self._preparing.setdefault(key, asyncio.Lock()):
            state = SavedState(self._folder(key))
            if state.complete():
                return False
            self._refuse_hopeless(key)
            cancelled = threading.Event()
            deadline = Deadline.after(2 * self._deadlines.boot + _SAVE_SECONDS, "booting the machine", cancelled)
            with contextlib.ExitStack() as stack:
                lock = exclusive(f"state-{key}", deadline, lambda: progress("waiting for another boot"))
                try:
                    await asyncio.to_thread(stack.enter_context, lock)
                except asyncio.CancelledError:
                    cancelled.set()
                    raise
                if not state.complete():
                    progress("boot")
                    try:
                        await self._boot_until_right(spec, key, progress)
                    except GuestLost as lost:
                        self._failed.setdefault(key, []).append(lost)
                        raise
            return True

    async def _boot_until_right(self, spec: MachineSpec, key: str, progress: Callable[[str], None]) -> None:
        try:
            await self._boot_and_save(spec, key)
        except WrongClock as wrong:
            progress(f"boot once more: {wrong}")
            await self._boot_and_save(spec, key)

    def _refuse_hopeless(self, key: str) -> None:
        failed = self._failed.get(key, [])
        if len(failed) >= BOOT_TRIES:
            lost = GuestLost(f"not booted again, for it did not boot {len(failed)} times; the last time: {failed[-1]}")
            lost.console = failed[-1].console
            raise lost

    @contextlib.asynccontextmanager
    async def kept(self, spec: MachineSpec, file: Path) -> AsyncIterator[QemuMachine]:
        """A machine that `QemuMachine.keep` wrote, as it was; the file can be used again and again."""
        with _Descriptors() as files:
            opened = self._open(files, spec, _initrd_of_size(files, spec), None, True)
            async with running(
                lambda sockets: self._argv(spec, opened, sockets), files.numbers, ConsoleLog()
            ) as process:
                with file.open("rb") as saved:
                    await _migrate(process, saved.fileno(), "migrate-incoming", self._deadlines.boot)
                await process.execute("cont")  # it was stopped when it was written
                yield QemuMachine(process, self._machine_facts(spec))

    async def discard(self, kept: Path) -> None:
        """See Provisioner.discard."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(kept)

    async def prove_boot(self, spec: MachineSpec, seconds: float) -> None:
        """Boot the machine to its agent's first answer and end it; raises GuestLost when it does not get there."""
        states = make_folder(cache_root() / "states")
        deadline = Deadline.after(seconds, "waiting for another trial")
        with exclusive(_TRIAL_LOCK, deadline), scratch(states, _TRIAL_LOCK) as folder:
            memory = folder / "memory"
            with _memory_file(memory, spec.memory_mb * 2**20):
                async with self._booted(spec, memory, ConsoleLog(), seconds):
                    pass

    def describe(self, spec: MachineSpec) -> tuple[str, ...]:
        """The command lines of the boot (once) and of the restore (each cell), with file names for descriptors."""
        boot, restore = (self._argv(spec, self._named_files(spec, restore), _NO_SOCKETS) for restore in (False, True))
        return (" ".join(boot), " ".join(restore))

    def manifest(self) -> dict[str, Any]:
        """What shapes every machine of this provisioner."""
        return {
            "name": "qemu",
            "qemu_version": self._qemu.version,
            "accelerator": self._accelerator.name,
            "host_cpu": self._qemu.host_cpu,
            "state_version": STATE_VERSION,
        }

    def key(self, spec: MachineSpec) -> str:
        """A digest of everything that shapes the saved state."""
        shape = {
            "version": STATE_VERSION,
            "argv": self._argv(spec, self._named_files(spec, False, with_paths=False), _NO_SOCKETS),
            "image": spec.digest,
            "agent": hashlib.sha256(agent_zipapp()).hexdigest(),
            "qemu": self._qemu.version,
            "host_cpu": self._qemu.host_cpu,  # an emulated guest, too, counts this host's ticks
        }
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]

    async def _boot_and_save(self, spec: MachineSpec, key: str) -> None:
        folder = self._folder(key)
        make_folder(folder.parent)
        remove_stale(folder.parent, f"state-{key}")
        require_space(folder.parent, spec.memory_mb * 2**20 + _HEADROOM_BYTES, "the saved memory of a machine")
        with staging(folder, f"state-{key}") as partial:
            state = SavedState(partial)
            console = ConsoleLog()
            with _memory_file(state.memory, spec.memory_mb * 2**20), state.devices.open("wb") as devices:
                async with self._booted(spec, state.memory, console, self._deadlines.boot) as process:
                    await check_clock(lambda: _clock_of(process, self._deadlines.restore), console.text)
                    await _migrate(process, devices.fileno(), "migrate", _SAVE_SECONDS)
            state.console.write_text(console.text())
            (partial / "state.json").write_text(recorded_state(state))
            state.memory.chmod(0o444)
        prune_saved_states(KEPT_STATES)

    @contextlib.asynccontextmanager
    async def _booted(
        self, spec: MachineSpec, memory: Path, console: ConsoleLog, seconds: float
    ) -> AsyncIterator[QemuProcess]:
        with _Descriptors() as files:
            initrd = files.memory_file("initrd", spec.initrd.read_bytes() + agent_part(agent_zipapp()))
            opened = self._open(files, spec, initrd, files.path(memory, os.O_RDWR), False)
            async with running(lambda sockets: self._argv(spec, opened, sockets), files.numbers, console) as process:
                try:
                    await process.call("hello", deadline_seconds=seconds)
                except GuestLost as lost:
                    raise _not_booted(lost) from None
                yield process

    @contextlib.asynccontextmanager
    async def _restored(self, spec: MachineSpec) -> AsyncIterator[QemuProcess]:
        state = SavedState(self._folder(self.key(spec)))
        if not state.complete():
            raise GuestLost("the machine's saved state has gone")  # another lab, or another cell, found it unfit
        state.mark_used()
        console = ConsoleLog()
        with _Descriptors() as files:
            try:  # another lab may remove it at any moment; what is open stays
                console.feed(state.console.read_bytes())
                memory, devices = files.path(state.memory), files.number(state.devices)
            except (OSError, PrerequisiteError) as error:
                raise GuestLost(f"the machine's saved state has gone: {error}") from error
            # the initrd lies in the saved memory; QEMU only wants to see a file of the same size
            opened = self._open(files, spec, _initrd_of_size(files, spec), memory, True)
            async with running(lambda sockets: self._argv(spec, opened, sockets), files.numbers, console) as process:
                await _migrate(process, devices, "migrate-incoming", self._deadlines.restore)
                await process.call("hello", deadline_seconds=self._deadlines.restore)
                yield process

    def _open(self, files: _Descriptors, spec: MachineSpec, initrd: str, memory: str | None, restores: bool) -> Files:
        return Files(
            kernel=files.path(spec.kernel),
            initrd=initrd,
            root_disk=files.path(spec.root_disk),
            memory=memory,
            modules_disk=files.path(spec.modules_disk) if spec.modules_disk is not None else None,
            restores=restores,
        )

    def _named_files(self, spec: MachineSpec, restore: bool, with_paths: bool = True) -> Files:
        """Files by name: for people with their paths, for the digest (whose contents `spec.digest` covers) without."""
        folder = self._folder(self.key(spec)) if with_paths else Path("STATE")
        return Files(
            kernel=str(spec.kernel) if with_paths else "KERNEL",
            initrd=f"{spec.initrd}+agent" if with_paths else "INITRD",
            root_disk=str(spec.root_disk) if with_paths else "ROOT",
            memory=str(folder / "memory"),
            modules_disk=None if spec.modules_disk is None else str(spec.modules_disk) if with_paths else "MODULES",
            restores=restore,
        )

    def _argv(self, spec: MachineSpec, files: Files, sockets: Sockets) -> list[str]:
        return command_line(
            self._qemu.path,
            self._accelerator,
            files,
            sockets,
            memory_mb=spec.memory_mb,
            vcpus=spec.vcpus,
            boot_args=spec.boot_args,
        )

    def _machine_facts(self, spec: MachineSpec) -> Mapping[str, Any]:
        return {
            "provisioner": "qemu",
            "accelerator": self._accelerator.name,
            "qemu_version": self._qemu.version,
            "memory_mb": spec.memory_mb,
            "vcpus": spec.vcpus,
            "boot_args": list(spec.boot_args),
            "saved_state": self.key(spec),
        }

    async def _discard(self, spec: MachineSpec) -> None:
        folder = self._folder(self.key(spec))
        if folder.exists():
            await asyncio.to_thread(remove_tree, folder)

    def _folder(self, key: str) -> Path:
        return cache_root() / "states" / key


async def boot_with_kvm(qemu: QemuBinary, spec: MachineSpec) -> None:
    """Boot the machine with KVM to its agent's first answer, and end it. Raises GuestLost."""
    await QemuProvisioner(qemu, KVM, Deadlines()).prove_boot(spec, _KVM_SECONDS)


class _Descriptors:
    """Files opened for QEMU, closed at the end of the block. QEMU reopens them by /proc/self/fd, so that it needs no
    right to enter the folders that they lie in.
    """

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __enter__(self) -> _Descriptors:
        return self

    def __exit__(self, *_: object) -> None:
        for number in self.numbers:
            os.close(number)

    def number(self, path: Path, flags: int = os.O_RDONLY) -> int:
        """The descriptor of a file; raises PrerequisiteError when it cannot be opened."""
        try:
            number = os.open(path, flags | os.O_CLOEXEC)
            self.numbers.append(number)
            _let_read(number)
        except OSError as error:
            raise PrerequisiteError(
                f"cannot open {path}: {error.strerror}", hint="lab image build makes it again"
            ) from error
        return number

    def path(self, path: Path, flags: int = os.O_RDONLY) -> str:
        """The name by which QEMU opens a file."""
        return f"/proc/self/fd/{self.number(path, flags)}"

    def memory_file(self, name: str, content: bytes) -> str:
        """A file that exists in memory only, with `content`."""
        number = os.memfd_create(name)
        self.numbers.append(number)
        with open(number, "wb", closefd=False) as file:
            file.write(content)
        return f"/proc/self/fd/{number}"


def _let_read(number: int) -> None:
    """QEMU opens its files anew by /proc/self/fd, as an unprivileged user where the lab is root: under a umask of 077
    the cache's files are root's alone.
    """
    status = os.fstat(number)
    if os.geteuid() == 0 and status.st_uid == 0 and not status.st_mode & stat.S_IROTH:
        os.fchmod(number, stat.S_IMODE(status.st_mode) | stat.S_IROTH)


_NO_SOCKETS = Sockets(agent=0, shell=0, console=0, qmp=0)


def _not_booted(lost: GuestLost) -> GuestLost:
    """The loss of a machine that never answered, with what its silence can mean."""
    if lost.console.strip():
        return lost
    silent = GuestLost(f"{lost}; its console is empty; a guest's kernel needs {requirements.in_words()}")
    silent.console = lost.console
    return silent


def _initrd_of_size(files: _Descriptors, spec: MachineSpec) -> str:
    size = spec.initrd.stat().st_size + len(agent_part(agent_zipapp()))
    number = os.memfd_create("initrd")
    files.numbers.append(number)
    os.truncate(number, size)
    return f"/proc/self/fd/{number}"


@contextlib.contextmanager
def _memory_file(path: Path, size_bytes: int) -> Any:
    """A sparse file for the guest's memory, which QEMU may write while the block runs and only read afterwards."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
        os.fchown(file.fileno(), *unprivileged_ids())
        yield
        if os.geteuid() == 0:
            os.fchown(file.fileno(), 0, 0)


async def _clock_of(process: QemuProcess, deadline_seconds: float) -> float:
    said = (await process.call("clock", deadline_seconds=deadline_seconds)).get("monotonic_seconds")
    if not isinstance(said, int | float) or not 0 <= said < _MOST_SECONDS:
        raise GuestLost(f"the guest's clock says {said!r:.80}")
    return float(said)


async def _migrate(process: QemuProcess, devices_fd: int, command: str, seconds: float) -> None:
    """Write (`migrate`) or read (`migrate-incoming`) the devices' state. The memory, in a file of its own, is left out
    of it (x-ignore-shared). A machine that was saved is stopped; one that was restored runs.
    """
    process.qmp.send_fd_scm(devices_fd)
    uri = f"file:/dev/fdset/{(await process.execute('add-fd'))['fdset-id']}"
    capabilities = [{"capability": "x-ignore-shared", "state": True}]
    await process.execute("migrate-set-capabilities", {"capabilities": capabilities})
    await process.execute(command, {"uri": uri})
    deadline = time.monotonic() + seconds
    while (status := (await process.execute("query-migrate")).get("status")) != "completed":
        if status in ("failed", "cancelled") or time.monotonic() > deadline:
            raise GuestLost(f"{command} of the machine's state ended as {status}")
        await asyncio.sleep(0.01)


def saved_states() -> list[Path]:
    """The folders of all saved states, the one used last first."""
    used: dict[Path, float] = {}
    for path in (cache_root() / "states").glob("[!.]*"):
        with contextlib.suppress(FileNotFoundError):  # another lab removes them, too
            if path.is_dir():
                used[path] = path.stat().st_mtime
    return sorted(used, key=lambda path: used[path], reverse=True)


def prune_saved_states(keep: int) -> int:
    """Remove all but the `keep` states used last; how many went. A machine restored from one of them lives on: it has
    the files open. One that is needed again is made again.
    """
    stale = saved_states()[keep:]
    for folder in stale:
        shutil.rmtree(folder, ignore_errors=True)
    return len(stale)
