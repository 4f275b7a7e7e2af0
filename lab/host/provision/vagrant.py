"""Machines from Vagrant boxes, by way of python-vagrant and the top-level Vagrantfile.

Each machine has a folder of its own in the cache, with the Vagrantfile, what Vagrant printed, and a lock that the
kernel drops with the lab: a folder whose lock is free belongs to nobody, and `lab doctor --clean` removes its machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import vagrant

from lab.core.errors import GuestLost, LabError, PrerequisiteError
from lab.host import images
from lab.host.cache import Deadline, cache_root, make_folder, remove_tree
from lab.host.provision.channel import MAX_LINE_BYTES, AgentChannel
from lab.host.provision.machine import ConsoleLog, Deadlines, MachineSpec, OnEvent, Unsuitable, last_lines
from lab.host.provision.ssh_channel import Ssh, agent_over, boot_command, connected, socket_path

LOG = "vagrant.log"
_DESCRIPTION = "lab.json"
_LOCK = ".lock"
_SNAPSHOT = "lab-ready"
_NETWORK = "vagrant-libvirt"  # vagrant-libvirt's own, with the DHCP server that every machine of it needs
_VERSION_SECONDS = 60.0
_ADD_SECONDS = 600.0
_SNAPSHOT_SECONDS = 300.0
_VIRSH_SECONDS = 60.0
_GONE_SECONDS = 20.0
_NOISE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|.*\r(?=.)")

T = TypeVar("T")


@dataclass(frozen=True)
class Box:
    """A Vagrant box: `name` as Vagrant knows it; with a `url`, and then its `sha256`, the lab adds and removes it."""

    name: str
    url: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class BoxMachine(MachineSpec):
    """The machine that a cell asks for, from a box."""

    box: Box


_Vagrant: Any = vagrant.Vagrant  # it has no types


class _Commands(_Vagrant):  # type: ignore[misc]
    """python-vagrant, with what it lacks: a deadline for every call, its output kept, a failing exit that raises.

    Its own calls wait for ever, and some of them swallow the exit status. A call raises LabError past its deadline and
    PrerequisiteError, with the last lines, for a failing exit.
    """

    def __init__(self, root: Path, env: Mapping[str, str], log: Callable[[str], None]) -> None:
        super().__init__(root=str(root), env=dict(env))
        self.deadline = Deadline.after(_VERSION_SECONDS, "vagrant")
        self._log = log

    def within(self, seconds: float, what: str, cancelled: threading.Event | None = None) -> _Commands:
        """The same, for calls until `seconds` from now."""
        self.deadline = Deadline.after(seconds, what, cancelled)
        return self

    def _call_vagrant_command(self, args: Sequence[str | None]) -> None:
        self._run(args)

    def _run_vagrant_command(self, args: Sequence[str | None]) -> str:
        return "".join(f"{line}\n" for line in self._run(args))

    def _run(self, args: Sequence[str | None]) -> list[str]:
        argv = self._make_vagrant_command(args)
        self._log(f"$ vagrant {' '.join(argv[1:])}")
        environment = {**self.env, "VAGRANT_CWD": self.root, "VAGRANT_CHECKPOINT_DISABLE": "1"}
        return images.run_program(argv, self.deadline, on_line=self._log, environment=environment)


@dataclass
class Folder:
    """A machine's folder: what Vagrant needs, and what tells whose it is."""

    path: Path
    environment: dict[str, str]
    console: ConsoleLog = field(default_factory=ConsoleLog)
    _log: list[str] = field(default_factory=list)

    @property
    def domain(self) -> str:
        """The machine's name in libvirt, and what its disk's name begins with."""
        return f"{self.path.name}-default"

    @property
    def log(self) -> str:
        """What Vagrant and what cleans up after it printed."""
        return "".join(f"{line}\n" for line in self._log)

    def note(self, line: str) -> None:
        """A line for the log; progress bars are left out."""
        text = _NOISE.sub("", line).rstrip()
        if text and not text.startswith("Progress:"):
            self._log.append(text)
            with (self.path / LOG).open("a", encoding="utf-8") as file:
                file.write(f"{text}\n")

    def commands(self, seconds: float, what: str, cancelled: threading.Event | None = None) -> _Commands:
        """python-vagrant for this machine, for `seconds`."""
        return _Commands(self.path, self.environment, self.note).within(seconds, what, cancelled)


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
        """See Machine.call; a loss is told with the console's last lines."""
        try:
            return await self.channel.call(operation, deadline_seconds=deadline_seconds, on_event=on_event, **arguments)
        except GuestLost as lost:
            console = self.console()
            said = last_lines(console)
            told = type(lost)(f"{lost}" + (f"; last on the console:\n{said}" if said else ""))
            told.console = console
            raise told from None

    async def keep(self, file: Path) -> None:
        """See Machine.keep: the machine stays as it is, running, and `file` tells where."""
        self.kept = True
        description = {"provisioner": "vagrant", "folder": str(self.folder.path)}
        await asyncio.to_thread(file.write_text, json.dumps(description) + "\n")

    def console(self) -> str:
        """See Machine.console."""
        with contextlib.suppress(OSError):
            return ConsoleLogFile(console_path(self.folder)).text()
        return ""

    def facts(self) -> Mapping[str, Any]:
        """See Machine.facts."""
        return self._facts

    def logs(self) -> Mapping[str, str]:
        """See Machine.logs."""
        return {LOG: self.folder.log}


