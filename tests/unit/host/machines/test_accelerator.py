"""KVM or emulation: only a guest that booted proves it, and the answer is remembered."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.core.errors import GuestLost, PrerequisiteError
from lab.host.machines import accelerator
from lab.host.machines.accelerator import KvmAnswer, choose, forget, prove, remembered
from lab.host.machines.qemu.binary import QemuBinary
from lab.host.machines.qemu.command import KVM, TCG, Accelerator

pytestmark = pytest.mark.asyncio

QEMU = QemuBinary("/usr/bin/qemu-system-x86_64", "QEMU emulator version 10.0.2", (10, 0, 2), "A processor")


class Guest:
    """Boots, or does not, and counts how often it was asked to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.boots = 0

    async def boot(self) -> None:
        self.boots += 1
        if self.error is not None:
            raise self.error


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with an empty cache and a /dev/kvm."""
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(accelerator, "KVM_DEVICE", device)


def silent(line: str) -> None:
    pass


async def test_a_guest_that_boots_proves_kvm_once() -> None:
    guest, said = Guest(), list[str]()
    for _ in range(3):
        assert await choose("auto", QEMU, guest.boot, said.append) is KVM
    assert guest.boots == 1
    assert len(said) == 1


async def test_a_guest_that_fails_to_boot_proves_the_contrary_once() -> None:
    guest = Guest(GuestLost("QEMU ended with status 1\nlast on the console:\nnoise"))
    for _ in range(3):
        assert await choose("auto", QEMU, guest.boot, silent) is TCG
    assert guest.boots == 1
    assert remembered(QEMU) == KvmAnswer(False, "QEMU ended with status 1")


async def test_without_the_device_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "KVM_DEVICE", tmp_path / "missing")
    guest = Guest()
    assert await choose("auto", QEMU, guest.boot, silent) is TCG
    assert guest.boots == 0


async def test_emulation_that_was_asked_for_needs_no_proof() -> None:
    guest = Guest()
    assert await choose("tcg", QEMU, guest.boot, silent) is TCG
    assert guest.boots == 0


async def test_kvm_that_was_demanded_and_does_not_work_is_an_error() -> None:
    with pytest.raises(PrerequisiteError, match="KVM does not work here: it hung") as caught:
        await choose("kvm", QEMU, Guest(GuestLost("it hung")).boot, silent)
    assert "--accelerator" in caught.value.hint
    assert await choose("auto", QEMU, Guest().boot, silent) is TCG, "the answer is remembered all the same"


async def test_an_answer_holds_for_this_qemu_kernel_and_processor_only() -> None:
    await prove(QEMU, Guest().boot)
    assert remembered(QEMU) == KvmAnswer(True, "a guest has booted with it")
    for other in (replace(QEMU, version="11"), replace(QEMU, path="/opt/qemu"), replace(QEMU, host_cpu="Another")):
        assert remembered(other) is None


async def test_a_forgotten_answer_is_asked_for_again() -> None:
    guest = Guest()
    await choose("auto", QEMU, guest.boot, silent)
    forget(QEMU)
    forget(QEMU)
    assert remembered(QEMU) is None
    await choose("auto", QEMU, guest.boot, silent)
    assert guest.boots == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"works": true}', "\x00"])
async def test_a_damaged_memory_is_no_answer(tmp_path: Path, text: str) -> None:
    await prove(QEMU, Guest().boot)
    (memory,) = (tmp_path / "cache" / "conntrack-lab").glob("kvm-*.json")
    memory.write_text(text)
    assert remembered(QEMU) is None


async def test_a_failure_that_says_nothing_of_kvm_is_not_remembered() -> None:
    error: Any
    for error in (PrerequisiteError("no space"), ZeroDivisionError("a bug")):
        with pytest.raises(type(error)):
            await prove(QEMU, Guest(error).boot)
        assert remembered(QEMU) is None


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed")
async def test_whether_qemu_starts_is_asked_of_qemu_itself() -> None:
    assert accelerator.starts(QEMU, TCG)
    assert not accelerator.starts(QEMU, Accelerator("no-such", ()))
    assert not accelerator.starts(replace(QEMU, path="/nonexistent"), TCG)


async def test_what_a_guest_has_shown_counts_more_than_that_qemu_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Accelerator] = []

    def starts(qemu: QemuBinary, what: Accelerator) -> bool:
        asked.append(what)
        return True

    monkeypatch.setattr(accelerator, "starts", starts)
    for answer, works in ((KvmAnswer(False, "seen"), False), (KvmAnswer(True, "seen"), True), (None, True)):
        monkeypatch.setattr(accelerator, "remembered", lambda qemu, answer=answer: answer)
        assert accelerator.works_so_far(QEMU) is works
    assert asked == [KVM]
