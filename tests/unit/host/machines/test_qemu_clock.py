"""A machine whose clock runs wrong is not saved: it is booted once more, and lost where that is no better."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab.core.errors import GuestLost
from lab.host.machines.qemu import clock
from lab.host.machines.qemu.binary import QemuBinary
from lab.host.machines.qemu.clock import WrongClock, check_clock
from lab.host.machines.qemu.command import TCG
from lab.host.machines.qemu.machine import ImageMachine
from lab.host.machines.qemu.provisioner import QemuProvisioner
from lab.host.options import Deadlines

QEMU = QemuBinary("/usr/bin/qemu", "QEMU emulator version 10.0.2", (10, 0, 2), "cpu")
CONSOLE = "[    0.000000] tsc: Detected 5192.240 MHz processor\n"


class Host:
    """A host's clock that moves when somebody waits, and a guest's with another rate, which takes time to answer."""

    def __init__(self, rate: float, answer_seconds: float) -> None:
        self.now, self.rate, self.answer_seconds, self.asked = 1000.0, rate, answer_seconds, 0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def read(self) -> float:
        self.asked += 1
        self.now += self.answer_seconds
        return (self.now - 990) * self.rate


def checked(monkeypatch: pytest.MonkeyPatch, rate: float, answer_seconds: float) -> Host:
    host = Host(rate, answer_seconds)
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: host.now))
    monkeypatch.setattr(clock, "asyncio", SimpleNamespace(sleep=host.sleep))
    asyncio.run(check_clock(host.read, lambda: CONSOLE))
    return host


@pytest.mark.parametrize("answer_seconds", [0.001, 0.1, 5.0])
def test_a_right_clock_passes_however_slow_the_answers(monkeypatch: pytest.MonkeyPatch, answer_seconds: float) -> None:
    host = checked(monkeypatch, 1.0, answer_seconds)
    assert (host.asked == 6) == (answer_seconds == 0.001), "an idle host looks once"


@pytest.mark.parametrize("rate", [0.5, 0.94, 1.06, 2.0])
def test_a_wrong_clock_is_found_on_a_busy_host_too(monkeypatch: pytest.MonkeyPatch, rate: float) -> None:
    with pytest.raises(WrongClock, match=r"times as fast as the host's \(tsc: Detected 5192.240 MHz processor\)"):
        checked(monkeypatch, rate, 0.05)


class Booting(QemuProvisioner):
    """Machines with a wrong clock, so many times."""

    def __init__(self, wrong: int) -> None:
        super().__init__(QEMU, TCG, Deadlines())
        self.wrong, self.boots = wrong, 0

    async def _boot_and_save(self, spec: ImageMachine, key: str) -> None:
        self.boots += 1
        if self.boots <= self.wrong:
            raise WrongClock("the guest's clock runs at least 1.90 times as fast as the host's")


@pytest.mark.parametrize(("wrong", "boots"), [(0, 1), (1, 2), (2, 2)])
def test_it_is_booted_once_more(wrong: int, boots: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    provisioner, said = Booting(wrong), list[str]()
    spec = ImageMachine("a", 512, 2, root_disk=tmp_path / "r", kernel=tmp_path / "k", initrd=tmp_path / "i")
    if wrong == 2:
        with pytest.raises(GuestLost, match=r"1\.90 times"):
            asyncio.run(provisioner.prepare(spec, said.append))
    else:
        assert asyncio.run(provisioner.prepare(spec, said.append))
    assert provisioner.boots == boots
    assert said == [
        "boot",
        *["boot once more: the guest's clock runs at least 1.90 times as fast as the host's"][:wrong],
    ]