@dataclass(frozen=True)
class ConsoleLogFile:
    """A console that libvirt writes to a file."""

    path: Path

    def text(self) -> str:
        """What it holds, bounded. Raises OSError."""
        log = ConsoleLog()
        with self.path.open("rb") as file:
            while data := file.read(2**20):
                log.feed(data)
        return log.text()


def console_path(folder: Folder) -> Path:
    """Where libvirt writes the machine's console."""
    return folder.path / "console.log"


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
        self._added: dict[Box, contextlib.ExitStack] = {}
        self._adding = asyncio.Lock()
        self._starting = asyncio.Lock()
        self._shared: dict[str, tuple[Folder, asyncio.Lock]] = {}
        if share:
            self.start_stage = "restore"

    async def __aenter__(self) -> VagrantProvisioner:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Destroy shared machines, and take away the boxes that were added."""
        for folder, _lock in self._shared.values():
            await _uncancelled(self._destroy(folder, orderly=True))
        for box, held in self._added.items():
            await _uncancelled(asyncio.to_thread(self._remove_box, box, held))

    async def prepare(self, spec: MachineSpec, progress: Callable[[str], None]) -> bool:
        """See Provisioner.prepare: adds the box; with a shared machine, starts it and takes its snapshot."""
        box = _box(spec)
        async with self._adding:
            if box not in self._added:
                progress("adding the box")
                self._added[box] = await in_thread(lambda cancelled: self._add_box(box, cancelled))
        if not self._share:
            return False
        key = self.key(spec)
        async with self._adding:
            if key in self._shared:
                return False
            progress("vagrant up")
            folder = self._new_folder(spec)
            try:
                await self._up(folder)
                async with self._controlled(folder, spec, fresh=True) as machine:
                    await machine.call("hello", deadline_seconds=self._deadlines.boot)
                commands = folder.commands(_SNAPSHOT_SECONDS, "vagrant snapshot save")
                await self._vagrant(folder, lambda: commands.snapshot_save(_SNAPSHOT), commands)
            except BaseException:
                await _uncancelled(self._destroy(folder, orderly=False))
                raise
            self._shared[key] = (folder, asyncio.Lock())
            return True

    @contextlib.asynccontextmanager
    async def machine(self, spec: MachineSpec) -> AsyncIterator[VagrantMachine]:
        """See Provisioner.machine."""
        if spec.boot_args:
            raise Unsuitable(f"a box boots with its own arguments, and this needs {' '.join(spec.boot_args)}")
        await self.prepare(spec, lambda line: None)
        given = self._returned(spec) if self._share else self._fresh(spec)
        async with given as machine:
            yield machine

    @contextlib.asynccontextmanager
    async def _returned(self, spec: MachineSpec) -> AsyncIterator[VagrantMachine]:
        folder, lock = self._shared[self.key(spec)]
        async with lock:
            commands = folder.commands(_SNAPSHOT_SECONDS, "vagrant snapshot restore")
            await self._vagrant(folder, lambda: commands.snapshot_restore(_SNAPSHOT), commands)
            async with self._controlled(folder, spec, fresh=False) as machine:
                yield machine

    @contextlib.asynccontextmanager
    async def _fresh(self, spec: MachineSpec) -> AsyncIterator[VagrantMachine]:
        folder = self._new_folder(spec)
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
                await _uncancelled(self._destroy(folder, orderly))
            else:
                release(folder.path)

    async def discard(self, kept: Path) -> None:
        """See Provisioner.discard."""
        try:
            folder = kept_folder(kept)
        except ScenarioGone:
            return
        await _uncancelled(self._destroy(folder, orderly=True))
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

    def describe(self, spec: MachineSpec) -> tuple[str, ...]:
        """See Provisioner.describe."""
        words = [f"{name}={value}" for name, value in sorted(self._environment(spec, "lab-ID").items())]
        return (" ".join([*words, "vagrant up", f"--provider={self._provider}"]), "vagrant destroy --force")

    def manifest(self) -> dict[str, Any]:
        """What shapes every machine of this provisioner."""
        version = vagrant_version()
        return {"name": "vagrant", "provider": self._provider, "vagrant_version": version, "shared": self._share}

    def key(self, spec: MachineSpec) -> str:
        """What two cells must have in common to share a machine."""
        return json.dumps([_box(spec).name, spec.digest, spec.memory_mb, spec.vcpus])

    def _new_folder(self, spec: MachineSpec) -> Folder:
        path = make_folder(machines_folder()) / f"lab-{secrets.token_hex(4)}"
        path.mkdir(mode=0o711)
        hold(path)
        shutil.copyfile(vagrantfile(), path / "Vagrantfile")
        folder = Folder(path, self._environment(spec, path.name))
        console_path(folder).touch()
        described = {
            "provider": self._provider,
            "environment": folder.environment,
            "network": self._provider == "libvirt" and not _has_network(),
        }
        (path / _DESCRIPTION).write_text(json.dumps(described))
        return folder

    def _environment(self, spec: MachineSpec, name: str) -> dict[str, str]:
        box = _box(spec)
        environment = {
            "LAB_BOX": box.name,
            "LAB_PROVIDER": self._provider,
            "LAB_MEMORY_MB": str(spec.memory_mb),
            "LAB_VCPUS": str(spec.vcpus),
            "LAB_PREFIX": f"{name}-",
            "LAB_BOOT_SECONDS": str(max(1, int(self._deadlines.boot))),
        }
        if self._provider == "libvirt":
            environment["LAB_CONSOLE_LOG"] = str(machines_folder() / name / "console.log")
        if self._driver is not None:
            environment["LAB_LIBVIRT_DRIVER"] = self._driver
        return environment

    async def _up(self, folder: Folder) -> None:
        commands = folder.commands(self._deadlines.boot, "vagrant up")
        async with self._starting:  # two at once would both load the box's disk into libvirt's pool
            await self._vagrant(folder, lambda: commands.up(provider=self._provider), commands)

    async def _vagrant(self, folder: Folder, call: Callable[[], T], commands: _Commands) -> T:
        """A blocking call of python-vagrant; raises GuestLost, with what it printed last, when it fails."""

        def work(cancelled: threading.Event) -> T:
            limit = commands.deadline
            commands.deadline = Deadline(limit.what, limit.limit_seconds, limit.ends_at_seconds, cancelled)
            return call()

        try:
            return await in_thread(work)
        except LabError as error:
            what = str(error) if " did not end " in str(error) else f"{commands.deadline.what} failed"
            lost = GuestLost(f"{what}; it printed last:\n{last_lines(_without_trace(folder.log), 6)}")
            lost.logs = {LOG: folder.log}
            raise lost from None

    @contextlib.asynccontextmanager
    async def _controlled(self, folder: Folder, spec: MachineSpec, fresh: bool) -> AsyncIterator[VagrantMachine]:
        """The machine with an agent that answers: on its virtio-serial port, else over one SSH connection."""
        facts = {"provisioner": "vagrant", "provider": self._provider, "memory_mb": spec.memory_mb, "vcpus": spec.vcpus}
        async with contextlib.AsyncExitStack() as stack:
            path = await asyncio.to_thread(agent_socket, folder) if self._control != "ssh" else None
            if path is not None and fresh:
                async with self._ssh(folder) as ssh:
                    if not await ssh.start_by_port(self._deadlines.boot):
                        path = None
            if path is not None:
                reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_LINE_BYTES)
                channel = AgentChannel(reader, writer)
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
            commands = folder.commands(_VERSION_SECONDS, "vagrant ssh-config")
            text = await self._vagrant(folder, commands.ssh_config, commands)
            config.write_text(text[text.index("Host ") :])
        async with connected(config, socket_path(folder.path), self._deadlines.boot, folder.console) as ssh:
            yield ssh

    async def _destroy(self, folder: Folder, orderly: bool) -> None:
        await asyncio.to_thread(destroy, folder, self._provider, self._deadlines.destroy, orderly)

    def _add_box(self, box: Box, cancelled: threading.Event) -> contextlib.ExitStack:
        """Add a box that comes from a file or URL; gives what is to be let go of when it is no longer needed."""
        held = contextlib.ExitStack()
        if box.url is None or box.sha256 is None:
            return held
        folder = make_folder(cache_root() / "vagrant")
        lock = held.enter_context((folder / f"{box.name}.lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_SH)
        commands = _Commands(folder, {}, lambda line: None).within(_ADD_SECONDS, "vagrant box add", cancelled)
        if box.name not in {known.name for known in commands.box_list()}:
            checksum = ["--checksum", box.sha256, "--checksum-type", "sha256"]
            provider = ["--provider", self._provider]
            commands._call_vagrant_command(["box", "add", "--name", box.name, *checksum, *provider, box.url])
        return held

    def _remove_box(self, box: Box, held: contextlib.ExitStack) -> None:
        """Remove what _add_box added, unless another lab uses it; the provider's copy of its disk too."""
        with held:
            if box.url is None:
                return
            with (cache_root() / "vagrant" / f"{box.name}.lock").open("w") as lock:
                held.close()
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return
                remove_box(box.name, self._provider)


