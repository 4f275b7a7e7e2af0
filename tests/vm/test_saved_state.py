"""The saved memory that every machine is restored from: shared, never written, and made again when it does not fit."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

from lab.host.machines.qemu.saved_state import SavedState, saved_states
from tests.vm.conftest import Guests

TEXT = 'version = 1\nname = "state"\nsummary = "For a test."\n[load]\nconnections = 200\n'
WRITE = '[[state]]\nfile = { path = "/usr/lib/written", text = "x" }\n'


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_nothing_a_guest_does_reaches_the_image_or_the_saved_state(guests: Guests) -> None:
    guests.run(TEXT)
    state = SavedState(saved_states()[0])
    before = digest(state.memory), digest(guests.target.image.root_disk)
    assert guests.run(TEXT + WRITE).result["finding"] == "untracked"
    assert (digest(state.memory), digest(guests.target.image.root_disk)) == before


def test_machines_start_alike_and_do_not_see_each_other(guests: Guests) -> None:
    async def look(write: bool) -> Any:
        (job,) = guests.jobs(TEXT)
        async with guests.provisioner.machine(guests.target.machine(job.plan.machine)) as machine:
            if write:
                await machine.call(
                    "apply",
                    deadline_seconds=30,
                    steps=[{"kind": "file", "path": "/etc/mark", "text": "here"}],
                )
            seen: list[Any] = []
            steps = [{"kind": "run", "argv": ["ls", "/etc/mark"]}]
            await machine.call("apply", deadline_seconds=30, steps=steps, on_event=seen.append)
            return seen[0]["exit_status"]

    assert asyncio.run(look(write=True)) == 0
    assert asyncio.run(look(write=False)) != 0


def test_a_damaged_state_is_made_again(guests: Guests) -> None:
    guests.run(TEXT)
    state = SavedState(saved_states()[0])
    size = state.devices.stat().st_size
    state.devices.write_bytes(b"\0" * size)
    ran = guests.run(TEXT)
    assert ran.result["finding"] == "untracked", ran.result["reason"]
    assert len(ran.result["tries"]) == 1
    assert state.devices.read_bytes() != b"\0" * size
