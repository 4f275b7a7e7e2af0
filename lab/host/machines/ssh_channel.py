"""Control over SSH: one connection, opened before anything is lowered, for machines that have no virtio-serial port.

The first connection is ssh's master; the agent and a shell are sessions in it, so that nothing opens another one later:
a full table refuses new connections, and drops what belongs to none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.core.errors import GuestLost
from lab.host.machines.agent_package import agent_zipapp
from lab.host.machines.channel import MAX_LINE_BYTES, AgentChannel
from lab.host.machines.machine import ConsoleLog, Unsuitable, last_lines

_LINGER_SECONDS = 3.0
_DIES_WITH_LAB = ("setpriv", "--pdeathsig", "KILL", "--")

# Runs in the machine, in its own Python, perhaps an old one: takes the agent from standard input and becomes it. For a
# port, the agent goes on by itself, so that no SSH connection is left.
_BOOT = r"""
import os, sys
if sys.version_info < (3, 6):
    sys.exit(98)
data, size, folder, part = b"", int(sys.argv[1]), sys.argv[2], sys.argv[3:]
while len(data) < size:
    chunk = os.read(0, min(65536, size - len(data)))
    if not chunk:
        sys.exit(94)
    data += chunk
path = os.path.join(folder, "conntrack-lab-agent-%d.pyz" % os.getpid())
with open(path, "wb") as file:
    file.write(data)
if part == ["agent"]:
    names, ports = [], "/sys/class/virtio-ports"
    for port in os.listdir(ports) if os.path.isdir(ports) else []:
        with open(os.path.join(ports, port, "name")) as file:
            names.append(file.read().strip())
    if "org.conntrack-lab.agent" not in names:
        sys.exit(95)
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
os.execv(sys.executable, [sys.executable, "-I", "-S", "-u", path] + part)
"""

# exit status of the above, or of the shell around it -> why this machine cannot be used
_LACKS = {
    96: "this machine's user may not become root with sudo, without a password",
    97: "this machine has no python3, which the agent needs",
    98: "this machine's python3 is older than 3.6, which the agent needs",
}
NO_PORT = 95


def boot_command(part: Sequence[str], folder: str = "/run", become_root: bool = True) -> str:
    """The shell command that makes standard input's zipapp the agent (`agent`, or `agent stdio`)."""
    python = shlex.join(["python3", "-c", _BOOT, str(len(agent_zipapp())), folder, *part])
    sudo = "sudo -n true || exit 96; exec sudo -n " if become_root else "exec "
    return f"command -v python3 > /dev/null 2>&1 || exit 97; {sudo}{python}"


@dataclass
class Ssh:
    """An SSH connection that others share; `config` is what `vagrant ssh-config` printed, for the host `default`."""

    config: Path
    socket: Path
    log: ConsoleLog

    def argv(self, *command: str, options: Sequence[str] = ()) -> list[str]:
        """ssh over the open connection."""
        shared = ["-o", f"ControlPath={self.socket}", "-o", "ControlMaster=no", "-o", "BatchMode=yes"]
        return [*_DIES_WITH_LAB, "ssh", "-F", str(self.config), *shared, *options, "default", *command]

    async def start_by_port(self, seconds: float) -> bool:
        """Start an agent that answers on its virtio-serial port; False where the machine has no such port.

        Raises Unsuitable, and GuestLost when it does not start.
        """
        process = await _started(self.argv(boot_command(["agent"])), stdin=PIPE, stdout=PIPE, stderr=STDOUT)
        try:
            async with asyncio.timeout(seconds):
                said, _ = await process.communicate(agent_zipapp())
        except TimeoutError:
            raise GuestLost(f"the agent was not started over SSH within {seconds:g} s") from None
        finally:
            await _end(process)
        self.log.feed(said)
        if process.returncode == NO_PORT:
            return False
        if process.returncode:
            raise refusal(process.returncode, said.decode("utf-8", "backslashreplace"))
        return True


@contextlib.asynccontextmanager
async def connected(config: Path, socket: Path, seconds: float, log: ConsoleLog) -> AsyncIterator[Ssh]:
    """One SSH connection to the machine, until the end of the block. Raises GuestLost when there is none in time."""
    ssh = Ssh(config, socket, log)
    options = ["-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=0", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
    master = ["-M", "-N", "-o", f"ControlPath={socket}"]
    argv = [*_DIES_WITH_LAB, "ssh", "-F", str(config), *master, *options, "default"]
    process = await _started(argv, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE)
    try:
        async with asyncio.timeout(seconds):
            while not os.path.exists(socket):  # noqa: ASYNC240
                if process.returncode is not None:
                    assert process.stderr is not None
                    said = (await process.stderr.read()).decode("utf-8", "backslashreplace")
                    raise GuestLost(f"no SSH connection to the machine: {last_lines(said, 3)}")
                await asyncio.sleep(0.05)
        yield ssh
    except TimeoutError:
        raise GuestLost(f"no SSH connection to the machine within {seconds:g} s") from None
    finally:
        await _end(process)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(socket)


@contextlib.asynccontextmanager
async def agent_over(argv: Sequence[str], log: ConsoleLog) -> AsyncIterator[AgentChannel]:
    """An agent on the standard input and output of a command that runs boot_command(["agent", "stdio"])."""
    process = await _started(argv, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    pump = asyncio.create_task(_pump(process.stderr, log))
    try:
        with contextlib.suppress(ConnectionError):
            process.stdin.write(agent_zipapp())
            await process.stdin.drain()
        yield AgentChannel(process.stdout, process.stdin)
    except GuestLost as lost:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await process.wait()
        if process.returncode in _LACKS:
            raise refusal(process.returncode, log.text()) from lost
        raise
    finally:
        process.stdin.close()
        with contextlib.suppress(TimeoutError):  # the agent ends with its channel
            async with asyncio.timeout(_LINGER_SECONDS):
                await process.wait()
        await _end(process)
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)


def refusal(status: int, said: str) -> GuestLost:
    """Why the agent did not start, from the exit status of its start and what it printed."""
    if status in _LACKS:
        return Unsuitable(_LACKS[status])
    return GuestLost(f"the agent did not start (status {status}): {last_lines(said, 3)}")


async def _started(argv: Sequence[str], *, stdin: int, stdout: int, stderr: int) -> asyncio.subprocess.Process:
    """A program that a terminal's Ctrl-C does not reach: the lab ends it in its own time."""
    return await asyncio.create_subprocess_exec(
        *argv, stdin=stdin, stdout=stdout, stderr=stderr, limit=MAX_LINE_BYTES, start_new_session=True
    )


async def _pump(reader: asyncio.StreamReader, log: ConsoleLog) -> None:
    while data := await reader.read(65536):
        log.feed(data)


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, for ssh then tells its other end; SIGKILL to one that stays."""
    for kill in (process.terminate, process.kill):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await process.wait()


def socket_path(folder: Path) -> Path:
    """Where the shared connection's socket lies: ssh appends 17 characters while it makes it, and 107 are the limit."""
    path = folder / "ssh"
    return path if len(os.fsencode(path)) < 85 else Path(f"/tmp/{folder.name}.ssh")
