"""A guest that panics, hangs or is killed gives `inconclusive`, is retried once, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from lab.host.machines.qemu.binary import find_qemu
from lab.host.machines.qemu.command import TCG
from lab.host.machines.qemu.machine import ImageMachine, QemuMachine
from lab.host.machines.qemu.provisioner import QemuProvisioner
from tests.vm.conftest import Guests, Ran

HEAD = 'version = 1\nname = "lost"\nsummary = "For a test."\n[load]\nconnections = 200\n'


def state(*argv: str) -> str:
    """A scenario whose only step is this."""
    return HEAD + f"[[state]]\nrun = {list(argv)}\n"


def assert_lost_twice(ran: Ran, words: str) -> None:
    assert ran.result["finding"] == "inconclusive"
    assert words in ran.result["reason"], ran.result["reason"]
    assert [attempt["lost"] is not None for attempt in ran.result["tries"]] == [True, True]
    assert (ran.cell / "console.log").stat().st_size > 0
    assert (ran.cell / "tries" / "1" / "console.log").stat().st_size > 0


def test_a_panic_is_told_with_the_last_console_lines(guests: Guests) -> None:
    ran = guests.run(state("sh", "-c", "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger"))
    assert_lost_twice(ran, "Kernel panic")
    assert "lab-init: root=" in (ran.cell / "console.log").read_text(), "the console is kept from power-on"


def test_a_hung_guest_is_given_up_at_its_deadline(guests: Guests) -> None:
    # the whole machine stops, with interrupts off, in the kernel: nothing in it can notice
    frozen = signalled(guests, signal.SIGSTOP)
    ran = replace(frozen, deadlines=replace(guests.deadlines, state=3.0)).run(state("true"))
    assert_lost_twice(ran, "within 3 s")


def test_a_step_that_never_ends_is_given_up_at_its_deadline(guests: Guests) -> None:
    ran = guests.with_deadlines(state=3.0).run(state("sleep", "1000"))
    assert_lost_twice(ran, "within 3 s")


def test_a_killed_qemu_is_noticed_at_once(guests: Guests) -> None:
    ran = signalled(guests, signal.SIGKILL).run(state("true"))
    assert_lost_twice(ran, "QEMU ended with status -9")


def test_a_guest_lost_once_is_retried_and_both_tries_are_kept(guests: Guests) -> None:
    ran = signalled(guests, signal.SIGKILL, times=1).run(state("true"))
    assert ran.result["finding"] == "untracked", ran.result["reason"]
    assert [attempt["lost"] is not None for attempt in ran.result["tries"]] == [True, False]
    assert (ran.cell / "tries" / "1" / "evidence" / "lost.json").exists()


def test_no_process_is_left(guests: Guests) -> None:
    async def run_and_look() -> tuple[Ran, int]:
        provisioner = Signalling(guests, signal.SIGCONT, times=99)
        ran = await replace(guests, provisioner=provisioner).run_async(guests.jobs(state("true"))[0])
        return ran, provisioner.pids[-1]

    _, pid = asyncio.run(run_and_look())
    assert not os.path.exists(f"/proc/{pid}")


class Signalling(QemuProvisioner):
    """Sends a signal to each of the first `times` QEMUs as soon as its machine is up."""

    def __init__(self, guests: Guests, number: signal.Signals, times: int) -> None:
        super().__init__(find_qemu(), TCG, guests.deadlines)
        self._signal = number
        self._times = times
        self.pids: list[int] = []

    @asynccontextmanager
    async def machine(self, spec: ImageMachine) -> Any:
        async with super().machine(spec) as machine:
            assert isinstance(machine, QemuMachine)
            self.pids.append(machine.process.process.pid)
            if len(self.pids) <= self._times:
                os.kill(self.pids[-1], self._signal)
            yield machine


def signalled(guests: Guests, number: signal.Signals, times: int = 99) -> Guests:
    """Guests whose QEMU gets a signal when it is up."""
    return replace(guests, provisioner=Signalling(guests, number, times))
