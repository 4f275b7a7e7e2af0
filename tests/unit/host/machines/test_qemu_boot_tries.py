"""A machine that does not boot: how often it is tried, and what is said of one that shows nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lab.core.errors import GuestLost
from lab.host.machines.qemu import provisioner as qemu
from lab.host.machines.qemu.binary import QemuBinary
from lab.host.machines.qemu.command import TCG
from lab.host.machines.qemu.machine import ImageMachine
from lab.host.machines.qemu.provisioner import BOOT_TRIES, QemuProvisioner
from lab.host.options import Deadlines

QEMU = QemuBinary("/usr/bin/qemu", "QEMU emulator version 10.0.2", (10, 0, 2), "cpu")


class Silent(QemuProvisioner):
    """Machines whose kernel prints nothing."""

    boots = 0

    async def _boot_and_save(self, spec: ImageMachine, key: str) -> None:
        self.boots += 1
        raise qemu._not_booted(GuestLost("no answer to `hello` within 120 s"))


def spec(tmp_path: Path, digest: str) -> ImageMachine:
    return ImageMachine(
        digest, 512, 2, root_disk=tmp_path / "root", kernel=tmp_path / "kernel", initrd=tmp_path / "initrd"
    )


def lost(provisioner: Silent, machine: ImageMachine) -> str:
    with pytest.raises(GuestLost) as caught:
        asyncio.run(provisioner.prepare(machine, lambda line: None))
    return str(caught.value)


def test_it_is_booted_twice_and_then_never_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    provisioner = Silent(QEMU, TCG, Deadlines())
    machine = spec(tmp_path, "a")
    told = [lost(provisioner, machine) for _ in range(5)]
    assert provisioner.boots == BOOT_TRIES == 2
    assert told[2] == told[4] and told[2].startswith("not booted again, for it did not boot 2 times")
    assert "no answer to `hello`" in told[2], "the reason is in every cell"
    # another machine is another matter
    lost(provisioner, spec(tmp_path, "b"))
    assert provisioner.boots == 3


def test_a_silent_kernel_is_told_with_what_it_needs() -> None:
    told = str(qemu._not_booted(GuestLost("no answer")))
    assert "its console is empty" in told
    assert all(option in told for option in ("CONFIG_VIRTIO_BLK", "CONFIG_EXT4_FS", "CONFIG_SERIAL_8250_CONSOLE"))


def test_one_that_said_something_is_told_as_it_was() -> None:
    shown = GuestLost("no answer")
    shown.console = "Linux version 6.1"
    assert qemu._not_booted(shown) is shown
