"""A fleet without guests: the real scheduler, client and worker, whose cells are played back from a recorded run.

As a program it is a worker (`worker SCHEDULER KEYS NAME CACHE SECONDS`, where a load takes so many seconds), or what
such a worker starts to run chunks (`chunks SECONDS`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from lab.core.plan import CellPlan
from lab.host import images
from lab.host.cli import fleet_cells
from lab.host.cli.console import say, wait_for
from lab.host.fleet.address import parse_address
from lab.host.fleet.worker import WorkerSettings, serve
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


class _Slow(ReplayMachine):
    """A machine whose load takes a while."""

    def __init__(self, cell: Path, seconds: float) -> None:
        super().__init__(cell)
        self._seconds = seconds

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **arguments: Any
    ) -> Mapping[str, Any]:
        if operation == "load":
            await asyncio.sleep(self._seconds)
        return await super().call(operation, deadline_seconds=deadline_seconds, on_event=on_event, **arguments)


class _SlowProvisioner(ReplayProvisioner):
    seconds: float = 0.0

    @contextlib.asynccontextmanager
    async def machine(self, spec: RecordedMachine) -> AsyncIterator[ReplayMachine]:
        yield _Slow(spec.cell, self.seconds)


def job(plan: CellPlan, planned: PlannedRun) -> Job:
    """A cell whose guest is the recorded one, whichever repeat it is."""
    cell = RECORDED / "cells" / re.sub(r"-r\d+$", "", plan.cell)
    return Job(plan, recorded_machine(cell), planned.texts[plan.scenario])


def play_back(seconds: float) -> None:
    """From now on the lab in this process plays its machines back."""
    provisioner = _SlowProvisioner()
    provisioner.seconds = seconds

    @contextlib.asynccontextmanager
    async def prepared(preparation: Preparation) -> AsyncIterator[Ready]:
        yield Ready(provisioner, await prepare_targets(preparation))

    def jobs(planned: PlannedRun, options: RunOptions, targets: object) -> list[Job]:
        return [job(plan, planned) for plan in planned.plans]

    for module, name, instead in (
        (kind, "prepared", prepared),
        (replaying, "find_qemu", lambda: QEMU),
        (commands, "_jobs", jobs),
    ):
        setattr(module, name, instead)


def worker(scheduler: str, keys: str, name: str, cache: str, seconds: str) -> int:
    """Be a worker of one slot."""
    program = (sys.executable, "-m", "tests.unit.host.fleet.playback", "chunks", seconds)
    made = {"name": "qemu", "qemu_version": QEMU.version, "host_cpu": QEMU.host_cpu, "state_version": STATE_VERSION}
    machines = {"provisioner": made, "kvm": False}
    settings = WorkerSettings(
        parse_address(scheduler), Path(keys), 1, name, Path(cache), program=program, machines=machines
    )
    wait_for(serve(settings, say))
    return 0


def chunks(seconds: str) -> int:
    """Run the cells of chunks."""
    play_back(float(seconds))
    return fleet_cells.main()


if __name__ == "__main__":
    sys.exit(worker(*sys.argv[2:]) if sys.argv[1] == "worker" else chunks(*sys.argv[2:]))
