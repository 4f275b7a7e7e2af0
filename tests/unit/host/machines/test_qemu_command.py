"""QEMU's command line: what the guest is given, and above all what it is not."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest

from lab.guest.channel import AGENT_PORT, SHELL_PORT
from lab.host.machines.qemu.command import KVM, TCG, Accelerator, DiskImage, Files, Sockets, command_line

SOCKETS = Sockets(agent=11, shell=12, console=13, qmp=14)


def argv_of(*, restores: bool, modules: str | None = None, accelerator: Accelerator = TCG) -> list[str]:
    files = Files("/dev/fd/3", "/dev/fd/4", "/dev/fd/5", "/dev/fd/6", modules, restores=restores)
    return command_line(
        "/usr/bin/qemu", accelerator, files, SOCKETS, memory_mb=1536, vcpus=2, boot_args=("enable_hooks=1", "quiet")
    )


def values(argv: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(argv) if name == option]


BOTH = pytest.mark.parametrize("restores", [False, True], ids=["boot", "restore"])


@BOTH
def test_there_is_no_network_card(restores: bool) -> None:
    argv = argv_of(restores=restores)
    assert values(argv, "-nic") == ["none"]
    assert "-nodefaults" in argv
    assert not [word for word in argv if word in ("-net", "-netdev") or "net-" in word.partition(",")[0]]


@BOTH
def test_the_sandbox_is_on_and_nothing_else_is_read(restores: bool) -> None:
    argv = argv_of(restores=restores)
    (sandbox,) = values(argv, "-sandbox")
    assert sandbox.split(",") == [
        "on",
        "obsolete=deny",
        "elevateprivileges=deny",
        "spawn=deny",
        "resourcecontrol=deny",
    ]
    assert "-no-user-config" in argv


@BOTH
def test_disks_are_read_only(restores: bool) -> None:
    disks = values(argv_of(restores=restores, modules="/dev/fd/7"), "-blockdev")
    assert [disk.split("node-name=")[1].split(",")[0] for disk in disks] == ["root", "modules"]
    assert all("read-only=on" in disk.split(",") for disk in disks)
    assert [disk.split("file.filename=")[1].split(",")[0] for disk in disks] == ["/dev/fd/5", "/dev/fd/7"]
    assert len(values(argv_of(restores=restores), "-blockdev")) == 1


@BOTH
def test_nothing_but_disks_and_ports_is_plugged_in(restores: bool) -> None:
    kinds = [device.partition(",")[0] for device in values(argv_of(restores=restores), "-device")]
    assert kinds == ["virtio-blk-pci", "virtio-serial-pci", "virtserialport", "virtserialport"]


def memory(argv: list[str]) -> dict[str, str]:
    (backend,) = values(argv, "-object")
    kind, *options = backend.split(",")
    assert kind == "memory-backend-file"
    return dict(option.split("=") for option in options)


def test_a_boot_writes_its_memory_into_the_file() -> None:
    argv = argv_of(restores=False)
    assert memory(argv) == {"id": "ram", "size": "1536M", "mem-path": "/dev/fd/6", "share": "on"}
    assert "-incoming" not in argv


def test_a_restore_maps_the_memory_privately() -> None:
    argv = argv_of(restores=True)
    options = memory(argv)
    assert (options["share"], options["readonly"], options["rom"]) == ("off", "on", "off")
    assert values(argv, "-incoming") == ["defer"]


def test_boot_and_restore_differ_in_memory_and_incoming_only() -> None:
    boot, restore = argv_of(restores=False), argv_of(restores=True)
    assert restore[-2:] == ["-incoming", "defer"]
    different = [name for name, a, b in zip(boot, boot[1:], restore[1:], strict=False) if a != b]
    assert different == ["-object"]


def test_a_panic_ends_qemu_and_the_console_is_heard() -> None:
    argv = argv_of(restores=False)
    (append,) = values(argv, "-append")
    assert "-no-reboot" in argv
    assert {"panic=-1", "console=ttyS0"} <= set(append.split())
    assert append.endswith(" enable_hooks=1 quiet"), "the scenario's arguments have the last word"
    assert values(argv, "-serial") == ["chardev:console"]


def test_every_channel_is_an_inherited_socket() -> None:
    argv = argv_of(restores=True)
    chardevs = dict(value.split(",", 1)[1].split(",") for value in values(argv, "-chardev"))
    assert chardevs == {"id=agent": "fd=11", "id=shell": "fd=12", "id=console": "fd=13", "id=qmp": "fd=14"}
    ports = [device.split("name=")[1] for device in values(argv, "-device") if device.startswith("virtserialport")]
    assert ports == [AGENT_PORT, SHELL_PORT]
    assert not any("path=" in word.replace("mem-path=", "") for word in argv)


def test_size_and_accelerator() -> None:
    argv = argv_of(restores=False, accelerator=KVM)
    assert (values(argv, "-m"), values(argv, "-smp"), values(argv, "-accel")) == (["1536"], ["2"], ["kvm"])
    assert values(argv_of(restores=False), "-accel")[0].startswith("tcg")


def test_a_distribution_is_a_read_only_disk_with_nothing_behind_it() -> None:
    files = Files("k", "i", "r", "m", distribution=DiskImage("/dev/fd/9", "qcow2"))
    argv = command_line("qemu", TCG, files, SOCKETS, memory_mb=512, vcpus=1, boot_args=())
    (disk,) = [json.loads(value) for value in values(argv, "-blockdev") if value.startswith("{")]
    assert disk == {
        "driver": "qcow2",
        "node-name": "distribution",
        "read-only": True,
        "file": {"driver": "file", "filename": "/dev/fd/9", "locking": "off"},
        "backing": None,
    }
    assert values(argv, "-device")[:2] == ["virtio-blk-pci,drive=root", "virtio-blk-pci,drive=distribution"]
    assert "lsm=" not in values(argv, "-append")[0].split(), "its own programs may need its security modules"
    assert "lsm=" in values(argv_of(restores=False), "-append")[0].split()
    raw = replace(files, distribution=DiskImage("/dev/fd/9", "raw"))
    argv = command_line("qemu", TCG, raw, SOCKETS, memory_mb=512, vcpus=1, boot_args=())
    assert values(argv, "-blockdev")[1].startswith("driver=raw,node-name=distribution,read-only=on,")
