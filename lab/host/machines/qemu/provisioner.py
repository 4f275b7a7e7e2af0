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
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from lab.core.errors import GuestLost, PrerequisiteError
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
from lab.host.machines.agent_package import agent_sha256, agent_zipapp
from lab.host.machines.machine import ConsoleLog, Unsuitable
from lab.host.machines.qemu.binary import QemuBinary
from lab.host.machines.qemu.clock import WrongClock, check_clock, read_clock
from lab.host.machines.qemu.command import KVM, TCG, TCG_NEWEST, Accelerator, Files, Sockets, command_line
from lab.host.machines.qemu.files import Descriptors, memory_of_guest
from lab.host.machines.qemu.machine import SAVE_SECONDS, ImageMachine, QemuMachine, migrate
from lab.host.machines.qemu.opening import named, opened, placeless
from lab.host.machines.qemu.process import QemuProcess, running
from lab.host.machines.qemu.saved_state import (
    KEPT_STATES,
    STATE_VERSION,
    SavedState,
    prune_saved_states,
    recorded_state,
    state_folder,
)
from lab.host.options import Deadlines

_KVM_SECONDS = 30.0
# A machine that did not boot so often is not booted again by the same lab: each try takes the whole deadline.
BOOT_TRIES = 2
_TRIAL_LOCK = "trial"
_HEADROOM_BYTES = 200 * 10**6


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
    async def machine(self, spec: ImageMachine) -> AsyncIterator[QemuMachine]:
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

    async def prepare(self, spec: ImageMachine, progress: Callable[[str], None]) -> bool:
        """Boot and save, unless a complete saved state is there. Two labs at once wait for each other."""
        if spec.lacking is not None:
            raise Unsuitable(spec.lacking)
        key = self.key(spec)
        async with self._preparing.setdefault(key, asyncio.Lock()):
            state = SavedState(state_folder(key))
            if state.complete():
                return False
            self._refuse_hopeless(key)
            cancelled = threading.Event()
            deadline = Deadline.after(2 * self._deadlines.boot + SAVE_SECONDS, "booting the machine", cancelled)
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

    async def _boot_until_right(self, spec: ImageMachine, key: str, progress: Callable[[str], None]) -> None:
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
    async def kept(self, spec: ImageMachine, file: Path) -> AsyncIterator[QemuMachine]:
        """A machine that `QemuMachine.keep` wrote, as it was; the file can be used again and again."""
        with Descriptors() as files:
            opens = opened(files, spec, files.empty_file("initrd", _initrd_bytes(spec)), None, True)
            async with running(
                lambda sockets: self._argv(spec, opens, sockets), files.numbers, ConsoleLog()
            ) as process:
                with file.open("rb") as saved:
                    await migrate(process, saved.fileno(), "migrate-incoming", self._deadlines.boot)
                await process.execute("cont")  # it was stopped when it was written
                yield QemuMachine(process, self._machine_facts(spec))

    async def discard(self, kept: Path) -> None:
        """See Provisioner.discard."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(kept)

    async def prove_boot(self, spec: ImageMachine, seconds: float) -> None:
        """Boot the machine to its agent's first answer and end it; raises GuestLost when it does not get there."""
        states = make_folder(cache_root() / "states")
        deadline = Deadline.after(seconds, "waiting for another trial")
        with exclusive(_TRIAL_LOCK, deadline), scratch(states, _TRIAL_LOCK) as folder:
            memory = folder / "memory"
            with memory_of_guest(memory, spec.memory_mb * 2**20):
                async with self._booted(spec, memory, ConsoleLog(), seconds):
                    pass

    @contextlib.asynccontextmanager
    async def once(self, spec: ImageMachine) -> AsyncIterator[QemuProcess]:
        """The machine booted now, for one use, with no state saved. Raises GuestLost."""
        async with self._booted(spec, None, ConsoleLog(), self._deadlines.boot) as process:
            yield process

    def describe(self, spec: ImageMachine) -> tuple[str, ...]:
        """The command lines of the boot (once) and of the restore (each cell), with file names for descriptors."""
        state = state_folder(self.key(spec))
        boot, restore = (self._argv(spec, named(spec, state, restores), _NO_SOCKETS) for restores in (False, True))
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

    def key(self, spec: ImageMachine) -> str:
        """A digest of everything that shapes the saved state."""
        shape = {
            "version": STATE_VERSION,
            "argv": self._argv(spec, placeless(spec), _NO_SOCKETS),
            "image": spec.digest,
            "agent": agent_sha256(),
            "qemu": self._qemu.version,
            "host_cpu": self._qemu.host_cpu,  # an emulated guest, too, counts this host's ticks
        }
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]

    async def _boot_and_save(self, spec: ImageMachine, key: str) -> None:
        folder = state_folder(key)
        make_folder(folder.parent)
        remove_stale(folder.parent, f"state-{key}")
        require_space(folder.parent, spec.memory_mb * 2**20 + _HEADROOM_BYTES, "the saved memory of a machine")
        with staging(folder, f"state-{key}") as partial:
            state = SavedState(partial)
            console = ConsoleLog()
            with memory_of_guest(state.memory, spec.memory_mb * 2**20), state.devices.open("wb") as devices:
                async with self._booted(spec, state.memory, console, self._deadlines.boot) as process:
                    await check_clock(lambda: read_clock(process, self._deadlines.restore), console.text)
                    await migrate(process, devices.fileno(), "migrate", SAVE_SECONDS)
            state.console.write_text(console.text())
            (partial / "state.json").write_text(recorded_state(state))
            state.memory.chmod(0o444)
        prune_saved_states(KEPT_STATES)

    @contextlib.asynccontextmanager
    async def _booted(
        self, spec: ImageMachine, memory: Path | None, console: ConsoleLog, seconds: float
    ) -> AsyncIterator[QemuProcess]:
        with Descriptors() as files:
            initrd = files.memory_file("initrd", spec.initrd.read_bytes() + agent_part(agent_zipapp()))
            opens = opened(files, spec, initrd, files.path(memory, os.O_RDWR) if memory else None, False)
            async with running(lambda sockets: self._argv(spec, opens, sockets), files.numbers, console) as process:
                try:
                    await process.call("hello", deadline_seconds=seconds)
                except GuestLost as lost:
                    raise _not_booted(lost) from None
                yield process

    @contextlib.asynccontextmanager
    async def _restored(self, spec: ImageMachine) -> AsyncIterator[QemuProcess]:
        state = SavedState(state_folder(self.key(spec)))
        if not state.complete():
            raise GuestLost("the machine's saved state has gone")  # another lab, or another cell, found it unfit
        state.mark_used()
        console = ConsoleLog()
        with Descriptors() as files:
            try:  # another lab may remove it at any moment; what is open stays
                console.feed(state.console.read_bytes())
                memory, devices = files.path(state.memory), files.number(state.devices)
            except (OSError, PrerequisiteError) as error:
                raise GuestLost(f"the machine's saved state has gone: {error}") from error
            # the initrd lies in the saved memory; QEMU only wants to see a file of the same size
            opens = opened(files, spec, files.empty_file("initrd", _initrd_bytes(spec)), memory, True)
            async with running(lambda sockets: self._argv(spec, opens, sockets), files.numbers, console) as process:
                await migrate(process, devices, "migrate-incoming", self._deadlines.restore)
                await process.call("hello", deadline_seconds=self._deadlines.restore)
                yield process

    def _argv(self, spec: ImageMachine, files: Files, sockets: Sockets) -> list[str]:
        return command_line(
            self._qemu.path,
            TCG_NEWEST if spec.newest_processor and self._accelerator == TCG else self._accelerator,
            files,
            sockets,
            memory_mb=spec.memory_mb,
            vcpus=spec.vcpus,
            boot_args=spec.boot_args,
        )

    def _machine_facts(self, spec: ImageMachine) -> Mapping[str, Any]:
        return {
            "provisioner": "qemu",
            "accelerator": self._accelerator.name,
            "qemu_version": self._qemu.version,
            "memory_mb": spec.memory_mb,
            "vcpus": spec.vcpus,
            "boot_args": list(spec.boot_args),
            "saved_state": self.key(spec),
        }

    async def _discard(self, spec: ImageMachine) -> None:
        folder = state_folder(self.key(spec))
        if folder.exists():
            await asyncio.to_thread(remove_tree, folder)


async def boot_with_kvm(qemu: QemuBinary, spec: ImageMachine) -> None:
    """Boot the machine with KVM to its agent's first answer, and end it. Raises GuestLost."""
    await QemuProvisioner(qemu, KVM, Deadlines()).prove_boot(spec, _KVM_SECONDS)


_NO_SOCKETS = Sockets(agent=0, shell=0, console=0, qmp=0)


def _initrd_bytes(spec: ImageMachine) -> int:
    return spec.initrd.stat().st_size + len(agent_part(agent_zipapp()))


def _not_booted(lost: GuestLost) -> GuestLost:
    """The loss of a machine that never answered, with what its silence can mean."""
    if lost.console.strip():
        return lost
    lost.args = (f"{lost}; its console is empty; a guest's kernel needs {requirements.in_words()}",)
    return lost
