"""A machine of a Vagrant box: what a cell asks for, and the machine with its agent."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.core.errors import GuestLost, ScenarioError
from lab.host.machines import terminal
from lab.host.machines.channel import AgentChannel
from lab.host.machines.machine import MachineSpec, OnEvent, last_lines
from lab.host.machines.ssh_channel import Ssh
from lab.host.machines.vagrant.boxes import Box
from lab.host.machines.vagrant.commands import LOG, Folder
from lab.host.machines.vagrant.libvirt import port_socket


@dataclass(frozen=True, kw_only=True)
class BoxMachine(MachineSpec):
    """The machine that a cell asks for, from a box."""

    box: Box


class VagrantMachine:
    """A machine of a box, with its agent."""

    def __init__(self, folder: Folder, channel: AgentChannel, facts: Mapping[str, Any], ssh: Ssh | None) -> None:
        self.folder = folder
        self.channel = channel
        self.ssh = ssh  # the connection that control goes over; None with a virtio-serial port
        self.kept = False
        self._facts = facts

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **arguments: Any
    ) -> Mapping[str, Any]:
        """See Machine.call; a loss names the console's last lines."""
        try:
            return await self.channel.call(operation, deadline_seconds=deadline_seconds, on_event=on_event, **arguments)
        except GuestLost as lost:
            console = self.console()
            said = last_lines(console)
            more = f"; last on the console:\n{said}" if said else ""
            with_console = type(lost)(f"{lost}{more}")
            with_console.console = console
            raise with_console from None

    async def keep(self, file: Path) -> None:
        """See Machine.keep: the machine stays as it is, running, and `file` tells where."""
        self.kept = True
        description = {"provisioner": "vagrant", "folder": str(self.folder.path)}
        await asyncio.to_thread(file.write_text, json.dumps(description) + "\n")

    def console(self) -> str:
        """See Machine.console."""
        return self.folder.console_text()

    def facts(self) -> Mapping[str, Any]:
        """See Machine.facts."""
        return self._facts

    def logs(self) -> Mapping[str, str]:
        """See Machine.logs."""
        return {LOG: self.folder.log}

    async def shell(self) -> int:
        """See Machine.shell."""
        if self.ssh is not None:
            options = ["-t"] if sys.stdin.isatty() else []
            return await terminal.run(self.ssh.argv("sudo -n bash --login", options=options))
        path = port_socket(self.folder.domain, "shell")
        if path is None:
            raise ScenarioError(f"{self.folder.domain} has no port for a shell", hint="run it again with --control ssh")
        with socket.socket(socket.AF_UNIX) as guest:
            guest.connect(str(path))
            return await terminal.join(self, guest)