class ScenarioGone(LabError):
    """A kept machine that is no more."""


def remove_box(name: str, provider: str) -> None:
    """Take a box that the lab added out of Vagrant, and its disk out of libvirt's pool."""
    commands = _Commands(cache_root() / "vagrant", {}, lambda line: None).within(_VERSION_SECONDS, "vagrant box remove")
    with contextlib.suppress(LabError):
        commands._call_vagrant_command(["box", "remove", "--force", "--all", name])
    if provider == "libvirt":
        for pool, volume in volumes():
            if volume.startswith(f"{name}_vagrant_box_image_"):
                virsh("vol-delete", "--pool", pool, volume)


def machines_folder() -> Path:
    """Where the machines' folders lie."""
    return cache_root() / "vagrant" / "machines"


def vagrantfile() -> Path:
    """The Vagrantfile: the checkout's, else the installed package's."""
    package = Path(__file__).resolve().parent.parent.parent
    checkout = package.parent / "Vagrantfile"
    return checkout if (package.parent / "pyproject.toml").is_file() else package / "host/data/Vagrantfile"


def vagrant_version() -> str:
    """Vagrant's version. Raises PrerequisiteError where there is none."""
    if shutil.which("vagrant") is None:
        raise PrerequisiteError("vagrant is missing", hint="apt install vagrant vagrant-libvirt; docs/vagrant.md")
    done = subprocess.run(
        ["vagrant", "--version"], capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL
    )
    return done.stdout.strip().removeprefix("Vagrant ")


