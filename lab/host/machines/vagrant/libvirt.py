"""libvirt, as virsh(1) tells of it: domains with their sockets and processes, volumes, vagrant-libvirt's network."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from lab.core.errors import LabError

URI = "qemu:///system"  # vagrant-libvirt's own choice
_NETWORK = "vagrant-libvirt"  # vagrant-libvirt's own, with the DHCP server that every machine of it needs
_SECONDS = 60.0
_GONE_SECONDS = 60.0
_AGAIN_SECONDS = 0.3
_QUIET_LOOKS = 3


def virsh(*arguments: str) -> str:
    """What virsh printed. Raises LabError with its words when it fails, is missing, or does not end within a minute."""
    argv = ["virsh", "--quiet", "--connect", URI, *arguments]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=_SECONDS, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise LabError("virsh is missing", hint="apt install libvirt-clients") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"virsh {' '.join(arguments)}: {error}", hint=_hint()) from error
    if done.returncode:
        raise LabError(f"virsh {' '.join(arguments)}: {done.stderr.strip()}", hint=_hint())
    return done.stdout


def _hint() -> str:
    return (
        f"virsh --connect {URI} list --all must work for this user: is libvirtd running, and the user in the group "
        "libvirt? As root, scripts/with-libvirt COMMAND brings a libvirt of its own"
    )


def volumes() -> list[tuple[str, str]]:
    """Every volume of libvirt's active pools, as (pool, volume). Raises LabError."""
    found = []
    for pool in virsh("pool-list", "--name").split():
        virsh("pool-refresh", pool)
        found += [(pool, line.split()[0]) for line in virsh("vol-list", pool).splitlines() if line.split()]
    return found


def remove_volumes(prefix: str) -> list[str]:
    """Remove the volumes whose names begin so; their names, also of one that could not be removed. Raises LabError."""
    seen = []
    for pool, volume in volumes():
        if volume.startswith(prefix):
            seen.append(volume)
            with contextlib.suppress(LabError):
                virsh("vol-delete", "--pool", pool, volume)
    return seen


def until_gone(remove: Callable[[], list[str]], *, killed: bool = False) -> list[str]:
    """What `remove` still finds after 60 s; nothing, as soon as it finds nothing.

    What it has just removed it finds too. Where Vagrant was `killed`, it must find nothing several times: libvirt goes
    on with what a client asked that is gone, and a domain may appear, or a volume be in use, some seconds later.
    """
    deadline = time.monotonic() + _GONE_SECONDS
    quiet = 0
    while True:
        if killed:
            with contextlib.suppress(LabError):
                # waits while libvirt asks QEMU what it can do, which is most of what a definition takes
                virsh("domcapabilities")
        left = remove()
        quiet = 0 if left else quiet + 1
        if quiet >= (_QUIET_LOOKS if killed else 1) or (left and time.monotonic() >= deadline):
            return left
        time.sleep(_AGAIN_SECONDS)


def remove_domain(domain: str, note: Callable[[str], None]) -> list[str]:
    """Take away a domain and its disks where they are still there; what was there, for people. Nothing: all is gone.

    `note` gets libvirt's error output.
    """
    seen = []
    try:
        if domain in virsh("list", "--all", "--name").split():
            seen.append(f"domain {domain}")
            for command in (("destroy", domain), ("undefine", domain, "--snapshots-metadata", "--nvram")):
                with contextlib.suppress(LabError):
                    virsh(*command)
        seen += [f"volume {volume}" for volume in remove_volumes(domain)]
    except LabError as error:
        note(str(error))
        seen.append(str(error))
    return seen + [f"process {pid}" for pid in processes_of(domain)]


def processes_of(domain: str) -> list[int]:
    """The QEMU processes of a libvirt domain."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"guest={domain},".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def port_socket(domain: str, port: str) -> Path | None:
    """The socket of the domain's port org.conntrack-lab.PORT; None where there is none, or it may not be used."""
    try:
        description = virsh("dumpxml", domain)
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


def has_network() -> bool:
    """Whether vagrant-libvirt's network is there; True as well where libvirt does not tell."""
    try:
        return _NETWORK in virsh("net-list", "--all", "--name").split()
    except LabError:
        return True


def remove_network() -> None:
    """Take away vagrant-libvirt's network, unless a machine is there that may use it. Raises LabError."""
    if has_network() and not virsh("list", "--all", "--name").split():
        with contextlib.suppress(LabError):
            virsh("net-destroy", _NETWORK)
        virsh("net-undefine", _NETWORK)
