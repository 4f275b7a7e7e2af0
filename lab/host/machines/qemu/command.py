"""QEMU's command line: pure, so that --dry-run prints and a digest covers exactly what is run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from lab.guest.channel import AGENT_PORT, SHELL_PORT

# What every guest is booted with, and why:
BOOT_ARGS = (
    "console=ttyS0",
    "panic=-1",  # with -no-reboot a guest's panic becomes the end of QEMU
    "net.ifnames=0",  # the names that scenarios know
    "random.trust_cpu=on",  # there is no device here to draw entropy from, and Python would wait for it
    "no_timer_check",  # a busy host makes the check of an emulated timer fail, which is a panic
    "tsc=reliable",  # emulated CPUs share one clock; without it every look at the time leaves the guest (ACPI timer)
    # A throwaway guest protects nothing, and this is slow to emulate: retpolines, memory that is cleared before it is
    # used, checks of what is copied to programs, a stack that begins elsewhere at each system call. A kernel that does
    # not know a word of them goes without it.
    "mitigations=off",
    "init_on_alloc=0",
    "hardened_usercopy=off",
    "randomize_kstack_offset=off",
    # Grace periods by interrupts instead of waiting (kernel-parameters.txt): modules and rules are loaded and removed
    # 0.1 s sooner.
    "rcupdate.rcu_expedited=1",
)
# No security modules: each of their hooks is a call through a pointer. A distribution's own programs may need theirs.
NO_SECURITY_MODULES = "lsm="

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclass(frozen=True)
class Accelerator:
    """How the guest's instructions are run."""

    name: str
    options: tuple[str, ...]


# An old processor is quicker to emulate: without what `max` has beyond it (five-level page tables, SMAP, the state of
# AVX) a held connection costs a third less. The random numbers are for kernels that wait for entropy.
TCG = Accelerator("tcg", ("-accel", "tcg,thread=multi", "-cpu", "Nehalem,rdrand=on"))
# for programs that are built for newer processors (x86-64-v3), and do not run on an older one
TCG_NEWEST = Accelerator("tcg", ("-accel", "tcg,thread=multi", "-cpu", "max"))
KVM = Accelerator("kvm", ("-accel", "kvm", "-cpu", "host"))


@dataclass(frozen=True)
class DiskImage:
    """A further disk of a guest: the image of a whole distribution, `raw` or `qcow2`."""

    path: str
    format: str


@dataclass(frozen=True)
class Files:
    """What QEMU opens, as the paths that it is given: /proc/self/fd/N for inherited descriptors."""

    kernel: str
    initrd: str
    root_disk: str
    memory: str | None  # None: memory of its own, which a kept machine's saved state fills
    modules_disk: str | None = None
    distribution: DiskImage | None = None
    restores: bool = False  # wait for a saved state instead of booting


@dataclass(frozen=True)
class Sockets:
    """The numbers of inherited, connected sockets: no path, so nothing to collide with and nothing left behind."""

    agent: int
    shell: int
    console: int
    qmp: int


def command_line(
    binary: str,
    accelerator: Accelerator,
    files: Files,
    sockets: Sockets,
    *,
    memory_mb: int,
    vcpus: int,
    boot_args: Sequence[str],
) -> list[str]:
    """The argv. A boot shares its memory with the file, a restore maps that file privately: a guest's writes stay its
    own, and guests restored from one file share every page that none of them wrote (QEMU docs/vm-templating.txt).
    """
    argv = [binary, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    argv += ["-name", "conntrack-lab", "-sandbox", SANDBOX, *accelerator.options]
    argv += ["-machine", "pc,memory-backend=ram", "-m", str(memory_mb), "-smp", str(vcpus)]
    argv += ["-object", _memory(files, memory_mb)]
    argv += ["-nic", "none", "-rtc", "base=utc,clock=vm"]
    lab_args = BOOT_ARGS if files.distribution is not None else (*BOOT_ARGS, NO_SECURITY_MODULES)
    argv += ["-kernel", files.kernel, "-initrd", files.initrd, "-append", " ".join([*lab_args, *boot_args])]
    argv += _disk("root", files.root_disk)
    if files.modules_disk is not None:
        argv += _disk("modules", files.modules_disk)
    if files.distribution is not None:
        argv += _disk("distribution", files.distribution.path, files.distribution.format)
    argv += ["-device", "virtio-serial-pci"]
    argv += _port("agent", sockets.agent, AGENT_PORT) + _port("shell", sockets.shell, SHELL_PORT)
    argv += ["-chardev", f"socket,id=console,fd={sockets.console}", "-serial", "chardev:console"]
    argv += ["-chardev", f"socket,id=qmp,fd={sockets.qmp}", "-mon", "chardev=qmp,mode=control"]
    if files.restores:
        argv += ["-incoming", "defer"]
    return argv


def _memory(files: Files, memory_mb: int) -> str:
    if files.memory is None:
        return f"memory-backend-ram,id=ram,size={memory_mb}M"
    sharing = "share=off,readonly=on,rom=off" if files.restores else "share=on"
    return f"memory-backend-file,id=ram,size={memory_mb}M,mem-path={files.memory},{sharing}"


def _disk(name: str, path: str, form: str = "raw") -> list[str]:
    """A read-only disk. Its image is shared by many QEMUs, none of which can write, so no locks are taken; and none has
    a file behind it, whatever it says.
    """
    blockdev = f"driver={form},node-name={name},read-only=on,file.driver=file,file.filename={path},file.locking=off"
    device = ["-device", f"virtio-blk-pci,drive={name}"]
    if form == "raw":
        return ["-blockdev", blockdev, *device]
    file = {"driver": "file", "filename": path, "locking": "off"}
    alone = {"driver": form, "node-name": name, "read-only": True, "file": file, "backing": None}
    return ["-blockdev", json.dumps(alone, separators=(",", ":")), *device]


def _port(name: str, fd: int, port_name: str) -> list[str]:
    return ["-chardev", f"socket,id={name},fd={fd}", "-device", f"virtserialport,chardev={name},name={port_name}"]
