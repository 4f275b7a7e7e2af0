"""This very machine, in its init namespace, for machines that are thrown away themselves (CI runners).

Everything a scenario does stays: modules, rules, sysctls. Nothing is restored; what changed is listed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from lab.core.errors import PrerequisiteError, ScenarioError
from lab.guest.machine import LIMITS
from lab.host.machines.channel import AgentChannel
from lab.host.machines.machine import ConsoleLog, MachineSpec, OnEvent, Unsuitable
from lab.host.machines.ssh_channel import agent_over, boot_command
from lab.host.options import Deadlines

CHANGES = "host-changes.txt"
_COMMANDS = {
    "module": ("cat", "/proc/modules"),
    "rule of nftables": ("nft", "list", "ruleset"),
    "rule of iptables-legacy": ("iptables-legacy-save",),
    "rule of ip6tables-legacy": ("ip6tables-legacy-save",),
    "network namespace": ("ip", "netns", "list"),
}
_SYSCTLS = (*LIMITS, "net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_buckets")  # told also when new
_ROOT = Path("/proc/sys")
_SYSCTL = "sysctl: "
_VARYING = frozenset({"net.netfilter.nf_conntrack_count"})
_FILES = ("/sys/module/nf_conntrack/parameters/hashsize", "/etc/modprobe.d")
_COMMAND_SECONDS = 20.0


class HostMachine:
    """The machine that the lab runs on."""

    def __init__(self, channel: AgentChannel, log: ConsoleLog) -> None:
        self.channel = channel
        self.changes = ""
        self._log = log

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **arguments: Any
    ) -> Mapping[str, Any]:
        """See Machine.call."""
        return await self.channel.call(operation, deadline_seconds=deadline_seconds, on_event=on_event, **arguments)

    async def keep(self, file: Path) -> None:
        """See Machine.keep: it stays anyway."""

    async def shell(self) -> int:
        """See Machine.shell. Raises ScenarioError."""
        raise ScenarioError("there is no shell to open: the machine is this one", hint="use the shell that you are in")

    def console(self) -> str:
        """What the agent complained of; this machine's console is not the lab's to read."""
        return self._log.text()

    def facts(self) -> Mapping[str, Any]:
        """See Machine.facts."""
        return {"provisioner": "host"}

    def logs(self) -> Mapping[str, str]:
        """What the cell changed here."""
        return {CHANGES: self.changes}


class HostProvisioner:
    """Gives this machine, one cell at a time; `say` gets what each cell changed and left changed."""

    start_stage = "boot"

    def __init__(self, deadlines: Deadlines, say: Callable[[str], None]) -> None:
        self._deadlines = deadlines
        self._say = say
        self._lock = asyncio.Lock()

    async def prepare(self, spec: MachineSpec, progress: Callable[[str], None]) -> bool:
        """See Provisioner.prepare: nothing is to be done."""
        return False

    @contextlib.asynccontextmanager
    async def machine(self, spec: MachineSpec) -> AsyncIterator[HostMachine]:
        """See Provisioner.machine."""
        if spec.boot_args:
            raise Unsuitable(f"this machine has booted already, and this needs {' '.join(spec.boot_args)}")
        if spec.packages:
            raise Unsuitable(f"nothing is installed on this machine, and this needs {' '.join(spec.packages)}")
        log = ConsoleLog()
        async with self._lock:
            before = await asyncio.to_thread(state)
            machine: HostMachine | None = None
            with tempfile.TemporaryDirectory(prefix="lab-host-") as folder:
                command = boot_command(["agent", "stdio"], folder, become_root=False)
                try:
                    async with agent_over(["/bin/sh", "-c", command], log) as channel:
                        machine = HostMachine(channel, log)
                        yield machine
                finally:
                    changed = difference(before, await asyncio.to_thread(state))
                    if machine is not None:
                        machine.changes = "".join(f"{line}\n" for line in changed)
                    for line in changed:
                        self._say(f"changed on this machine, and left so: {line}")

    async def discard(self, kept: Path) -> None:
        """See Provisioner.discard: nothing was kept."""

    def describe(self, spec: MachineSpec) -> tuple[str, ...]:
        """See Provisioner.describe."""
        return (f"{sys.executable} agent.pyz agent stdio, as root on this machine",)

    def manifest(self) -> dict[str, Any]:
        """What shapes every machine of this provisioner."""
        return {"name": "host"}


def require_disposable(disposable: bool) -> None:
    """Raises PrerequisiteError unless the user said that this machine is thrown away, and where the lab is not root."""
    if not disposable:
        raise PrerequisiteError(
            "the host provisioner changes this machine's own kernel: modules, rules, sysctls; nothing is put back",
            hint="only on a machine that is thrown away afterwards: --disposable-host",
        )
    if os.geteuid() != 0:
        raise PrerequisiteError(
            "the host provisioner needs root", hint="run the lab as root, or use --provisioner qemu"
        )
    if os.readlink("/proc/self/ns/net") != os.readlink("/proc/1/ns/net"):
        raise PrerequisiteError("this is not the machine's init network namespace", hint="run the lab outside of it")


def state() -> frozenset[str]:
    """What a scenario can change on this machine, as lines."""
    lines: set[str] = set()
    for what, argv in _COMMANDS.items():
        lines |= {f"{what}: {line}" for line in _output(argv) if line and not line.startswith("#")}
    names = {".".join(path.relative_to(_ROOT).parts) for path in (_ROOT / "net").rglob("*")}
    for name in (names | set(_SYSCTLS)) - _VARYING:
        lines |= {f"{_SYSCTL}{name} = {' '.join(text)}" for text in [_text(_ROOT / name.replace(".", "/"))] if text}
    for name in _FILES:
        path = Path(name)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in files:
            lines |= {f"file: {file}: {line}" for line in _text(file)}
    return frozenset(lines)


def difference(before: frozenset[str], after: frozenset[str]) -> list[str]:
    """What appeared (+) and what went (-), as lines in order; not the sysctls that a module brought along."""
    known = {_name(line) for line in before} | set(_SYSCTLS)
    new = {line for line in after - before if not line.startswith(_SYSCTL) or _name(line) in known}
    lines = [f"+ {line}" for line in new] + [f"- {line}" for line in before - after]
    return sorted(lines, key=lambda line: (line[2:], line[0]))


def _name(line: str) -> str:
    """The sysctl that a line of state() is about."""
    return line.removeprefix(_SYSCTL).partition(" = ")[0]


def _output(argv: tuple[str, ...]) -> list[str]:
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.splitlines()
    return [line.split()[0] for line in lines] if argv[-1] == "/proc/modules" else [line.strip() for line in lines]


def _text(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").split("\n")[:-1]
    except OSError:
        return []
