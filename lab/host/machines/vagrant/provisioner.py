"""Machines from Vagrant boxes, by way of python-vagrant and the top-level Vagrantfile.

vagrant_commands.py calls Vagrant, vagrant_boxes.py adds and removes boxes, ssh_channel.py is the way in, libvirt.py
looks behind Vagrant's back, and leftovers.py takes machines away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lab.core.errors import GuestLost, LabError
from lab.host.machines.channel import MAX_LINE_BYTES, AgentChannel
from lab.host.machines.machine import Unsuitable, last_lines
from lab.host.machines.ssh_channel import Ssh, agent_over, boot_command, connected, socket_path
from lab.host.machines.vagrant import libvirt
from lab.host.machines.vagrant.boxes import Box, added, remove_unused
from lab.host.machines.vagrant.commands import (
    LOG,
    SHORT_SECONDS,
    Folder,
    console_file,
    new_folder,
    new_name,
    release,
    vagrant_version,
)
from lab.host.machines.vagrant.leftovers import KeptMachineGone, destroy, kept_folder
from lab.host.machines.vagrant.machine import BoxMachine, VagrantMachine
from lab.host.options import Deadlines
from lab.host.threads import in_thread, uncancelled

if TYPE_CHECKING:
    from lab.host.machines.vagrant.program import Commands

_SNAPSHOT = "lab-ready"
_SNAPSHOT_SECONDS = 300.0

T = TypeVar("T")


class VagrantProvisioner:
    """Machines from boxes with one of Vagrant's providers; `share` gives all cells of a target one machine, returned to
    its snapshot for each.
    """

    start_stage = "boot"

    def __init__(
        self,
        provider: str,
        deadlines: Deadlines,
        *,
        share: bool = False,
        control: str = "auto",
        driver: str | None = None,
    ) -> None:
        self._provider = provider
        self._deadlines = deadlines
        self._share = share
        self._control = control
        self._driver = driver
        self._ends = contextlib.AsyncExitStack()  # of what cells share: boxes, and machines
        self._added: set[Box] = set()
        self._adding = asyncio.Lock()
        self._starting = asyncio.Lock()
        self._shared: dict[str, tuple[Folder, asyncio.Lock]] = {}
        if share:
            self.start_stage = "restore"

    async def __aenter__(self) -> VagrantProvisioner:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Destroy shared machines, and take away the boxes that were added."""
        await self._ends.aclose()

    async def prepare(self, spec: BoxMachine, progress: Callable[[str], None]) -> bool:
        """See Provisioner.prepare: adds the box; with a shared machine, starts it and takes its snapshot."""
        if spec.boot_args:
            raise Unsuitable(f"a box boots with its own arguments, and this needs {' '.join(spec.boot_args)}")
        if spec.packages:
            raise Unsuitable(f"nothing is installed in a box, and this needs {' '.join(spec.packages)}")
        async with self._adding:
            await self._add(spec.box, progress)
            if not self._share or self.key(spec) in self._shared:
                return False
            progress("vagrant up")
            await self._start_shared(spec)
            return True

    async def _add(self, box: Box, progress: Callable[[str], None]) -> None:
        if box in self._added:
            return
        progress("adding the box")
        if box.url is not None:
            self._ends.push_async_callback(uncancelled_call, partial(remove_unused, box.name))
        in_use = self._ends.enter_context(contextlib.ExitStack())
        await in_thread(lambda cancelled: in_use.enter_context(added(box, self._provider, cancelled)))
        self._added.add(box)

    async def _start_shared(self, spec: BoxMachine) -> None:
        """A machine of which each cell gets the snapshot."""
        folder = await self._new_folder(spec)
        try:
            await self._up(folder)
            async with self._controlled(folder, spec, fresh=True) as machine:
                await machine.call("hello", deadline_seconds=self._deadlines.boot)
            commands = folder.commands(_SNAPSHOT_SECONDS, "vagrant snapshot save")
            await self._vagrant(folder, lambda: commands.snapshot_save(_SNAPSHOT), commands)
        except BaseException:
            await self._destroy(folder, orderly=False)
            raise
        self._ends.push_async_callback(self._destroy, folder, orderly=True)
        self._shared[self.key(spec)] = (folder, asyncio.Lock())

    @contextlib.asynccontextmanager
    async def machine(self, spec: BoxMachine) -> AsyncIterator[VagrantMachine]:
        """See Provisioner.machine."""
        await self.prepare(spec, lambda line: None)
        given = self._returned(spec) if self._share else self._fresh(spec)
        async with given as machine:
            yield machine

    @contextlib.asynccontextmanager
    async def _returned(self, spec: BoxMachine) -> AsyncIterator[VagrantMachine]:
        folder, lock = self._shared[self.key(spec)]
        async with lock:
            commands = folder.commands(_SNAPSHOT_SECONDS, "vagrant snapshot restore")
            await self._vagrant(folder, lambda: commands.snapshot_restore(_SNAPSHOT), commands)
            async with self._controlled(folder, spec, fresh=False) as machine:
                yield machine

    @contextlib.asynccontextmanager
    async def _fresh(self, spec: BoxMachine) -> AsyncIterator[VagrantMachine]:
        folder = await self._new_folder(spec)
        machine: VagrantMachine | None = None
        orderly = False
        try:
            await self._up(folder)
            async with self._controlled(folder, spec, fresh=True) as machine:
                await machine.call("hello", deadline_seconds=self._deadlines.boot)
                yield machine
            orderly = True
        except GuestLost as lost:
            lost.logs = {LOG: folder.log}
            orderly = True
            raise
        finally:
            if machine is None or not machine.kept:
                await self._destroy(folder, orderly)
            else:
                release(folder.path)

    async def discard(self, kept: Path) -> None:
        """See Provisioner.discard."""
        try:
            folder = kept_folder(kept)
        except KeptMachineGone:
            return
        await self._destroy(folder, orderly=True)
        os.unlink(kept)

    @contextlib.asynccontextmanager
    async def kept(self, file: Path) -> AsyncIterator[VagrantMachine]:
        """A machine that VagrantMachine.keep left, as it is: it stays when the block ends."""
        folder = kept_folder(file)
        spec_facts = {"provisioner": "vagrant", "folder": str(folder.path)}
        async with self._ssh(folder) as ssh:
            argv = ssh.argv(boot_command(["agent", "stdio"]))
            async with agent_over(argv, folder.console) as channel:
                yield VagrantMachine(folder, channel, spec_facts, ssh)

    def describe(self, spec: BoxMachine) -> tuple[str, ...]:
        """See Provisioner.describe."""
        words = [f"{name}={value}" for name, value in sorted(self._environment(spec, "lab-ID").items())]
        return (" ".join([*words, "vagrant up", f"--provider={self._provider}"]), "vagrant destroy --force")

    def manifest(self) -> dict[str, Any]:
        """What shapes every machine of this provisioner."""
        version = vagrant_version()
        return {"name": "vagrant", "provider": self._provider, "vagrant_version": version, "shared": self._share}

    def key(self, spec: BoxMachine) -> str:
        """What two cells must have in common to share a machine."""
        return json.dumps([spec.box.name, spec.digest, spec.memory_mb, spec.vcpus])

    async def _new_folder(self, spec: BoxMachine) -> Folder:
        name = new_name()
        network = self._provider == "libvirt" and not await asyncio.to_thread(libvirt.has_network)
        return new_folder(name, self._provider, self._environment(spec, name), network)

    def _environment(self, spec: BoxMachine, name: str) -> dict[str, str]:
        box = spec.box
        environment = {
            "LAB_BOX": box.name,
            "LAB_PROVIDER": self._provider,
            "LAB_MEMORY_MB": str(spec.memory_mb),
            "LAB_VCPUS": str(spec.vcpus),
            "LAB_PREFIX": f"{name}-",
            "LAB_BOOT_SECONDS": str(max(1, int(self._deadlines.boot))),
        }
        if self._provider == "libvirt":
            environment["LAB_CONSOLE_LOG"] = str(console_file(name))
        if self._driver is not None:
            environment["LAB_LIBVIRT_DRIVER"] = self._driver
        return environment

    async def _up(self, folder: Folder) -> None:
        async with self._starting:  # two at once would both load the box's disk into libvirt's pool
            commands = folder.commands(self._deadlines.boot, "vagrant up")
            await self._vagrant(folder, lambda: commands.up(provider=self._provider), commands)

    async def _vagrant(self, folder: Folder, call: Callable[[], T], commands: Commands) -> T:
        """A blocking call of python-vagrant; raises GuestLost, with what it printed last, when it fails."""

        def work(cancelled: threading.Event) -> T:
            commands.deadline = replace(commands.deadline, cancelled=cancelled)
            return call()

        try:
            return await in_thread(work)
        except LabError as error:
            what = str(error) if " did not end " in str(error) else f"{commands.deadline.what} failed"
            lost = GuestLost(f"{what}; it printed last:\n{last_lines(_without_trace(folder.log), 6)}")
            lost.logs = {LOG: folder.log}
            raise lost from None

    @contextlib.asynccontextmanager
    async def _controlled(self, folder: Folder, spec: BoxMachine, fresh: bool) -> AsyncIterator[VagrantMachine]:
        """The machine with an agent that answers: on its virtio-serial port, else over one SSH connection."""
        facts = {"provisioner": "vagrant", "provider": self._provider, "memory_mb": spec.memory_mb, "vcpus": spec.vcpus}
        async with contextlib.AsyncExitStack() as stack:
            path = await asyncio.to_thread(self._port, folder) if self._control != "ssh" else None
            if path is not None and fresh:
                async with self._ssh(folder) as ssh:
                    if not await ssh.start_by_port(self._deadlines.boot):
                        path = None
            if path is not None:
                channel = await _connected_port(path)
                stack.callback(channel.close)
                yield VagrantMachine(folder, channel, {**facts, "control": "virtio-serial"}, None)
                return
            ssh = await stack.enter_async_context(self._ssh(folder))
            argv = ssh.argv(boot_command(["agent", "stdio"]))
            channel = await stack.enter_async_context(agent_over(argv, folder.console))
            yield VagrantMachine(folder, channel, {**facts, "control": "ssh"}, ssh)

    @contextlib.asynccontextmanager
    async def _ssh(self, folder: Folder) -> AsyncIterator[Ssh]:
        config = folder.path / "ssh_config"
        if not config.exists():
            commands = folder.commands(SHORT_SECONDS, "vagrant ssh-config")
            text = await self._vagrant(folder, commands.ssh_config, commands)
            config.write_text(text[max(0, text.find("Host ")) :])  # what Vagrant warns of comes before it
        async with connected(config, socket_path(folder.path), self._deadlines.boot, folder.console) as ssh:
            yield ssh

    def _port(self, folder: Folder) -> Path | None:
        return libvirt.port_socket(folder.domain, "agent") if self._provider == "libvirt" else None

    async def _destroy(self, folder: Folder, orderly: bool) -> None:
        seconds = self._deadlines.destroy
        await uncancelled_call(partial(destroy, folder, self._provider, seconds, orderly))


async def _connected_port(path: Path) -> AgentChannel:
    """The channel over a domain's port. Raises GuestLost."""
    try:
        return AgentChannel(*await asyncio.open_unix_connection(str(path), limit=MAX_LINE_BYTES))
    except OSError as error:
        raise GuestLost(f"no connection to the machine's virtio-serial port: {path}: {error}") from error


async def uncancelled_call(work: Callable[[], None]) -> None:
    """Blocking work that cleans up: it ends also while the lab is being interrupted."""
    await uncancelled(asyncio.to_thread(work))


def _without_trace(log: str) -> str:
    """Ruby's backtraces say nothing to people."""
    return "\n".join(line for line in log.splitlines() if not re.search(r"\.rb:\d+:in `[^']*'$", line))