def virsh(*arguments: str) -> str:
    """What virsh printed; raises LabError with its words when it fails, and when it is missing."""
    argv = ["virsh", "--quiet", "--connect", "qemu:///system", *arguments]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=_VIRSH_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"virsh {' '.join(arguments)}: {error}", hint="apt install libvirt-clients") from error
    if done.returncode:
        raise LabError(f"virsh {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def volumes() -> list[tuple[str, str]]:
    """Every volume of libvirt's active pools, as (pool, volume). Raises LabError."""
    found = []
    for pool in virsh("pool-list", "--name").split():
        virsh("pool-refresh", pool)
        found += [(pool, line.split()[0]) for line in virsh("vol-list", pool).splitlines() if line.split()]
    return found


def agent_socket(folder: Folder) -> Path | None:
    """The socket of the domain's port for the agent, None where there is none or it may not be used."""
    return port_socket(folder, "agent")


def port_socket(folder: Folder, port: str) -> Path | None:
    """As agent_socket, for the port org.conntrack-lab.PORT."""
    if folder.environment.get("LAB_PROVIDER") != "libvirt":
        return None
    try:
        description = virsh("dumpxml", folder.domain)
    except LabError:
        return None
    pattern = rf"<source mode='bind' path='([^']+)'/>\s*<target type='virtio' name='org\.conntrack-lab\.{port}'"
    found = re.search(pattern, description)
    if found is None:
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(found[1])
        except OSError:
            return None
    return Path(found[1])


def destroy(folder: Folder, provider: str, seconds: float, orderly: bool) -> None:
    """End a machine with all that belongs to it, and check that it is gone. Raises GuestLost when something stays.

    `orderly` is by way of Vagrant; without it, or when that fails, libvirt's machines are taken away directly.
    """
    if (orderly or provider != "libvirt") and list(folder.path.glob(".vagrant/machines/*/*/id")):
        try:
            folder.commands(seconds, "vagrant destroy").destroy()
        except LabError as error:
            folder.note(f"vagrant destroy failed: {error}")
    left: list[str] = []
    if provider == "libvirt":
        deadline = time.monotonic() + _GONE_SECONDS
        while (left := _remove_domain(folder)) and time.monotonic() < deadline:
            time.sleep(0.3)
    elif list(folder.path.glob(".vagrant/machines/*/*/id")):
        left = [f"{provider}'s machine of {folder.path}"]
    if provider == "libvirt" and not orderly:
        _remove_network(folder)
    if left:
        release(folder.path)
        lost = GuestLost(f"the machine is not gone: {', '.join(left)}; lab doctor --clean tries again")
        lost.logs = {LOG: folder.log}
        raise lost
    release(folder.path)
    remove_tree(folder.path)


def _remove_domain(folder: Folder) -> list[str]:
    """Take away the domain and its disk where they are still there; what was there."""
    name, seen = folder.domain, []
    try:
        if name in virsh("list", "--all", "--name").split():
            seen.append(f"domain {name}")
            for command in (("destroy", name), ("undefine", name, "--snapshots-metadata", "--nvram")):
                with contextlib.suppress(LabError):
                    virsh(*command)
        for pool, volume in volumes():
            if volume.startswith(name):
                seen.append(f"volume {volume}")
                with contextlib.suppress(LabError):
                    virsh("vol-delete", "--pool", pool, volume)
    except LabError as error:
        folder.note(str(error))
        seen.append(str(error))
    return seen + [f"process {pid}" for pid in processes_of(name)]


def _has_network() -> bool:
    try:
        return _NETWORK in virsh("net-list", "--all", "--name").split()
    except LabError:
        return True


def _remove_network(folder: Folder) -> None:
    """Take away the network that Vagrant made for this machine, unless another machine is there that may use it."""
    with contextlib.suppress(LabError, OSError, ValueError, KeyError):
        made_here = json.loads((folder.path / _DESCRIPTION).read_text())["network"]
        if made_here and _has_network() and not virsh("list", "--all", "--name").split():
            with contextlib.suppress(LabError):
                virsh("net-destroy", _NETWORK)
            virsh("net-undefine", _NETWORK)


def processes_of(domain: str) -> list[int]:
    """The QEMU processes of a libvirt domain."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"guest={domain},".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


_held: dict[Path, Any] = {}


def hold(folder: Path) -> None:
    """Mark a machine's folder as this process's, for as long as it lives."""
    file = (folder / _LOCK).open("w")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _held[folder] = file


def release(folder: Path) -> None:
    """Take the mark away."""
    if file := _held.pop(folder, None):
        file.close()


def kept_folder(file: Path) -> Folder:
    """The folder of a machine that was kept. Raises ScenarioGone."""
    try:
        path = Path(json.loads(file.read_text())["folder"])
        described = json.loads((path / _DESCRIPTION).read_text())
        return Folder(path, dict(described["environment"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScenarioGone(f"{file}: its machine is gone: {error}", hint="run the cell again") from error


def leftovers(kept: bool = False) -> Iterator[tuple[Folder, str]]:
    """The folders, with their providers, of machines whose lab is gone."""
    for path in sorted(machines_folder().glob("lab-*")):
        if path in _held:
            continue
        try:
            with (path / _LOCK).open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                described = json.loads((path / _DESCRIPTION).read_text())
                yield Folder(path, dict(described["environment"])), str(described["provider"])
        except BlockingIOError:
            continue
        except (OSError, ValueError, KeyError):
            yield Folder(path, {}), "libvirt"


def clean(say: Callable[[str], None]) -> int:
    """Remove the machines of labs that were killed, kept ones too, and boxes that nobody uses; how many went."""
    gone = 0
    boxes: dict[str, str] = {}
    for folder, provider in leftovers():
        boxes[folder.environment.get("LAB_BOX", "")] = provider
        destroy(folder, provider, 120.0, orderly=provider != "libvirt")
        say(f"removed the machine {folder.domain}")
        gone += 1
    for path in (cache_root() / "vagrant").glob("conntrack-lab-*.lock"):
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            remove_box(path.stem, boxes.get(path.stem, "libvirt"))
            path.unlink()
    return gone


def _without_trace(log: str) -> str:
    """Ruby's backtraces say nothing to people."""
    return "\n".join(line for line in log.splitlines() if not re.search(r"\.rb:\d+:in `[^']*'$", line))


def _box(spec: MachineSpec) -> Box:
    if not isinstance(spec, BoxMachine):
        raise TypeError("a machine of Vagrant needs a box")
    return spec.box


async def in_thread(work: Callable[[threading.Event], T]) -> T:
    """Run blocking work that watches an event, set when this is cancelled; waits for its end in either case."""
    cancelled = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, cancelled))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # that it was interrupted is no news
        raise


async def _uncancelled(work: Any) -> None:
    """Finish what cleans up, also while the lab is being interrupted."""
    task = asyncio.ensure_future(work)
    interrupted = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            interrupted = True
        except Exception:  # raised below, from the task
            break
    task.result()
    if interrupted:
        raise asyncio.CancelledError
