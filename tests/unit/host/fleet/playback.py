"""A fleet without guests: the real scheduler, client and worker, whose cells are played back from a recorded run.

As a program it is `lab`, with a `Play` in its environment; `chunks` is what such a worker starts to run chunks.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab.core.plan import CellPlan
from lab.host import images
from lab.host.cli import fleet_cells
from lab.host.cli.main import main as lab_main
from lab.host.fleet import patience, worker
from lab.host.machines.machine import OnEvent, Preparation, Ready
from lab.host.machines.playback import RecordedMachine, ReplayMachine, ReplayProvisioner, recorded_machine
from lab.host.machines.qemu import kind, replaying
from lab.host.machines.qemu.binary import QemuBinary
from lab.host.machines.qemu.preparing import prepare_targets
from lab.host.machines.qemu.saved_state import STATE_VERSION
from lab.host.options import RunOptions
from lab.host.releases import TARGETS
from lab.host.run import commands
from lab.host.run.planned import PlannedRun
from lab.host.run.runner import Job
from tests import recordings

RECORDED = recordings.GOLDEN / "results" / "v1" / "digests"
# what gives the cells that were recorded there
WORDS = ("pristine", "nat-present", "modules-blocked", "--set", "iptables=nft", "--connections", "300")
_VARIABLE = "PLAYBACK"
QEMU = QemuBinary("/usr/bin/qemu-system-x86_64", "QEMU emulator version 10.0.2", (10, 0, 2), "a processor")


def put_image(cache: Path, padding_bytes: int = 0) -> None:
    """An image of Debian 12 in a cache: its files are not what they are called, and their digests are right."""
    target = TARGETS["debian12"]
    folder = cache / "conntrack-lab" / "images" / images.final_folder(target).name
    folder.mkdir(parents=True)
    texts = {name: name.encode() for name in images.FILES.values()}
    texts[images.FILES["programs"]] = b"iptables-nft\nsh\nmodprobe\n"
    texts[images.FILES["packages"]] = b"iptables 1.8.9-2 amd64\n"
    texts[images.FILES["root_disk"]] += bytes(padding_bytes)
    for name, content in texts.items():
        (folder / name).write_bytes(content)
    described = {
        "name": "debian12",
        "digest": images.recipe_digest(target),
        "kernel_release": "6.1.0-50-cloud-amd64",
        "sha256s": {name: hashlib.sha256(content).hexdigest() for name, content in texts.items()},
        "built": "2026-01-01T00:00:00+00:00",
    }
    (folder / "image.json").write_text(json.dumps(described))


@dataclass(frozen=True)
class Play:
    """What is other than with guests."""

    load_seconds: float = 0.0
    hold: str = ""  # a folder: while it has a file with a recorded cell's name, that cell's load goes on
    shows: str = ""  # the recorded cell that is played, whichever is asked for
    patience: Mapping[str, float] = field(default_factory=dict)  # names of lab/host/fleet/patience.py

    def environment(self) -> dict[str, str]:
        """What a program gets of it."""
        return {_VARIABLE: json.dumps(asdict(self))}


class _Slow(ReplayMachine):
    """A machine whose load takes a while."""

    def __init__(self, cell: Path, play: Play) -> None:
        super().__init__(cell)
        self._play, self._hold = play, Path(play.hold) / cell.name

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **arguments: Any
    ) -> Mapping[str, Any]:
        if operation == "load":
            await asyncio.sleep(self._play.load_seconds)
            while self._play.hold and self._hold.exists():  # noqa: ASYNC110 - another process removes it
                await asyncio.sleep(0.05)
        return await super().call(operation, deadline_seconds=deadline_seconds, on_event=on_event, **arguments)


@dataclass
class _SlowProvisioner(ReplayProvisioner):
    play: Play = field(default_factory=Play)

    @contextlib.asynccontextmanager
    async def machine(self, spec: RecordedMachine) -> AsyncIterator[ReplayMachine]:
        yield _Slow(spec.cell, self.play)


def play_back(play: Play) -> None:
    """From now on the lab in this process plays its machines back."""
    provisioner = _SlowProvisioner(play=play)

    @contextlib.asynccontextmanager
    async def prepared(preparation: Preparation) -> AsyncIterator[Ready]:
        yield Ready(provisioner, await prepare_targets(preparation))

    def job(plan: CellPlan, planned: PlannedRun) -> Job:
        name = play.shows or re.sub(r"-r\d+$", "", plan.cell)  # whichever repeat it is
        return Job(plan, recorded_machine(RECORDED / "cells" / name), planned.texts[plan.scenario])

    def jobs(planned: PlannedRun, options: RunOptions, targets: object) -> list[Job]:
        return [job(plan, planned) for plan in planned.plans]

    for module, name, instead in (
        (kind, "prepared", prepared),
        (replaying, "find_qemu", lambda: QEMU),
        (commands, "_jobs", jobs),
    ):
        setattr(module, name, instead)


def main(argv: Sequence[str]) -> int:
    """Be `lab`, or what runs chunks."""
    play = Play(**json.loads(os.environ[_VARIABLE]))
    for name, seconds in play.patience.items():
        assert hasattr(patience, name)
        setattr(patience, name, seconds)
    if argv[0] == "chunks":
        play_back(play)
        return fleet_cells.main()
    made = {"name": "qemu", "qemu_version": QEMU.version, "host_cpu": QEMU.host_cpu, "state_version": STATE_VERSION}
    settings = functools.partial(
        worker.WorkerSettings,
        program=(sys.executable, "-m", "tests.unit.host.fleet.playback", "chunks"),
        machines={"provisioner": made, "kvm": False},
    )
    setattr(worker, "WorkerSettings", settings)  # noqa: B010 - a class for mypy, which is not assigned to
    return lab_main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
